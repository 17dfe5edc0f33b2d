"""Nests of one form share one text, and each has the params that it would have if it were written by itself."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.backends.native import emit
from chainrule.backends.native.form import form_of
from chainrule.graph import trace
from chainrule.kernel import Buffer, Const, LaneLoop, Load, Nest, Store, op, parts
from chainrule.kernel.scalar import Affine
from chainrule.lowering import lower
from chainrule.rewrite import rewrite
from chainrule.spec import FLOAT32, TensorSpec


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(3, 5, batch_first=True)

    def forward(self, x):
        out, _ = self.cell(x)
        return (out * out).sum()


def deep():
    layers = [layer for _ in range(6) for layer in (nn.Linear(20, 20), nn.Tanh(), nn.LayerNorm(20))]
    net = nn.Sequential(*layers)
    return net, TensorSpec((7, 20)), lambda x: (net(x) ** 2).mean()


def recurrent():
    net = Recurrent()
    return net, TensorSpec((4, 9, 3)), net


@pytest.mark.parametrize("network", (deep, recurrent))
def test_each_nest_of_a_network_has_the_code_that_it_has_by_itself(network, monkeypatch):
    net, spec, loss = network()
    net.initialise(0)

    def gradient(x):
        return cr.grad(loss)(x)

    program = lower(rewrite(trace(gradient, spec, names=("x",)).graph))
    nests = [p for s in program.statements for p in parts(s) if isinstance(p, Nest)]
    monkeypatch.setattr(emit, "_written", {})
    together = [emit.code_of(nest, program.buffers) for nest in nests]
    assert len(emit._written) < len(nests) / 2 or network is recurrent  # whose turns share their statements
    for nest, code in zip(nests, together, strict=True):
        emit._written.clear()
        assert emit.code_of(nest, program.buffers) == code


def elementwise(value, out=1, start=0):
    return Nest((), (), (LaneLoop("i", 40, stores=(Store(out, Affine(start, (("i", 1),)), value),)),))


def load(buffer=0, start=0):
    return Load(FLOAT32, buffer, Affine(start, (("i", 1),)))


BUFFERS = (*[Buffer(100, FLOAT32, "input")] * 3, Buffer(50, FLOAT32, "input"))


def test_what_code_follows_from_makes_another_form():
    first = elementwise(op("add", load(0), load(0, 3)))
    same = [
        elementwise(op("add", load(2), load(2, 3)), out=0),
        elementwise(op("add", load(0, 7), load(0, 10)), start=5),
    ]
    others = [
        elementwise(op("add", load(0), load(0, 4))),  # how far apart
        elementwise(op("add", load(0), load(2, 3))),  # of two buffers
        elementwise(op("add", load(0), load(0))),  # the same twice
        elementwise(op("add", load(3), load(3, 3))),  # of another size
        elementwise(op("add", load(0), load(0, 3)), out=0),  # in place
        elementwise(op("multiply", load(0), load(0, 3))),
        elementwise(op("add", load(0), Const(FLOAT32, np.float32(0.0).item()))),
        elementwise(op("add", load(0), Const(FLOAT32, -0.0))),
    ]
    key = form_of(first, BUFFERS).key
    assert all(form_of(nest, BUFFERS).key == key for nest in same)
    assert len({form_of(nest, BUFFERS).key for nest in (first, *others)}) == 1 + len(others)
