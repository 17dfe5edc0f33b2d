"""Where training stands: descending, local optimum, saddle, plateau, stalled, diverging."""

from dataclasses import replace

import numpy as np
import pytest

from chainrule.doctor.examples import DATA, DONE, MOVING, STUCK, curve, everywhere, example
from chainrule.doctor.standing import standing_of
from chainrule.record import series
from chainrule.record.facts import NotFinite

MANY = replace(DATA, rows=100_000)
"""More rows than the example's network can learn by heart."""

SLOPE = series([2.3 - 0.005 * i for i in range(100)])

CASES = {
    "descending": example(loss=SLOPE),
    "local optimum": example(loss=STUCK, standing=replace(DONE, trial_gain=0.0), data=MANY),
    "plateau": example(loss=STUCK, standing=replace(MOVING, gradient_norm=0.1, gradient_noise=0.1)),
    "stalled": example(loss=STUCK, standing=MOVING),
    "diverging": example(loss=curve(2.3, 900.0)),
    "saddle": example(
        loss=STUCK,
        standing=replace(DONE, gradient_norm=0.5, gradient_noise=0.1, lowest_curvature=-6.0),
        data=MANY,
    ),
    "not started": example(loss=series([])),
    "too short": example(loss=series([2.3, 2.2, 2.1])),
}


@pytest.mark.parametrize("name", CASES)
def test_the_standing_of_each_kind_of_run(name):
    assert standing_of(CASES[name]).name == name


def test_only_a_run_with_nothing_left_to_gain_is_finished():
    assert {name for name, record in CASES.items() if standing_of(record).finished} == {"local optimum"}


def test_a_fitted_run_is_finished_whatever_its_gradient():
    found = standing_of(example(loss=curve(2.3, 0.001), standing=MOVING))
    assert found.name == "local optimum" and found.finished


def test_a_flat_loss_behind_a_broken_chain_is_not_finished():
    found = standing_of(example(loss=STUCK, standing=DONE, measured={"0": {"error": (1e-9, 1e-9)}}))
    assert found.name == "plateau" and found.blocked and not found.finished


def test_a_value_that_is_not_finite_is_divergence_unless_updates_were_skipped():
    bad = NotFinite(step=3, operation="exp")
    assert standing_of(example(not_finite=bad)).name == "diverging"
    assert standing_of(example(not_finite=replace(bad, skipped=2))).name != "diverging"


def test_noise_in_the_losses_is_no_descent():
    noisy = series(2.3 + 0.05 * np.random.default_rng(0).normal(size=400))
    assert standing_of(example(loss=noisy, measured=everywhere())).name != "descending"


def test_who_learns_nothing_with_parameters_for_half_of_the_rows_is_idle_and_not_finished():
    """A parameter holds two rows by heart (Cover 1965)."""
    parameters = sum(x.parameters for x in example().layers)
    for rows, idle in ((2 * parameters - 1, True), (2 * parameters + 1, False)):
        found = standing_of(example(loss=STUCK, standing=DONE, data=replace(DATA, rows=rows)))
        assert (found.idle, found.finished) == (idle, not idle)


def test_a_loss_that_falls_is_not_idle_however_little_it_has_learned_so_far():
    late = series([2.302] * 700 + [2.302 - 8e-4 * i for i in range(200)])
    found = standing_of(example(loss=late, standing=replace(DONE, trial_gain=0.05, same_trial_gain=0.05)))
    assert found.progress < 0.1 and found.name == "descending" and not found.idle


def test_the_fewer_steps_a_trial_makes_the_less_of_its_gain_is_learned_by_heart():
    gained = replace(DONE, trial_gain=0.08, same_trial_gain=0.08)
    finished = {
        steps: standing_of(example(loss=curve(2.3, 1.5), standing=replace(gained, trial_steps=steps))).finished
        for steps in (20, 100)
    }
    assert finished == {20: False, 100: True}


def test_a_low_loss_is_no_optimum_while_other_steps_take_most_of_it_away():
    almost = replace(DONE, loss=0.1)
    for best, name in ((0.04, "stalled"), (0.02, "local optimum")):
        found = standing_of(example(loss=curve(2.3, 0.1), standing=replace(almost, trial_gain=best, same_trial_gain=0)))
        assert found.name == name, found.sentence


def test_what_rises_within_few_updates_diverges_only_if_it_is_unmistakable():
    for last, name in ((4.0, "too short"), (40.0, "diverging")):
        assert standing_of(example(loss=series([2.3, 2.2, 2.4, 2.6, last]))).name == name
