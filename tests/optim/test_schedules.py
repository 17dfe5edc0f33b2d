"""Learning-rate schedules: equal to PyTorch's schedulers count by count, alone and with an optimizer."""

import json
import math

import numpy as np
import pytest

from chainrule import optim
from chainrule.errors import ArgumentError
from peers import peer

BASE, COUNTS = 0.3, 40

PURE = [
    optim.ConstantLR(),
    optim.ConstantLR(factor=0.2, total_iters=7),
    optim.ConstantLR(factor=1.0),
    optim.StepLR(7),
    optim.StepLR(1, gamma=0.9),
    optim.MultiStepLR([1, 5, 30], gamma=0.5),
    optim.ExponentialLR(0.93),
    optim.CosineAnnealingLR(40),
    optim.CosineAnnealingLR(13, eta_min=0.01),
    optim.LinearLR(),
    optim.LinearLR(start_factor=0.01, end_factor=0.5, total_iters=17),
    optim.OneCycleLR(0.5, 40),
    optim.OneCycleLR(0.5, 57, pct_start=0.17, anneal_strategy="linear", div_factor=7, final_div_factor=20),
    optim.OneCycleLR(0.5, 44, three_phase=True),
    optim.OneCycleLR(0.5, 40, pct_start=0.5, three_phase=True, anneal_strategy="linear"),
    optim.OneCycleLR(0.5, 41, pct_start=0.0),
    optim.OneCycleLR(0.5, 41, pct_start=1.0),
    optim.SequentialLR([optim.LinearLR(total_iters=4), optim.CosineAnnealingLR(20)], [4]),
    optim.SequentialLR([optim.ConstantLR(), optim.ExponentialLR(0.9), optim.StepLR(3)], [6, 19]),
]
each_schedule = pytest.mark.parametrize("schedule", PURE, ids=repr)


def twin(torch, schedule, optimizer):
    """PyTorch's scheduler of the same name and arguments."""
    arguments = {k: v for k, v in optim.describe(schedule)["arguments"].items() if k != "every"}
    if isinstance(schedule, optim.SequentialLR):
        members = [twin(torch, member, optimizer) for member in schedule.schedules]
        return torch.optim.lr_scheduler.SequentialLR(optimizer, members, list(schedule.milestones))
    if isinstance(schedule, optim.OneCycleLR):
        arguments["cycle_momentum"] = False
    return getattr(torch.optim.lr_scheduler, type(schedule).__name__)(optimizer, **arguments)


@each_schedule
def test_forty_counts_are_pytorchs_and_so_are_the_weights_of_sgd_that_follows_them(schedule):
    torch = peer("torch")
    random = np.random.default_rng(11)
    ours, state = random.normal(size=5), None
    theirs = torch.tensor(ours.copy(), requires_grad=True)
    stepper = torch.optim.SGD([theirs], lr=BASE, momentum=0.9, dampening=0.1)
    scheduler = twin(torch, schedule, stepper)
    sgd = optim.SGD(BASE, momentum=0.9, dampening=0.1)
    for count in range(COUNTS):
        rate = schedule.rate(BASE, count)
        assert rate == pytest.approx(stepper.param_groups[0]["lr"], rel=1e-10, abs=1e-10), count
        gradient = random.normal(size=5)
        theirs.grad = torch.tensor(gradient)
        stepper.step()
        scheduler.step()
        ours, state = sgd.stepped(ours, gradient, state, count + 1, rate)
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-10, atol=1e-10)


PLATEAUS = [
    optim.ReduceLROnPlateau(),
    optim.ReduceLROnPlateau(patience=0),
    optim.ReduceLROnPlateau(mode="max", patience=2, cooldown=3, factor=0.5),
    optim.ReduceLROnPlateau(patience=1, threshold=0.1, threshold_mode="abs", min_lr=0.01),
    optim.ReduceLROnPlateau(mode="max", patience=1, threshold=0.05, threshold_mode="abs", cooldown=1),
    optim.ReduceLROnPlateau(patience=1, threshold=0.2, factor=0.3, eps=1e-2),
]


@pytest.mark.parametrize("offset", [0.0, 3.0, -3.0])
@pytest.mark.parametrize("schedule", PLATEAUS, ids=repr)
def test_a_plateau_is_seen_when_pytorch_sees_it(schedule, offset):
    torch = peer("torch")
    reductions = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        stepper = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=BASE)
        scheduler, state = twin(torch, schedule, stepper), schedule.initial()
        metrics = offset + np.cumsum(random.normal(-0.02, 0.2, size=60)) * random.choice([0.1, 1.0])
        metrics[random.integers(60, size=4)] = [math.nan, math.inf if schedule.mode == "min" else -math.inf, 0.0, 0.0]
        for count, metric in enumerate(metrics, start=1):
            scheduler.step(float(metric))
            state = schedule.observe(state, float(metric))
            assert schedule.rate(BASE, count, state) == pytest.approx(stepper.param_groups[0]["lr"], rel=1e-10)
            assert (state["bad"], state["cooldown"]) == (scheduler.num_bad_epochs, scheduler.cooldown_counter)
        reductions += state["reductions"]
    assert reductions > 0


def test_the_state_of_a_plateau_is_numbers_that_json_can_hold_from_the_start():
    schedule = optim.ReduceLROnPlateau(patience=0)
    state = schedule.initial()
    for metric in (math.nan, math.inf, 1.0, 2.0):
        state = schedule.observe(json.loads(json.dumps(state, allow_nan=False)), metric)
    assert (state["best"], state["has_best"]) == (1.0, 1)
    assert schedule.rate(1.0, 4, state) == pytest.approx(0.1**3)


def test_observing_leaves_the_state_before_as_it_was():
    schedule = optim.ReduceLROnPlateau()
    state = schedule.initial()
    schedule.observe(state, 1.0)
    assert state == schedule.initial()


@each_schedule
def test_schedules_without_a_state_follow_the_same_protocol(schedule):
    state = schedule.initial()
    assert state == {}
    assert schedule.observe(state, 1.0) == {}
    assert schedule.rate(BASE, 3, state) == schedule.rate(BASE, 3)


def test_only_one_cycle_counts_steps_unless_told_otherwise():
    assert [s.every for s in (optim.StepLR(1), optim.ReduceLROnPlateau(), optim.OneCycleLR(0.1, 5))] == [
        "epoch",
        "epoch",
        "step",
    ]
    assert optim.LinearLR(every="step").every == "step"


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("total", range(1, 30))
def test_one_cycle_stays_between_its_rates_for_every_length_and_start(total, three_phase, strategy):
    for pct_start in (0.0, 0.1, 0.2, 0.25, 0.5):
        schedule = optim.OneCycleLR(
            1.0, total, pct_start, anneal_strategy=strategy, three_phase=three_phase, final_div_factor=100
        )
        rates = [schedule.rate(0.5, count) for count in range(total + 1)]
        assert all(1 / 25 / 100 - 1e-12 <= rate <= 1 + 1e-12 for rate in rates), (pct_start, rates)
        assert rates[total] == pytest.approx(1 / 25 / 100)


def test_more_counts_than_one_cycle_has_are_refused():
    with pytest.raises(ArgumentError, match="total_steps=10 and the rate was asked for after 11"):
        optim.OneCycleLR(0.1, 10).rate(0.1, 11)
