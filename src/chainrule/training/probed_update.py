"""The update with what probes add to it: sums over weights, gradients and by how much weights moved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from chainrule.compiler import Part, Parts
from chainrule.graph import Graph, Tensor, no_grad, placeholder, trace
from chainrule.ops import add, subtract
from chainrule.spec import INT64, TensorSpec
from chainrule.training.probes import Probes
from chainrule.training.state import TrainingState


def measured_update(update: Part, state: TrainingState, writes: tuple[TensorSpec, ...], probes: Probes) -> Parts:
    """The same update, with what its probes sum up.

    Where every entry is updated by itself it is made parameter by parameter, so that the sums join the loops that have
    the numbers at hand: half a dozen flat vectors pass through memory as it is, and another would cost a fifth.
    """
    if all(node.primitive.elementwise for node in update.graph.nodes()):
        return (_update_by_parameter(state, writes, probes, update),)
    names = [n for layer in probes.layers for n in layer.weights]
    shapes = {n: p.shape for n, p in zip(state.names, state.parameters, strict=True)}
    specs = [TensorSpec(matrix_shape(shapes[n]), state.dtype) for n in names] * 3
    # Copies of what it was and is: an optimizer that mixes entries has no loop that could be joined.
    flat = placeholder(TensorSpec(state.theta.shape, state.dtype))
    copied = Part(Graph((flat,), (flat,)), ("parameters",), ("before",))

    def sums(*given: Tensor) -> tuple[Tensor, ...]:
        before, after, gradients = (
            dict(zip(names, given[i:], strict=False)) for i in range(0, 3 * len(names), len(names))
        )
        return probes.sums_of_update(before, gradients, {n: subtract(after[n], before[n]) for n in names})

    inputs = [f"{kind} of {n}" for kind in ("before", "parameters", "gradient") for n in names]
    return copied, update, Part(trace(sums, *specs, names=inputs).graph, tuple(inputs), probes.update_tables)


def _update_by_parameter(state: TrainingState, writes: tuple[TensorSpec, ...], probes: Probes, whole: Part) -> Part:
    slots, scalars = tuple(state.moments), state.scalars
    arrays = ("parameters", "gradient", *slots)
    shapes = {n: p.shape for n, p in zip(state.names, state.parameters, strict=True)}
    inputs = [f"{kind} of {n}" for n in state.names for kind in arrays]
    specs = [TensorSpec(matrix_shape(shapes[n]), state.dtype) for n in state.names for _ in arrays]
    specs += [TensorSpec((), state.dtype)] * len(scalars) + [TensorSpec((), INT64), *writes]
    inputs += [*scalars, "updates", *(n for n in whole.inputs if n.startswith("new."))]

    def update(*given: Tensor) -> tuple[Tensor, ...]:
        rest = given[len(arrays) * len(state.names) :]
        numbers = dict(zip(scalars, rest, strict=False))
        made, *values = rest[len(scalars) :]
        outputs, weights, gradients, moved = [], {}, {}, {}
        for i, n in enumerate(state.names):
            theta, gradient, *moments = given[len(arrays) * i :][: len(arrays)]
            after, kept = state.optimizer.update(theta, gradient, dict(zip(slots, moments, strict=True)), numbers)
            weights[n], gradients[n], moved[n] = theta, gradient, subtract(after, theta)
            outputs += [after, *(kept[s] for s in slots)]
        return (*outputs, add(made, 1), *values, *probes.sums_of_update(weights, gradients, moved))

    written = [f"{kind} of {n}" for n in state.names for kind in ("parameters", *slots)]
    targets = whole.outputs[1 + len(slots) :]
    return Part(trace(update, *specs, names=inputs).graph, tuple(inputs), (*written, *targets, *probes.update_tables))


def evaluated_sums(probes: Probes, names: Sequence[str], *kinds: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The same sums by the reference. kinds: weights, gradients and by how much weights moved, each as ``names``."""
    given = [{n: _as_it_is(a.reshape(matrix_shape(a.shape))) for n, a in zip(names, k, strict=False)} for k in kinds]
    with no_grad(), np.errstate(all="ignore"):
        return [x.value("a probe") for x in probes.sums_of_update(*given)]


def _as_it_is(array: np.ndarray) -> Tensor:
    return Tensor(TensorSpec(array.shape, array.dtype), array)


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a parameter as a matrix, [outputs, the rest]: rows long enough for a loop."""
    return shape if len(shape) < 2 else (shape[0], math.prod(shape[1:]))
