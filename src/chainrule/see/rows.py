"""Rows: which sample of a batch each entry of a graph's values belongs to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.graph import Graph, Node, Tensor

Strides = dict[Any, int]
"""Value -> s: the entry at flat position f belongs to row (f // s) % n. Reshaping changes no such s."""


def row_strides(graph: Graph, known: Strides, rows: int) -> Strides:
    """The stride of rows of every value of ``graph`` that has one, from those of some inputs.

    rows: n. A value in which rows are mixed, or whose rows nobody can follow, has none.
    """
    found = dict(known)
    for node in graph.nodes():
        if node.primitive.name == "scan":
            found.update(_of_scan(node, found, rows))
            continue
        for i, spec in enumerate(node.specs):
            if i and node.primitive.name not in ("split", "sort"):
                break  # statistics and the like
            stride = _of_output(node, spec.shape, found, rows)
            if stride is not None:
                found[(node, i)] = stride
    return found


def axis_of(shape: tuple[int, ...], stride: int, rows: int) -> tuple[int, int] | None:
    """(axis, block): position p of that axis belongs to row p // block % rows; None where no one axis tells."""
    inner = 1
    for axis in reversed(range(len(shape))):
        block = stride // inner
        if stride % inner == 0 and shape[axis] % (block * rows) == 0 and shape[axis] and block:
            return axis, block
        inner *= shape[axis]
    return None


def _of_output(node: Node, shape: tuple[int, ...], known: Strides, rows: int) -> int | None:
    for place, x in enumerate(node.inputs):
        if x.key not in known:
            continue
        if node.primitive.name == "reshape":
            return known[x.key]
        found = axis_of(x.shape, known[x.key], rows)
        if found is None:
            continue
        axis = _moved(node, place, x, found[0], shape)
        if axis is not None and 0 <= axis < len(shape) and shape[axis] == x.shape[found[0]]:
            return found[1] * math.prod(shape[axis + 1 :])
    return None


def _moved(node: Node, place: int, x: Tensor, axis: int, shape: tuple[int, ...]) -> int | None:
    """Where the axis of rows of an input stands in the output."""
    name, parameters = node.primitive.name, node.parameters
    if name == "permute_dims":
        return list(parameters["axes"]).index(axis)
    if name == "broadcast_to" or node.primitive.elementwise:
        return axis + len(shape) - x.ndim
    if name == "linear":
        return axis if place == 0 and axis < x.ndim - 1 else None
    if name == "matmul":
        inside = axis + len(shape) - x.ndim
        gone = x.ndim - 1 if place == 0 else x.ndim - 2
        return None if axis == gone else inside
    if name == "gather":
        return axis if place == 1 else axis + len(shape) - x.ndim if axis else None
    if name == "concat" and axis == parameters["axis"]:
        return None
    if "axes" in parameters and "keepdims" in parameters:  # reductions
        if axis in parameters["axes"]:
            return None
        return axis if parameters["keepdims"] else axis - sum(a < axis for a in parameters["axes"])
    return axis


def _of_scan(node: Node, known: Strides, rows: int) -> Strides:
    """A step of a loop sees one entry of each sequence; its carries are followed until nothing new is learned."""
    body: Graph = node.parameters["body"]
    carries, sequences = node.parameters["carries"], node.parameters["sequences"]
    inside: Strides = {}
    for i, (x, own) in enumerate(zip(node.inputs, body.inputs, strict=True)):
        if x.key not in known:
            continue
        found = axis_of(x.shape, known[x.key], rows)
        if carries <= i < carries + sequences and (found is None or found[0] == 0):
            continue
        inside[own.key] = known[x.key]
    for _ in range(carries + 1):
        reached = row_strides(body, inside, rows)
        learned = {
            own.key: reached[y.key]
            for own, y in zip(body.inputs[:carries], body.outputs, strict=False)
            if own.key not in inside and y.key in reached
        }
        if not learned:
            break
        inside |= learned
    return {(node, i): reached[y.key] for i, y in enumerate(body.outputs) if y.key in reached}


@dataclass(frozen=True)
class Layout:
    """How an array with rows somewhere inside becomes [rows, *uses, *features] and back.

    stride: of its rows; None: it has none, and all of it counts as one row. features: the axes that come last, in
    their order. All others are uses.
    """

    shape: tuple[int, ...]
    stride: int | None
    rows: int
    features: tuple[int, ...]

    @property
    def place(self) -> tuple[int, int] | None:
        """(axis, block) of the rows; None: there are none."""
        found = None if self.stride is None else axis_of(self.shape, self.stride, self.rows)
        return None if found is None or found[0] in self.features else found

    def _cut(self) -> tuple[list[int], list[int], int]:
        """(shape in which rows have an axis of their own, order of its axes, how many behind the first are of size 1
        and go)."""
        if self.place is None:
            uses = [a + 1 for a in range(len(self.shape)) if a not in self.features]
            return [1, *self.shape], [0, *uses, *(a + 1 for a in self.features)], 0
        axis, block = self.place
        outer = self.shape[axis] // (block * self.rows)
        wide = [*self.shape[:axis], outer, self.rows, block, *self.shape[axis + 1 :]]
        gone = [axis] * (outer == 1) + [axis + 2] * (block == 1)
        features = [a if a < axis else a + 2 for a in self.features]
        uses = [a for a in range(len(wide)) if a not in (*gone, *features, axis + 1)]
        return wide, [axis + 1, *gone, *uses, *features], len(gone)

    def to_rows(self, array: np.ndarray) -> np.ndarray:
        """[rows, *uses, *features]; a view where the array allows it."""
        wide, order, gone = self._cut()
        moved = array.reshape(wide).transpose(order)
        return moved.reshape(moved.shape[0], *moved.shape[1 + gone :])

    def from_rows(self, array: np.ndarray) -> np.ndarray:
        """The inverse of ``to_rows``."""
        wide, order, _ = self._cut()
        return array.reshape([wide[a] for a in order]).transpose(np.argsort(order)).reshape(self.shape)


def keys_reached(nodes: Iterable[Node], sources: set[Any]) -> set[Any]:
    """Every value that depends on ``sources``, they included."""
    found = set(sources)
    for node in nodes:
        if any(x.key in found for x in node.inputs):
            found.update((node, i) for i in range(len(node.specs)))
    return found
