"""Graph values as expressions: what a value is at one position, in terms of what lies in memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.graph import Node, Tensor
from chainrule.kernel import Buffer, Const, Gather, Load, Scalar, op
from chainrule.lowering.index import Index, integer, position, row_major
from chainrule.spec import UINT32, TensorSpec

Position = tuple[Index, ...]


@dataclass(frozen=True)
class Stored:
    """A value in memory: a strided view of a buffer."""

    buffer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int = 0


class Values:
    """What each value of a graph is so far: stored, or a node to be read through."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.stored: dict[Any, Stored] = {}
        self.constants: dict[int, int] = {}

    def add_buffer(self, spec: TensorSpec, role: str, name: str = "", values: np.ndarray | None = None) -> int:
        self.buffers.append(Buffer(spec.size, spec.dtype, role, name, values))
        return len(self.buffers) - 1

    def place(self, key: Any, buffer: int, shape: tuple[int, ...]) -> Stored:
        """A value takes a buffer of its own, row-major."""
        self.stored[key] = Stored(buffer, shape, row_major(shape))
        return self.stored[key]

    def view(self, x: Tensor) -> Stored | None:
        """Where ``x`` lies if it is stored, or a strided view of something stored."""
        if x.key in self.stored:
            return self.stored[x.key]
        if x.array is not None and x.node is None:
            return self._constant(x) if x.size > 1 else None
        node = x.node
        if node is None or node.primitive.name not in VIEWS:
            return None
        source = self.view(node.inputs[0])
        return None if source is None else VIEWS[node.primitive.name](source, x, node)

    def _constant(self, x: Tensor) -> Stored:
        assert x.array is not None
        uniform = x.array.strides and not any(x.array.strides)
        if id(x) not in self.constants:
            self.constants[id(x)] = self.add_buffer(
                TensorSpec((1,) if uniform else x.shape, x.dtype),
                "constant",
                "",
                np.ascontiguousarray(x.array.flat[0] if uniform else x.array),
            )
        strides = (0,) * x.ndim if uniform else row_major(x.shape)
        return Stored(self.constants[id(x)], x.shape, strides)

    def read(self, x: Tensor, index: Position, where: Scalar | None = None) -> Scalar:
        """The element of ``x`` at ``index``; where ``where`` is false, no memory is touched and the value is any."""
        view = self.view(x)
        if view is not None:
            return self.load(view, x.dtype, index, where)
        if x.node is None:
            assert x.array is not None
            return Const(x.dtype, x.array.item())
        return read_through(self, x, x.node, index, where)

    def load(self, view: Stored, dtype: np.dtype, index: Position, where: Scalar | None = None) -> Scalar:
        at = position(index, view.strides, view.start)
        if at.affine:
            return Load(dtype, view.buffer, at.at(), where)
        place = at.scalar()
        if where is not None:
            place = op("where", where, place, integer(-1))
        return Gather(dtype, view.buffer, place, self.buffers[view.buffer].size)


# ------------------------------------------------------------------------------------------------ strided views


def _permuted(source: Stored, x: Tensor, node: Node) -> Stored:
    axes = node.parameters["axes"]
    return Stored(source.buffer, x.shape, tuple(source.strides[a] for a in axes), source.start)


def _broadcast(source: Stored, x: Tensor, node: Node) -> Stored:
    extra = x.ndim - len(source.shape)
    strides = (0,) * extra + tuple(0 if n == 1 else s for n, s in zip(source.shape, source.strides, strict=True))
    return Stored(source.buffer, x.shape, strides, source.start)


def _sliced(source: Stored, x: Tensor, node: Node) -> Stored:
    p = node.parameters
    start = source.start + sum(a * s for a, s in zip(p["starts"], source.strides, strict=True)) if x.size else 0
    return Stored(source.buffer, x.shape, tuple(s * k for s, k in zip(source.strides, p["steps"], strict=True)), start)


def _flipped(source: Stored, x: Tensor, node: Node) -> Stored:
    axes = node.parameters["axes"]
    start = source.start + sum((x.shape[a] - 1) * source.strides[a] for a in axes) if x.size else 0
    strides = tuple(-s if a in axes else s for a, s in enumerate(source.strides))
    return Stored(source.buffer, x.shape, strides, start)


def _part(source: Stored, x: Tensor, node: Node) -> Stored:
    axis, sizes = node.parameters["axis"], node.parameters["sizes"]
    return Stored(source.buffer, x.shape, source.strides, source.start + sum(sizes[: x.index]) * source.strides[axis])


def _reshaped(source: Stored, x: Tensor, node: Node) -> Stored | None:
    strides = reshaped_strides(source.shape, source.strides, x.shape)
    return None if strides is None else Stored(source.buffer, x.shape, strides, source.start)


def reshaped_strides(shape: tuple[int, ...], strides: tuple[int, ...], to: tuple[int, ...]) -> tuple[int, ...] | None:
    """Strides of the same memory in another shape, or None if a copy is needed."""
    if math.prod(shape) == 0:
        return row_major(to)
    runs: list[tuple[int, int]] = []  # (elements, stride) of axes that are contiguous together, fastest first
    for n, stride in reversed(list(zip(shape, strides, strict=True))):
        if n == 1:
            continue
        if runs and stride == runs[-1][0] * runs[-1][1]:
            runs[-1] = (runs[-1][0] * n, runs[-1][1])
        else:
            runs.append((n, stride))
    result, left = [], iter(runs)
    elements, stride = next(left, (1, 0))
    for n in reversed(to):
        if n == 1:
            result.append(0)
            continue
        if elements == 1:
            elements, stride = next(left)
        if elements % n:
            return None
        result.append(stride)
        elements, stride = elements // n, stride * n
    return tuple(reversed(result))


def _windowed(source: Stored, x: Tensor, node: Node) -> Stored:
    p = node.parameters
    lead = len(source.shape) - len(p["sizes"])
    apart = tuple(s * k for s, k in zip(source.strides[lead:], p["strides"], strict=True))
    within = tuple(s * k for s, k in zip(source.strides[lead:], p["dilations"], strict=True))
    return Stored(source.buffer, x.shape, (*source.strides[:lead], *apart, *within), source.start)


def _same(source: Stored, x: Tensor, node: Node) -> Stored:
    return source


VIEWS: dict[str, Callable[[Stored, Tensor, Node], Stored | None]] = {
    "permute_dims": _permuted, "broadcast_to": _broadcast, "slice": _sliced, "flip": _flipped, "split": _part,
    "reshape": _reshaped, "windows": _windowed, "identity": _same, "barrier": _same, "stop_gradient": _same,
}  # fmt: skip
"""Movements that are another way to read the same memory."""


# -------------------------------------------------------------------------------------------- reading through nodes


def read_through(values: Values, x: Tensor, node: Node, index: Position, where: Scalar | None) -> Scalar:
    """The element of a value that is not stored, from its node's inputs."""
    if node.primitive.elementwise:
        arguments = [values.read(a, fitted(index, a.shape), where) for a in node.inputs]
        return node.primitive.lower(x.spec, *arguments, **node.parameters)
    return MOVES[node.primitive.name](values, x, node, index, where)


def fitted(index: Position, shape: tuple[int, ...]) -> Position:
    """The position in an input of ``shape`` that was stretched to meet the others."""
    own = index[len(index) - len(shape) :]
    return tuple(Index() if n == 1 else i for n, i in zip(shape, own, strict=True))


def _read_permuted(values: Values, x: Tensor, node: Node, index: Position, where: Scalar | None) -> Scalar:
    axes = node.parameters["axes"]
    source = [Index()] * len(axes)
    for to, a in enumerate(axes):
        source[a] = index[to]
    return values.read(node.inputs[0], tuple(source), where)


def _read_broadcast(values: Values, x: Tensor, node: Node, index: Position, where: Scalar | None) -> Scalar:
    return values.read(node.inputs[0], fitted(index, node.inputs[0].shape), where)


def _read_sliced(values: Values, x: Tensor, node: Node, index: Position, where: Scalar | None) -> Scalar:
    p = node.parameters
    source = tuple(i.times(s).plus(a) for i, a, s in zip(index, p["starts"], p["steps"], strict=True))
    return values.read(node.inputs[0], source, where)


def _read_flipped(values: Values, x: Tensor, node: Node, index: Position, where: Scalar | None) -> Scalar:
    axes = node.parameters["axes"]
    source = tuple(i.times(-1).plus(x.shape[a] - 1) if a in axes else i for a, i in enumerate(index))
    return values.read(node.inputs[0], source, where)


def _read_part(values: Values, x: Tensor, node: Node, index: Position, where: Scalar | None) -> Scalar:
    axis, sizes = node.parameters["axis"], node.parameters["sizes"]
    source = tuple(i.plus(sum(sizes[: x.index])) if a == axis else i for a, i in enumerate(index))
    return values.read(node.inputs[0], source, where)


def _read_same(values: Values, x: Tensor, node: Node, index: Position, where: Scalar | None) -> Scalar:
    return values.read(node.inputs[0], index, where)


def _read_reshaped(values: Values, x: Tensor, node: Node, index: Position, where: Scalar | None) -> Scalar:
    """Only where axes of size 1 come or go; lowering stores the source of any other reshape."""
    source = node.inputs[0]
    kept = iter(i for i, n in zip(index, x.shape, strict=True) if n != 1)
    return values.read(source, tuple(Index() if n == 1 else next(kept) for n in source.shape), where)


def _read_windows(values: Values, x: Tensor, node: Node, index: Position, where: Scalar | None) -> Scalar:
    p, source = node.parameters, node.inputs[0]
    lead, axes = source.ndim - len(p["sizes"]), len(p["sizes"])
    windows, offsets = index[lead : lead + axes], index[lead + axes :]
    steps = zip(windows, offsets, p["strides"], p["dilations"], strict=True)
    return values.read(source, (*index[:lead], *(i.times(s).plus(k.times(d)) for i, k, s, d in steps)), where)


def _read_padded(values: Values, x: Tensor, node: Node, index: Position, where: Scalar | None) -> Scalar:
    source = node.inputs[0]
    p = node.parameters
    inside: Scalar | None = where
    own = []
    for i, n, (before, _), gap in zip(index, source.shape, p["padding"], p["interior"], strict=True):
        moved, step = i.plus(-before), gap + 1
        place = moved.scalar()
        tests = [op("greater_equal", place, integer(0)), op("less", place, integer((n - 1) * step + 1 if n else 0))]
        if gap:
            tests.append(op("equal", op("remainder", place, integer(step)), integer(0)))
            moved = Index(0, (), op("floor_divide", place, integer(step)))
        for test in tests:
            inside = test if inside is None else op("logical_and", inside, test)
        own.append(moved)
    element = values.read(source, tuple(own), inside)
    if inside is None:
        return element
    return op("where", inside, element, Const(x.dtype, x.dtype.type(p["value"]).item()))


def _read_random(values: Values, x: Tensor, node: Node, index: Position, where: Scalar | None) -> Scalar:
    row, column, key = node.inputs
    words = [values.read(key, (Index(k),)) for k in range(4)]
    r = op("add", values.read(row, fitted(index, row.shape), where), op("cast", words[3], dtype=row.dtype))
    c = values.read(column, fitted(index, column.shape), where)
    counters = [op("cast", v, dtype=UINT32) for v in (c, r)]
    stream = Const(UINT32, node.parameters["stream"])
    name = "philox1" if x.index else "philox0"
    return op(name, *counters, words[2], stream, words[0], words[1], dtype=UINT32)


MOVES: dict[str, Callable[[Values, Tensor, Node, Position, Scalar | None], Scalar]] = {
    "permute_dims": _read_permuted, "broadcast_to": _read_broadcast, "slice": _read_sliced, "flip": _read_flipped,
    "split": _read_part, "identity": _read_same, "barrier": _read_same, "stop_gradient": _read_same,
    "reshape": _read_reshaped, "pad": _read_padded, "windows": _read_windows,
    "counter_bits": _read_random,
}  # fmt: skip
"""Nodes besides elementwise ones that can be read through without being stored."""
