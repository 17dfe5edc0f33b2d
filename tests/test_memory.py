"""Arrays that a step reads and writes begin where a cache line does."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.compiler import Part, link
from chainrule.graph import Graph, placeholder, trace
from chainrule.memory import LINE, aligned_zeros
from chainrule.ops import add
from chainrule.spec import TensorSpec


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), 0, 1, 67, (0, 3), (5, 7)])
def test_aligned_zeros_are_zeros_of_that_shape_on_a_line(shape, dtype):
    found = [aligned_zeros(shape, dtype) for _ in range(9)]
    for array in found:
        assert not array.size or array.ctypes.data % LINE == 0
        assert array.flags.c_contiguous and array.flags.writeable
        assert array.dtype == dtype and array.shape == np.zeros(shape).shape and not array.any()
    found[0][...] = 1
    assert not any(array.any() for array in found[1:])


@pytest.mark.parametrize("optimizer", [optim.SGD(0.1, momentum=0.9), optim.Adam(0.1), optim.Adagrad(0.1)], ids=str)
def test_what_a_step_trains_begins_on_a_line(optimizer):
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))

    @cr.step(net, optimizer)
    def step(x, y):
        return cr.cross_entropy(net(x), y)

    step(np.ones((4, 3), np.float32), np.zeros(4, np.int64))
    state = step.inner.state
    arrays = [state.theta, state.gradient, *state.moments.values(), *(p.array for p in net.parameters())]
    assert [a.ctypes.data % LINE for a in arrays] == [0] * len(arrays)
    assert all(np.shares_memory(p.array, state.theta) for p in net.parameters())


def test_what_one_part_leaves_for_another_begins_on_a_line():
    x = placeholder(TensorSpec((5,), np.dtype("float32")))
    twice = trace(lambda v: [add(v, v)], x.spec, names=("x",)).graph
    linked = link((Part(twice, ("x",), ("between",)), Part(Graph((x,), (x,)), ("between",), ("y",))), "native")
    given, taken = np.arange(5, dtype=np.float32), np.zeros(5, np.float32)
    bound = linked.bind({"x": given, "y": taken}, {})
    assert bound.held["between"].ctypes.data % LINE == 0
    assert bound.run(1) == 1 and np.array_equal(taken, 2 * given)
