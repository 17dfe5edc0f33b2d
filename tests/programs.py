"""What the rewrites are tried on: traced functions, random programs, gradient graphs of random networks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

import chainrule as cr
from chainrule import nn, ops
from chainrule.graph import Graph, context, evaluate, ones_cotangent, trace, vjp
from chainrule.spec import FLOAT64, INT64, TensorSpec


def traced(function, *arrays):
    """The graph of a function of arrays."""
    return trace(function, *(TensorSpec(a.shape, a.dtype) for a in map(np.asarray, arrays))).graph


def names(graph):
    """Primitives of a graph in order."""
    return [node.primitive.name for node in graph.nodes()]


def assert_same_values(before, after, arrays, rtol=0.0):
    """Same shapes, dtypes and values (NaN in the same places); ``rtol`` is relative to an output's largest entry."""
    for y, a, b in zip(before.outputs, evaluate(before, *arrays), evaluate(after, *arrays), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (b.shape, b.dtype) == (y.shape, y.dtype)
        finite = np.abs(a[np.isfinite(a)]) if a.dtype.kind == "f" else np.abs(a.astype(float))
        np.testing.assert_allclose(b, a, rtol=0, atol=rtol * finite.max(initial=0.0))


UNARY = [ops.exp, ops.tanh, ops.relu, ops.negative, ops.abs, ops.sin, ops.square, lambda x: x**0.5, lambda x: 1 * x]
BINARY = [ops.add, ops.subtract, ops.multiply, ops.maximum, ops.minimum, lambda a, b: a / (1 + b * b)]


def random_program(seed):
    """A graph of ten to thirty core operations on [3, 4], [4] and [3, 1] tensors, and arrays for its inputs."""
    random = np.random.default_rng([7, seed])
    arrays = [random.uniform(-1, 1, s) for s in ((3, 4), (4,), (3, 1))]

    def program(*inputs):
        values = list(inputs)
        for _ in range(int(random.integers(10, 30))):
            a, b = (values[int(random.integers(len(values)))] for _ in range(2))
            values.append(_grown(random, a, b))
        return values[-3:]

    return traced(program, *arrays), arrays


def _grown(random, a, b):
    kind = int(random.integers(9))
    if kind < 3:
        return UNARY[int(random.integers(len(UNARY)))](a)
    if kind < 6:
        return BINARY[int(random.integers(len(BINARY)))](a, b)
    if kind == 6:
        return ops.broadcast_to(ops.mean(a, axis=0, keepdims=True), a.shape) if a.ndim else a + 0.0
    if kind == 7 and a.ndim == 2:
        return ops.permute_dims(ops.permute_dims(a, (1, 0)), (1, 0)) * float(random.choice([1.0, 2.0, 0.5]))
    return ops.where(ops.greater(a, 0), a, 0.0 * b if a.ndim == 0 else a * 0.25)


def random_network_gradients(seed):
    """Loss and gradients of a random network of one to four layers in float64, and arrays for its inputs."""
    random = np.random.default_rng([11, seed])
    widths = [int(n) for n in random.integers(1, 7, int(random.integers(2, 6)))]
    activations = [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU, nn.Mish, nn.LeakyReLU]
    layers = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), activations[int(random.integers(len(activations)))]()]
        if random.integers(4) == 0:
            layers.append(nn.LayerNorm(b))
    net = nn.Sequential(*layers)
    net.initialise(seed)
    net.to("float64")
    rows, classes = int(random.integers(2, 6)), widths[-1]
    x = random.standard_normal((rows, widths[0]))
    labels = random.integers(2) and classes > 1
    y = random.integers(0, classes, rows) if labels else random.standard_normal((rows, classes))
    loss_of = cr.cross_entropy if labels else cr.mse

    def gradients(x, y):
        loss = loss_of(net(x), y)
        wrt = [context.trace.seen(p) for p in net.parameters()]
        return [loss, *(g for g in vjp([loss], [ones_cotangent(loss)], wrt) if g is not None)]

    found = trace(gradients, TensorSpec(x.shape, FLOAT64), TensorSpec(y.shape, INT64 if labels else FLOAT64))
    return found.graph, [x, y, *(p.value("a test") for p in found.captured)]


def size(graph: Graph) -> int:
    """Nodes of a graph and of the bodies in it."""
    bodies = (v for node in graph.nodes() for v in node.parameters.values() if isinstance(v, Graph))
    return len(graph.nodes()) + sum(map(size, bodies))
