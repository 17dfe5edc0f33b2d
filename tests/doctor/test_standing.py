"""Where training stands: descending, local optimum, saddle, plateau, stalled, diverging."""

from dataclasses import replace

import numpy as np
import pytest

from chainrule.doctor.examples import DONE, MOVING, STUCK, curve, everywhere, example
from chainrule.doctor.standing import standing_of
from chainrule.record import series
from chainrule.record.facts import NotFinite

SLOPE = series([2.3 - 0.005 * i for i in range(100)])

CASES = {
    "descending": example(loss=SLOPE),
    "local optimum": example(loss=STUCK, standing=replace(DONE, trial_gain=0.0), layers=example().layers[-1:]),
    "plateau": example(loss=STUCK, standing=replace(MOVING, gradient_norm=0.1, gradient_noise=0.1)),
    "stalled": example(loss=STUCK, standing=MOVING),
    "diverging": example(loss=curve(2.3, 900.0)),
    "saddle": example(
        loss=STUCK,
        standing=replace(DONE, gradient_norm=0.5, gradient_noise=0.1, lowest_curvature=-6.0),
        layers=example().layers[-1:],
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
