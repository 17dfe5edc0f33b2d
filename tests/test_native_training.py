"""Training by machine code against training by the reference, and the same bits whatever the threads and the calls."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.compiler import Part, link
from chainrule.lowering import live_bytes, lower
from chainrule.rewrite import rewrite
from chainrule.spec import TensorSpec
from chainrule.training.options import StepOptions
from chainrule.training.state import TrainingState
from chainrule.training.step_graphs import build_gradients

ACTIVATIONS = list(nn.ACTIVATIONS.values())


def random_network(seed):
    """A network of float64 with one to four layers, its loss, and a batch."""
    random = np.random.default_rng(seed)
    widths = [int(w) for w in random.integers(1, 20, random.integers(2, 6))]
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), ACTIVATIONS[int(random.integers(len(ACTIVATIONS)))]()]
        if random.integers(4) == 0:
            layers.append(nn.LayerNorm(b) if random.integers(2) else nn.BatchNorm1d(b))
    rows = int(random.integers(2, 30))
    x = random.standard_normal((rows, widths[0]))
    if random.integers(2):
        return nn.Sequential(*layers), cr.mse, x, random.standard_normal((rows, widths[-1]))
    return nn.Sequential(*layers), cr.cross_entropy, x, random.integers(0, widths[-1], rows)


@pytest.mark.parametrize("first", range(0, 200, 25))
def test_gradients_of_random_networks_agree_with_the_reference(first):
    for seed in range(first, first + 25):
        net, loss, x, y = random_network(seed)
        net.to("float64").initialise(seed)
        state = TrainingState(net, optim.SGD(0.1))
        specs = (TensorSpec(x.shape, x.dtype), TensorSpec(y.shape, y.dtype))
        # The function is traced at once, so what it reads of the loop (B023) is this turn's.
        traced, _ = build_gradients(lambda a, b: loss(net(a), b), state, specs, StepOptions(), "whole")  # noqa: B023
        inputs = [x, y, np.zeros(4, np.uint32), *(c.numpy() for c in traced.captured)]
        names = [f"in{i}" for i in range(len(inputs))]
        outputs = [f"out{i}" for i in range(len(traced.graph.outputs))]
        results = {}
        for backend in ("native", "reference"):
            memory = {n: a.copy() for n, a in zip(names, inputs, strict=True)}
            memory |= {n: np.zeros(s.shape, s.dtype) for n, s in zip(outputs, traced.graph.outputs, strict=True)}
            part = Part(traced.graph, tuple(names), tuple(outputs))
            assert link((part,), backend).bind(memory, {}).run(1) == 1
            results[backend] = [memory[n] for n in outputs]
        for found, wanted in zip(results["native"], results["reference"], strict=True):
            size = max(float(np.abs(wanted).max(initial=0)), 1e-9)
            assert np.abs(found - wanted).max(initial=0) <= 1e-12 * max(size, 1.0), seed


def trained(rows=200, epochs=2, calls="epoch", threads=2):
    cr.set_threads(threads)
    net = nn.Sequential(
        nn.Linear(40, 300), nn.ReLU(), nn.Dropout(0.1), nn.Linear(300, 200), nn.Tanh(), nn.Linear(200, 5)
    )
    net.initialise(3)
    random = np.random.default_rng(0)
    x, y = random.standard_normal((rows, 40), dtype=np.float32), random.integers(0, 5, rows)

    @cr.step(net, optim.Adam(1e-3), seed=3)
    def step(x, y):
        return cr.cross_entropy(net(x), y)

    if calls == "fit":  # draws its first weights from the seed, as initialise(3) does
        cr.fit(net, (x, y), loss="cross_entropy", optimizer=optim.Adam(1e-3), batch_size=50, epochs=epochs, seed=3,
               shuffle=False, progress=False)  # fmt: skip
        epochs = 0
    for _ in range(epochs):
        if calls == "epoch":
            step.epoch(x, y, batch_size=50, shuffle=False)
        else:
            for first in range(0, rows, 50):
                step(x[first : first + 50], y[first : first + 50])
    return b"".join(a.tobytes() for a in net.state_dict().values())


@pytest.fixture
def threads():
    before = cr.threads()
    yield
    cr.set_threads(before)


def test_the_bits_are_the_same_for_any_number_of_threads(threads):
    alone = trained(threads=1)
    for count in (2, 3, 4):
        for _ in range(3):
            assert trained(threads=count) == alone


@pytest.mark.long
@pytest.mark.parametrize("busy", (False, True), ids=("alone", "beside a busy process"))
def test_the_bits_are_the_same_for_any_number_of_threads_fifty_times(threads, busy):
    alone = trained(threads=1)
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        for count in (1, 2, 3, 4):
            for repeat in range(50):
                assert trained(threads=count, calls=("epoch", "steps", "fit")[repeat % 3]) == alone, (count, repeat)
    finally:
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()


@pytest.mark.parametrize("count", (1, 2, 3))
def test_the_bits_are_the_same_through_fit(threads, count):
    assert trained(threads=count, calls="fit") == trained(threads=2)


def test_the_bits_are_the_same_one_step_at_a_time_and_many_in_a_call(threads):
    assert trained(calls="steps") == trained(calls="epoch")


@pytest.mark.parametrize(
    "sizes, rows", [((64, 128, 64, 10), 64), ((784, 256, 128, 10), 128), ((64, *[64] * 12, 10), 64)]
)
def test_scratch_is_little_more_than_what_lives_at_once(sizes, rows):
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    net = nn.Sequential(*layers[:-1])
    state = TrainingState(net, optim.SGD(0.1))
    specs = (TensorSpec((rows, sizes[0])), TensorSpec((rows,), np.dtype("int64")))
    traced, _ = build_gradients(lambda x, y: cr.cross_entropy(net(x), y), state, specs, StepOptions(), "whole")

    program = lower(rewrite(traced.graph))

    assert live_bytes(program) <= program.arena <= 1.2 * live_bytes(program)
