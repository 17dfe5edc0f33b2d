"""@cr.step: forward, backward, clip and update of a function that returns the loss."""

import logging

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.backends.native import build
from chainrule.backends.native.runtime_code import runtime_module
from chainrule.data.batches import batch_slices, permutation
from chainrule.errors import ArgumentError, DataError, DTypeError, GraphError, NonFiniteError, ShapeError

GENERATOR = np.random.default_rng(3)
X = GENERATOR.normal(size=(23, 4))
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).to("float64")


def stepped(made: nn.Module, optimizer: optim.Optimizer, **options):
    @cr.step(made, optimizer, **options)
    def step(x, y):
        return cr.cross_entropy(made(x), y)

    return step


@pytest.mark.parametrize("optimizer", [optim.SGD(0.1), optim.SGD(0.1, momentum=0.9), optim.Adam(0.01)], ids=str)
def test_steps_are_those_of_a_loop_written_by_hand(optimizer):
    made, hand = net(), net()
    step = stepped(made, optimizer)
    state = None
    for number in range(1, 6):
        loss, gradients = cr.gradients(hand, "cross_entropy", X, Y)
        assert step(X, Y) == pytest.approx(loss, rel=1e-13)
        names = list(gradients)
        flat = [np.concatenate([a[n].ravel() for n in names]) for a in (hand.state_dict(), gradients)]
        moved, state = optimizer.stepped(*flat, state, number)
        parts = np.split(moved, np.cumsum([gradients[n].size for n in names])[:-1])
        hand.load_state_dict({n: p.reshape(gradients[n].shape) for n, p in zip(names, parts, strict=True)})
        for name, array in hand.state_dict().items():
            np.testing.assert_allclose(made.state_dict()[name], array, rtol=1e-12, atol=1e-14)


def test_an_epoch_is_its_batches_in_the_order_of_seed_and_number():
    made, hand = net(), net()
    step, single = stepped(made, optim.Adam(0.01), seed=5), stepped(hand, optim.Adam(0.01), seed=5)
    for epoch in range(3):
        order = permutation(23, 5, epoch)
        losses = [(single(X[order[rows]], Y[order[rows]]), len(order[rows])) for rows in batch_slices(23, 6)]
        mean = sum(loss * rows for loss, rows in losses) / 23  # the last batch has 5 rows, and counts for 5
        assert step.epoch(X, Y, batch_size=6) == pytest.approx(mean, rel=1e-14)
    for name, array in hand.state_dict().items():
        assert made.state_dict()[name].tobytes() == array.tobytes()


def test_an_epoch_is_what_fit_does():
    made, fitted = net(), net()
    step = stepped(made, optim.Adam(0.01), seed=5, clip_norm=0.5, l2=1e-3)
    losses = [step.epoch(X, Y, batch_size=6) for _ in range(3)]
    options = {"optimizer": optim.Adam(0.01), "batch_size": 6, "epochs": 3, "clip_norm": 0.5, "l2": 1e-3}
    made_by_fit = cr.fit(fitted.initialise(0), (X, Y), loss="cross_entropy", seed=0, **options)
    assert len(losses) == made_by_fit.epoch
    again = net()
    again.load_state_dict(net().initialise(0).state_dict())
    run = cr.fit(again, (X, Y), loss="cross_entropy", seed=5, **options)
    np.testing.assert_allclose(losses, run.history["loss"], rtol=1e-14)
    for name, array in made.state_dict().items():
        assert again.state_dict()[name].tobytes() == array.tobytes()


def test_a_step_follows_the_mode_of_its_network():
    made = nn.Sequential(nn.Linear(4, 3), nn.Dropout(1.0))
    step = stepped(made, optim.SGD(1e-30))
    assert step(X, Y) == pytest.approx(np.log(3))  # all outputs are dropped
    made.eval()
    assert step(X, Y) == pytest.approx(cr.gradients(made, "cross_entropy", X, Y)[0])


def test_weights_that_are_loaded_between_steps_are_used():
    made = net()
    step = stepped(made, optim.SGD(0.1))
    before = made.state_dict()
    first = step(X, Y)
    assert step(X, Y) < first
    made.load_state_dict(before)
    assert step(X, Y) == first


def test_the_graph_shows_forward_and_backward_pass():
    made = net()
    step = stepped(made, optim.SGD(0.1))
    with pytest.raises(GraphError, match="not been called yet"):
        _ = step.graph
    step(X, Y)
    assert "softmax_cross_entropy" in str(step.graph)
    assert "test_step.py" in str(step.graph)


def test_a_network_that_changed_its_kind_asks_for_a_new_step():
    made = net()
    step = stepped(made, optim.SGD(0.1))
    step(X, Y)
    made[0].requires_grad_(False)
    with pytest.raises(ArgumentError, match=r"0.weight was frozen after the step was made: make the step anew"):
        step(X, Y)
    made[0].requires_grad_(True)
    made.to("float32")
    with pytest.raises(ArgumentError, match="became float32 after"):
        step(X, Y)


@pytest.mark.parametrize(
    "call, kind, words",
    [
        (lambda m, s: cr.step(m, optim.Adam), ArgumentError, "got Sequential and the class Adam"),
        (lambda m, s: cr.step(optim.Adam(), m), ArgumentError, "step takes a network and an optimizer"),
        (lambda m, s: cr.step(m, optim.Adam(), clipnorm=1), ArgumentError, "did you mean 'clip_norm'"),
        (lambda m, s: cr.step(m, optim.Adam())(lambda x: m(x))(X), ShapeError, "loss must be a scalar"),
        (lambda m, s: cr.step(m, optim.Adam())(lambda x: 1.0)(X), DTypeError, "must return the loss as a Tensor"),
        (lambda m, s: s(X, Y + 3), DataError, "outside the 3 classes"),
        (lambda m, s: s(X, Y[:-1]), ShapeError, "22|23"),
        (lambda m, s: s.epoch(X, Y[:-1]), ShapeError, "equally many rows"),
        (lambda m, s: s.epoch(X[:0], Y[:0]), ShapeError, "equally many rows"),
        (lambda m, s: s.epoch(X, Y, batch_size=0), ArgumentError, "batch_size"),
        (lambda m, s: s(X * np.nan, Y), NonFiniteError, "x holds NaN"),
    ],
)
def test_misuse_is_named_and_leaves_the_step_usable(call, kind, words):
    made = net()
    step = stepped(made, optim.SGD(0.1))
    first = step(X, Y)
    before = made.state_dict()
    with pytest.raises(kind, match=words):
        call(made, step)
    assert all(made.state_dict()[n].tobytes() == a.tobytes() for n, a in before.items())
    assert step(X, Y) < first


def test_a_retrace_says_why_in_one_line(caplog):
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 2))
    net.initialise(0)

    @cr.step(net, optim.SGD(0.1))
    def step(x, y):
        return cr.cross_entropy(net(x), y)

    with caplog.at_level(logging.INFO, logger="chainrule.compile"):
        for rows in (8, 8, 5):
            step(np.ones((rows, 4), np.float32), np.zeros(rows, int))
        net.eval()
        step(np.ones((5, 4), np.float32), np.zeros(5, int))
    first, second = caplog.messages
    assert first.startswith("step traced again at test_step.py:")
    assert first.endswith(": the batch was (float32[8, 4], int64[8]), now (float32[5, 4], int64[5])")
    assert second.endswith(": modes of the network changed")


def test_weights_are_touched_where_their_gradients_are_made():
    """Each of them whole, in the step that ends an update; nothing else is."""
    made = nn.Sequential(nn.Linear(4, 70), nn.Tanh(), nn.Linear(70, 130), nn.Tanh(), nn.Linear(130, 3)).to("float64")
    step = stepped(made, optim.Adam(0.01))
    x, y = GENERATOR.normal(size=(2000, 4)), GENERATOR.integers(0, 3, 2000)
    step(x, y)
    (running,) = step.inner.running.values()
    touch = build.load([runtime_module()])["chainrule_touch"]
    table, slots = running.bound.linked.table, running.bound.slots
    touched: dict[int, list[tuple[int, int]]] = {}
    for function, params, g0, g1, v0, v1 in table.tasks.tolist():
        if function != touch:
            continue
        slot, start, row, size = table.params[(params - table.params.ctypes.data) // 8 :][:4].tolist()
        assert (start, size, v0, v1) == (0, 8, 0, row // 8)
        touched.setdefault(int(slots[slot]), []).append((g0, g1))
    weights = [p.array for n, p in made.named_parameters() if n.endswith("weight")]
    assert sorted(touched) == sorted(w.ctypes.data for w in weights)
    for w in weights:
        rows = sorted(touched[w.ctypes.data])
        assert [a for a, _ in rows] == [0, *(b for _, b in rows[:-1])] and rows[-1][1] == len(w)
