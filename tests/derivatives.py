"""Derivatives by numbers, for tests: nothing here uses a pullback to find what a derivative should be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from chainrule.graph import NUMPY, PRIMITIVES, Draw, Graph, Primitive, Tensor, apply, evaluator, placeholder, vjp
from chainrule.spec import TensorSpec

STEP = 1e-3
"""Of the variable's scale. Two central differences, extrapolated (Richardson): an error of its fourth power."""


def numeric_jacobian(
    f: Callable[..., np.ndarray], arrays: Sequence[np.ndarray], which: int, scale: float
) -> np.ndarray:
    """d f / d arrays[which] as [f.size, arrays[which].size]."""
    x = np.array(arrays[which], order="C")
    h = STEP * min(scale, 1.0)

    def at(i: int, step: float) -> np.ndarray:
        moved = x.copy()
        moved.reshape(-1)[i] += step
        return f(*arrays[:which], moved, *arrays[which + 1 :]).reshape(-1)

    columns = []
    for i in range(x.size):
        wide = (at(i, h) - at(i, -h)) / (2 * h)
        near = (at(i, h / 2) - at(i, -h / 2)) / h
        columns.append((4 * near - wide) / 3)
    rows = f(*arrays).size
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0))


class Applied:
    """A primitive at one drawn point: its float outputs as one vector, and the graph of its pullback."""

    def __init__(self, primitive: Primitive, seed: int) -> None:
        point = Draw(seed)
        self.scale = point.scale
        self.primitive = primitive
        arrays, self.parameters = primitive.draw(point)  # type: ignore[misc]
        self.arrays = [np.asarray(a) for a in arrays]
        self.floating = [i for i, a in enumerate(self.arrays) if a.dtype.kind == "f"]

    def reference(self, *arrays: np.ndarray) -> np.ndarray:
        """All floating outputs, flattened one after another, by the NumPy reading."""
        with np.errstate(all="ignore"):
            result = self.primitive.evaluate(NUMPY, *arrays, **self.parameters)
        results = result if self.primitive.several else (result,)
        flat = [np.asarray(r).reshape(-1) for r in results if np.asarray(r).dtype.kind == "f"]
        return np.concatenate(flat) if flat else np.zeros(0)

    def of(self, k: int) -> Callable[..., np.ndarray]:
        """The reference as a function of floating inputs only."""
        return lambda *floats: self.reference(*self.filled(floats))

    def filled(self, floats: Sequence[np.ndarray]) -> list[np.ndarray]:
        arrays = list(self.arrays)
        for i, a in zip(self.floating, floats, strict=True):
            arrays[i] = a
        return arrays

    def backward_graph(self) -> tuple[Graph, list[Tensor]]:
        """(inputs, cotangents) -> a cotangent of each floating input; and the forward outputs."""
        inputs = [placeholder(TensorSpec(a.shape, a.dtype)) for a in self.arrays]
        result = apply(self.primitive, tuple(inputs), self.parameters)
        outputs = [y for y in (result if self.primitive.several else (result,)) if y.spec.floating]
        cotangents = [placeholder(y.spec) for y in outputs]
        wrt = [inputs[i] for i in self.floating]
        found = vjp(outputs, cotangents, wrt)
        pulled = [x if g is None else g for x, g in zip(wrt, found, strict=True)]
        self.unreached = [i for i, g in enumerate(found) if g is None]
        return Graph((*inputs, *cotangents), tuple(pulled)), outputs

    def pullback(self) -> Callable[[np.ndarray, Sequence[np.ndarray]], list[np.ndarray]]:
        """(flat cotangent of all outputs, floating inputs) -> cotangents of the floating inputs, by the rule."""
        graph, outputs = self.backward_graph()
        run = evaluator(graph)
        sizes = np.cumsum([y.size for y in outputs])[:-1]

        def pull(cotangent: np.ndarray, floats: Sequence[np.ndarray]) -> list[np.ndarray]:
            parts = [p.reshape(y.shape) for p, y in zip(np.split(cotangent, sizes), outputs, strict=True)]
            pulled = run(*self.filled(floats), *parts)
            return [np.zeros_like(f) if i in self.unreached else g
                    for i, (g, f) in enumerate(zip(pulled, floats, strict=True))]  # fmt: skip

        return pull

    @property
    def floats(self) -> list[np.ndarray]:
        return [self.arrays[i] for i in self.floating]


def rule_jacobians(applied: Applied) -> list[np.ndarray]:
    """The Jacobian by each floating input that the pullback gives, row by row."""
    pull, rows = applied.pullback(), applied.reference(*applied.arrays).size
    found = [pull(np.eye(rows)[r], applied.floats) for r in range(rows)]
    return [np.stack([f[i].reshape(-1) for f in found]) if rows else np.zeros((0, x.size))
            for i, x in enumerate(applied.floats)]  # fmt: skip


def close(rule: np.ndarray, numeric: np.ndarray, size: float) -> bool:
    """atol 1e-8, rtol 1e-6; ``size`` is that of the function's values, whose rounding the differences carry."""
    return np.allclose(rule, numeric, rtol=1e-6, atol=1e-8 * max(size, 1.0))


@cache
def numeric_jacobians(name: str, seed: int) -> tuple[list[np.ndarray], float]:
    """The Jacobians that numbers give at this point, and the size of the values; no pullback is read."""
    applied = Applied(PRIMITIVES[name], seed)
    size = float(np.abs(applied.reference(*applied.arrays)).max(initial=0.0))
    return [numeric_jacobian(applied.of(i), applied.floats, i, applied.scale) for i in range(len(applied.floats))], size


def wrong_entries(primitive: Primitive, seed: int) -> str:
    """Where the pullback's Jacobian differs from the numeric one at this point; empty if nowhere."""
    applied = Applied(primitive, seed)
    known, size = numeric_jacobians(primitive.name, seed)
    for i, (rule, numeric) in enumerate(zip(rule_jacobians(applied), known, strict=True)):
        if not close(rule, numeric, size):
            return f"input {i} of {[a.shape for a in applied.arrays]} {applied.parameters}:\n{rule}\n{numeric}"
    return ""


def wrong_second_entries(primitive: Primitive, seed: int) -> str:
    """The same for the derivative of the pullback itself, at one random cotangent."""
    applied = Applied(primitive, seed)
    rows = applied.reference(*applied.arrays).size
    u = np.random.default_rng(seed).uniform(-1, 1, rows)
    pull = applied.pullback()
    graph, outputs = applied.backward_graph()
    inputs = [graph.inputs[i] for i in applied.floating]
    reached = [g for i, g in enumerate(graph.outputs) if i not in applied.unreached]
    weights = [placeholder(g.spec) for g in reached]
    second = vjp(reached, weights, inputs)
    known = [(i, g) for i, g in enumerate(second) if g is not None]
    run = evaluator(Graph((*graph.inputs, *weights), tuple(g for _, g in known)))
    sizes = np.cumsum([y.size for y in outputs])[:-1]
    parts = [p.reshape(y.shape) for p, y in zip(np.split(u, sizes), outputs, strict=True)]

    def first(*floats: np.ndarray) -> np.ndarray:
        pulled = [p for i, p in enumerate(pull(u, floats)) if i not in applied.unreached]
        return np.concatenate([p.reshape(-1) for p in pulled]) if pulled else np.zeros(0)

    value = first(*applied.floats)
    size = float(np.abs(value).max(initial=0.0))
    ends = np.cumsum([w.size for w in weights])[:-1]
    rules = [np.zeros((value.size, x.size)) for x in applied.floats]
    for r in range(value.size):
        units = [p.reshape(w.shape) for p, w in zip(np.split(np.eye(value.size)[r], ends), weights, strict=True)]
        for (i, _), g in zip(known, run(*applied.arrays, *parts, *units), strict=True):
            rules[i][r] = np.asarray(g).reshape(-1)
    for i, rule in enumerate(rules):
        numeric = numeric_jacobian(first, applied.floats, i, applied.scale)
        if not close(rule, numeric, size):
            return f"input {i} of {[a.shape for a in applied.arrays]} {applied.parameters}:\n{rule}\n{numeric}"
    return ""
