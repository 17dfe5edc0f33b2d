"""Updates: equal to PyTorch's step by step, and right by what is known of them without PyTorch."""

from itertools import pairwise

import numpy as np
import pytest

from chainrule import optim
from chainrule.graph import evaluate, trace
from chainrule.spec import TensorSpec
from peers import peer

OPTION_SETS = [
    optim.SGD(0.1),
    optim.SGD(0.1, momentum=0.9),
    optim.SGD(0.1, momentum=0.9, dampening=0.3, weight_decay=0.01),
    optim.SGD(0.1, 0.9, 0, 0.02, True),
    optim.SGD(0.1, weight_decay=0.1, maximize=True),
    optim.SGD(0.1, momentum=0.5, maximize=True),
    optim.SGD(0.1, momentum=0.5, dampening=1.0),
    optim.Adagrad(0.1),
    optim.Adagrad(0.1, lr_decay=0.1, weight_decay=0.02),
    optim.Adagrad(0.1, initial_accumulator_value=0.5, eps=1e-3),
    optim.RMSprop(0.1),
    optim.RMSprop(0.1, alpha=0.8, eps=1e-3, weight_decay=0.02),
    optim.RMSprop(0.1, momentum=0.9),
    optim.RMSprop(0.1, centered=True),
    optim.RMSprop(0.1, alpha=0.9, momentum=0.5, centered=True, weight_decay=0.1),
    optim.Adam(0.1),
    optim.Adam(0.1, betas=(0.5, 0.8), eps=1e-3, weight_decay=0.02),
    optim.Adam(0.1, betas=(0.0, 0.0)),
    optim.Adam(0.1, amsgrad=True, weight_decay=0.1),
    optim.AdamW(0.1),
    optim.AdamW(0.1, betas=(0.3, 0.6), eps=1e-2, weight_decay=0.5),
    optim.AdamW(0.1, weight_decay=0.0, amsgrad=True),
]
DEFAULTS = [cls() for cls in optim.OPTIMIZERS.values()]
each_option_set = pytest.mark.parametrize("optimizer", OPTION_SETS, ids=repr)
each_optimizer = pytest.mark.parametrize("optimizer", DEFAULTS, ids=lambda o: type(o).__name__)


def twin(torch, optimizer, parameter):
    """PyTorch's optimizer of the same name and arguments."""
    return getattr(torch.optim, type(optimizer).__name__)([parameter], **optim.describe(optimizer)["arguments"])


@each_option_set
def test_twenty_steps_and_their_state_are_those_of_pytorch(optimizer):
    torch = peer("torch")
    random = np.random.default_rng(7)
    ours, state = random.normal(size=13), None
    theirs = torch.tensor(ours.copy(), requires_grad=True)
    stepper = twin(torch, optimizer, theirs)
    for step in range(1, 21):
        # Scales from 1e-3 to 1e3, so that every term of a formula decides somewhere.
        gradient = random.normal(size=13) * 10.0 ** random.uniform(-3, 3, size=13)
        ours, state = optimizer.stepped(ours, gradient, state, step)
        theirs.grad = torch.tensor(gradient)
        stepper.step()
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-10, atol=1e-10)
        kept = {k: v for k, v in stepper.state[theirs].items() if k != "step" and v is not None}
        assert state.keys() == kept.keys() == set(optimizer.slots)
        for slot, array in kept.items():
            np.testing.assert_allclose(state[slot], array.numpy(), rtol=1e-10, atol=1e-10, err_msg=slot)


def traced_update(optimizer, spec):
    """The update as a graph of (parameter, gradient, slots, scalars)."""
    slots, scalars = optimizer.slots, tuple(optimizer.scalars(1, 0.1))

    def update(parameter, gradient, *rest):
        state = dict(zip(slots, rest[: len(slots)], strict=True))
        moved, after = optimizer.update(parameter, gradient, state, dict(zip(scalars, rest[len(slots) :], strict=True)))
        return (moved, *(after[slot] for slot in slots))

    specs = [spec] * (2 + len(slots)) + [TensorSpec((), spec.dtype)] * len(scalars)
    return trace(update, *specs).graph


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_option_set
def test_one_traced_update_gives_the_bits_of_the_eager_one_at_every_step(optimizer, dtype):
    random = np.random.default_rng(3)
    parameter = random.normal(size=11).astype(dtype)
    graph = traced_update(optimizer, TensorSpec((11,), np.dtype(dtype)))
    state = optimizer.initial(parameter)
    for step in range(1, 6):
        gradient = random.normal(size=11).astype(dtype)
        scalars = [np.asarray(x, dtype) for x in optimizer.scalars(step, optimizer.lr).values()]
        moved, *after = evaluate(graph, parameter, gradient, *(state[slot] for slot in optimizer.slots), *scalars)
        eager, eager_state = optimizer.stepped(parameter, gradient, state, step)
        assert moved.dtype == eager.dtype == dtype
        np.testing.assert_array_equal(moved, eager)
        for slot, array in zip(optimizer.slots, after, strict=True):
            assert array.dtype == eager_state[slot].dtype == dtype
            np.testing.assert_array_equal(array, eager_state[slot])
        parameter, state = eager, eager_state


@each_option_set
def test_the_names_of_the_scalars_do_not_depend_on_the_step(optimizer):
    first = optimizer.scalars(1, 0.1)
    for step in (2, 3, 1000, 10**7):
        scalars = optimizer.scalars(step, 0.3)
        assert tuple(scalars) == tuple(first)
        assert np.isfinite(list(scalars.values())).all()


@each_option_set
def test_the_first_state_has_an_array_like_the_parameter_for_each_slot(optimizer):
    parameter = np.linspace(-1, 1, 5, dtype=np.float32)
    state = optimizer.initial(parameter)
    assert tuple(state) == optimizer.slots
    start = getattr(optimizer, "initial_accumulator_value", 0.0)
    for array in state.values():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, np.full(5, start, np.float32))


def test_slots_are_pytorchs_names_and_only_those_that_the_options_need():
    assert optim.SGD().slots == ()
    assert optim.SGD(momentum=0.9).slots == ("momentum_buffer",)
    assert optim.RMSprop(centered=True, momentum=0.1).slots == ("square_avg", "momentum_buffer", "grad_avg")
    assert optim.Adam(amsgrad=True).slots == ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    assert optim.Adagrad().slots == ("sum",)


@pytest.mark.parametrize("optimizer", [o for o in OPTION_SETS if not getattr(o, "maximize", False)], ids=repr)
def test_a_quadratic_bowl_goes_down(optimizer):
    curvature = np.array([1.0, 0.3])
    parameter, state, losses = np.array([2.0, -3.0]), None, []
    for step in range(1, 61):
        losses.append(float(np.sum(curvature * parameter**2) / 2))
        parameter, state = optimizer.stepped(parameter, curvature * parameter, state, step)
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


def test_maximize_climbs():
    up, _ = optim.SGD(0.5, maximize=True).stepped(np.array([1.0]), np.array([2.0]))
    assert up == [2.0]


@each_optimizer
def test_a_gradient_of_zero_leaves_parameters_where_they_are(optimizer):
    parameter = np.array([1.5, -0.25, 0.0])
    if isinstance(optimizer, optim.AdamW):
        optimizer = optim.AdamW(weight_decay=0)
    moved, _ = optimizer.stepped(parameter, np.zeros(3))
    np.testing.assert_array_equal(moved, parameter)


def test_decay_shrinks_parameters_without_a_gradient():
    parameter = np.array([1.0, -2.0])
    moved, _ = optim.AdamW(lr=0.1, weight_decay=0.5).stepped(parameter, np.zeros(2))
    np.testing.assert_allclose(moved, 0.95 * parameter, rtol=1e-15)
    moved, _ = optim.SGD(lr=0.1, weight_decay=0.5).stepped(parameter, np.zeros(2))
    np.testing.assert_allclose(moved, 0.95 * parameter, rtol=1e-15)


def test_a_small_decay_keeps_its_size_in_float32():
    # 1 - 1e-5 in float32 is 1 - 1.0014e-5; over 1000 steps the weight would lose 0.14 % too much of what it loses.
    lr, decay = 1e-3, 1e-2
    parameter = np.linspace(1, 2, 1000, dtype=np.float32)
    optimizer, moved, state = optim.AdamW(lr, weight_decay=decay), parameter, None
    for step in range(1, 101):
        moved, state = optimizer.stepped(moved, np.zeros_like(parameter), state, step)
    lost = np.mean(1 - moved.astype(np.float64) / parameter)
    assert lost == pytest.approx(1 - (1 - lr * decay) ** 100, rel=1e-4)


def test_centered_rmsprop_survives_a_gradient_that_never_changes():
    optimizer = optim.RMSprop(lr=1e-6, alpha=0.5, centered=True)
    parameter, gradient, state = np.ones(50, np.float32), np.linspace(0.1, 9.7, 50, dtype=np.float32), None
    for step in range(1, 81):
        parameter, state = optimizer.stepped(parameter, gradient, state, step)
    assert (state["square_avg"] < state["grad_avg"] ** 2).any(), "no rounding below 0 here: this shows nothing"
    assert np.isfinite(parameter).all()


@each_optimizer
def test_an_update_changes_none_of_its_arguments(optimizer):
    parameter, gradient = np.ones(3), np.full(3, 0.5)
    state = optimizer.initial(parameter)
    optimizer.stepped(parameter, gradient, state)
    assert (parameter == 1).all() and (gradient == 0.5).all()
    for slot, array in optimizer.initial(parameter).items():
        np.testing.assert_array_equal(state[slot], array)


def test_dampening_spares_the_first_velocity():
    takes = [optim.SGD(momentum=0.9, dampening=0.25).scalars(step, 0.1)["take"] for step in (1, 2, 3)]
    assert takes == [1.0, 0.75, 0.75]


def test_lr_decay_of_adagrad_lowers_the_rate_step_by_step():
    rates = [optim.Adagrad(lr_decay=1.0).scalars(step, 0.6)["lr"] for step in (1, 2, 3)]
    assert rates == pytest.approx([0.6, 0.3, 0.2])
    assert all(a > b for a, b in pairwise(rates))
