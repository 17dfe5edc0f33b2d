"""Graph -> program: one statement for each value that has to lie in memory; fusion joins them afterwards."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from chainrule.errors import GraphError
from chainrule.graph import Graph, Node, Tensor, holding, inline
from chainrule.kernel import (
    Accumulate,
    Const,
    Gather,
    Gemm,
    LaneLoop,
    Load,
    Local,
    Matrix,
    Nest,
    Program,
    Scalar,
    SerialLoop,
    Statement,
    Store,
    op,
)
from chainrule.kernel.check import check
from chainrule.kernel.interpret import start_value
from chainrule.lowering.fusion import fused
from chainrule.lowering.index import Index, along, computed, integer, position, row_major
from chainrule.lowering.memory import planned
from chainrule.lowering.values import MOVES, Stored, Values
from chainrule.spec import INT64, TensorSpec

CHUNK = 4096
"""A sum over more elements than twice this is made of partial sums of this many, so that threads can share it."""

DEEPEST = 40
"""An expression of more operations than this is stored, so that no loop body grows without end."""


def lower(graph: Graph) -> Program:
    """The program of a graph of core primitives (see ``CORE``)."""
    lowering = _Lowering(graph)
    for node in graph.nodes():
        lowering.visit(node)
    outputs = [lowering.output(y) for y in graph.outputs]
    program = check(
        Program(tuple(lowering.values.buffers), tuple(lowering.statements), tuple(lowering.inputs), tuple(outputs)),
        "lowering",
    )
    return planned(check(fused(program), "fusion"))


def is_core(node: Node) -> bool:
    """Whether a node needs no expansion."""
    primitive = node.primitive
    return (
        (primitive.elementwise and primitive.lower is not None)
        or primitive.name in MOVES
        or primitive.name in STATEMENTS
    )


class _Lowering:
    """The statements made so far, and what lies where."""

    def __init__(self, graph: Graph) -> None:
        self.values = Values()
        self.statements: list[Statement] = []
        self.names = 0
        self.inputs = []
        for x in graph.inputs:
            buffer = self.values.add_buffer(x.spec, "input", x.name)
            self.inputs.append(buffer)
            self.values.place(x.key, buffer, x.shape)
        self.outputs: dict[Any, int] = {}
        taken: set[Any] = {x.key for x in graph.inputs}
        for y in graph.outputs:
            if y.node is not None and y.key not in taken:
                self.outputs[y.key] = self.values.add_buffer(y.spec, "output")
                taken.add(y.key)
        self.must_store = _must_store(graph)
        self.operations: dict[Any, int] = {}

    # -------------------------------------------------------------------------------------------- nodes

    def visit(self, node: Node) -> None:
        if not is_core(node):
            raise GraphError(f"{node.primitive.name} has no lowering of its own and was not expanded")
        name = node.primitive.name
        if name in STATEMENTS:
            STATEMENTS[name](self, node)
            return
        for i in range(len(node.specs)):
            y = node.output(i)
            operations = 1 + max((self.operations.get(x.key, 0) for x in node.inputs), default=0)
            self.operations[y.key] = operations
            if y.key in self.must_store or y.key in self.outputs or operations > DEEPEST:
                self.store(y)
                self.operations[y.key] = 0

    def store(self, y: Tensor) -> Stored:
        """Put a value that can be read through into memory."""
        if y.key in self.values.stored:
            return self.values.stored[y.key]
        target = self.target(y)
        self.nest(y.shape, lambda index: [(target, index, self.values.read(y, index))])
        return self.values.place(y.key, target.buffer, y.shape)

    def target(self, y: Tensor) -> Stored:
        """Memory for a value: its output, or a buffer of its own."""
        buffer = self.outputs.get(y.key)
        if buffer is None:
            buffer = self.values.add_buffer(y.spec, "scratch")
        return Stored(buffer, y.shape, row_major(y.shape))

    def placed(self, y: Tensor, target: Stored) -> None:
        self.values.place(y.key, target.buffer, y.shape)

    def output(self, y: Tensor) -> int:
        """The buffer of an output; a copy where it is an input, a constant or a view of something else."""
        held = self.values.stored.get(y.key)
        if held is not None and y.key in self.outputs and held.buffer == self.outputs[y.key]:
            return held.buffer
        buffer = self.outputs.get(y.key)
        if buffer is None:
            buffer = self.values.add_buffer(y.spec, "output")
        target = Stored(buffer, y.shape, row_major(y.shape))
        self.nest(y.shape, lambda index: [(target, index, self.values.read(y, index))])
        return buffer

    def kept(self, y: Tensor) -> Tensor:
        """``y``, made sure to lie in memory."""
        self.in_memory(y)
        return y

    def store_copy(self, x: Tensor) -> Stored:
        """A contiguous copy of a strided view."""
        target = self.buffer_like(x.spec)
        self.nest(x.shape, lambda index: [(target, index, self.values.read(x, index))])
        return target

    def fresh(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    # -------------------------------------------------------------------------------------------- nests

    def nest(self, shape: tuple[int, ...], stores: Callable[[tuple[Index, ...]], list]) -> None:
        """Store values at every position of ``shape``: grid over all axes but the last, lanes along it."""
        if math.prod(shape) == 0:
            return
        grid, lane = self.axes(shape[:-1]), self.fresh("v")
        index = (*map(along, grid), along(lane)) if shape else ()
        found = tuple(_store(target, at, value) for target, at, value in stores(index))
        loop = LaneLoop(lane, shape[-1] if shape else 1, (), found)
        self.statements.append(Nest(tuple(grid), shape[:-1], (loop,)))

    def axes(self, shape: tuple[int, ...]) -> list[str]:
        return [self.fresh("g") for _ in shape]

    def buffer_like(self, spec: TensorSpec) -> Stored:
        return Stored(self.values.add_buffer(spec, "scratch"), spec.shape, row_major(spec.shape))

    def in_memory(self, x: Tensor) -> Stored:
        """``x`` as a strided view, stored first if it is not one."""
        view = self.values.view(x)
        return view if view is not None else self.store(x)


def _store(target: Stored, index: tuple[Index, ...], value: Scalar, adds: bool = False) -> Store:
    at = position(index, target.strides, target.start)
    return Store(target.buffer, at.at() if at.affine else at.scalar(), value, adds)


# ------------------------------------------------------------------------------------------------ what must be stored

CHEAP = {
    "add", "subtract", "multiply", "negative", "relu", "greater", "less", "greater_equal", "less_equal", "equal",
    "not_equal", "where", "astype", "maximum", "minimum", "abs", "sign", "clip", "logical_and", "logical_or",
    "logical_not", "logical_xor",
}  # fmt: skip
"""Elementwise operations that are cheaper to do again than to store and load."""


def _must_store(graph: Graph) -> set[Any]:
    """Dear values with several readers, what overlapping windows read, and the sources of reshapes into other axes."""
    readers: Counter[Any] = Counter()
    chosen: set[Any] = set()
    nodes = graph.nodes()
    for node in nodes:
        for x in node.inputs:
            readers[x.key] += 1
        if node.primitive.name == "reshape" and not _only_ones(node.inputs[0].shape, node.specs[0].shape):
            chosen.add(node.inputs[0].key)
        if node.primitive.name == "windows" and _overlap(node):
            chosen.add(node.inputs[0].key)
    dear: dict[Node, int] = {}
    for node in nodes:
        name = node.primitive.name
        own = 0 if name in STATEMENTS else 1 if name in CHEAP or name in MOVES else 8
        dear[node] = own + sum(dear.get(x.node, 0) for x in node.inputs if x.key not in chosen and x.node is not None)
        if dear[node] > 3 and readers[(node, 0)] > 1 and node.primitive.elementwise:
            chosen.add((node, 0))
        if any(key in chosen for key in ((node, 0),)):
            dear[node] = 0
    return chosen


def _overlap(node: Node) -> bool:
    """Whether windows share elements, which would be worked out anew for each of them."""
    p = node.parameters
    return any((k - 1) * d >= s for k, s, d in zip(p["sizes"], p["strides"], p["dilations"], strict=True))


def _only_ones(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return [n for n in a if n != 1] == [n for n in b if n != 1]


# ------------------------------------------------------------------------------------------------ matrices


def _matmul(self: _Lowering, node: Node) -> None:
    a, b = node.inputs
    (spec,) = node.specs
    y = node.output(0)
    target = self.target(y)
    left, right = (_readable(self, x) for x in (a, b))
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    batch = spec.shape[:-2]
    self.placed(y, target)
    if spec.size == 0:
        return
    lefts, rights = (_stretched(v, batch) for v in (left, right))
    if batch and not any(rights) and _rows_join(left, batch, m):
        m, batch = (
            m * math.prod(batch),
            (),
        )  # one matrix for all rows: the rows of every batch entry are one tall matrix
    outer, inner = (batch[:-1], batch[-1]) if batch else ((), 1)
    for where in np.ndindex(*outer):
        starts = [
            v.start + sum(int(i) * s for i, s in zip(where, strides, strict=False))
            for v, strides in ((left, lefts), (right, rights), (target, target.strides[: len(batch)]))
        ]
        self.statements.append(
            Gemm(
                m, n, k,
                Matrix(left.buffer, starts[0], left.strides[-2], left.strides[-1], lefts[-1] if batch else 0),
                Matrix(right.buffer, starts[1], right.strides[-2], right.strides[-1], rights[-1] if batch else 0),
                Matrix(target.buffer, starts[2], target.strides[-2], 1, target.strides[len(batch) - 1] if batch else 0),
                inner,
            )
        )  # fmt: skip


def _readable(self: _Lowering, x: Tensor) -> Stored:
    """A matrix operand as BLAS can read it: one of its two strides is 1 and the other spans it."""
    view = self.values.view(x)
    if view is not None:
        rows, columns = view.shape[-2:]
        row, column = view.strides[-2:]
        row, column = (column * max(columns, 1), column) if rows == 1 and column == 1 else (row, column)
        row, column = (row, row * max(rows, 1)) if columns == 1 and row == 1 else (row, column)
        if (column == 1 and row >= max(columns, 1)) or (row == 1 and column >= max(rows, 1)):
            return Stored(view.buffer, view.shape, (*view.strides[:-2], row, column), view.start)
        target = self.buffer_like(x.spec)
        self.nest(x.shape, lambda index: [(target, index, self.values.read(x, index))])
        return target
    return self.store(x)


def _stretched(view: Stored, batch: tuple[int, ...]) -> tuple[int, ...]:
    own, strides = view.shape[:-2], view.strides[:-2]
    extra = len(batch) - len(own)
    return (0,) * extra + tuple(0 if n == 1 else s for n, s in zip(own, strides, strict=True))


def _rows_join(left: Stored, batch: tuple[int, ...], m: int) -> bool:
    """Whether batch axes and rows of the left operand are one run of rows."""
    if left.shape[:-2] != batch or left.strides[-1] != 1:
        return False
    stride = left.strides[-2]
    for n, s in zip(reversed((*batch, m)), reversed(left.strides[:-1]), strict=True):
        if n != 1 and s != stride:
            return False
        stride *= n
    return True


# ------------------------------------------------------------------------------------------------ reductions


def _reduce(how: str) -> Callable[[_Lowering, Node], None]:
    def statement(self: _Lowering, node: Node) -> None:
        x, axes = node.inputs[0], node.parameters["axes"]
        y = node.output(0)
        target = self.target(y)
        kept = tuple(a for a in range(x.ndim) if a not in axes)
        flat = Stored(target.buffer, tuple(x.shape[a] for a in kept), row_major(tuple(x.shape[a] for a in kept)))
        count = math.prod(x.shape[a] for a in axes)
        source, whole = x, how
        if not kept and count > 2 * CHUNK:
            source, axes, kept = _partial(self, x, how), (0,), ()
        _reduce_axes(self, source, whole, flat, tuple(axes), kept, node)
        self.placed(y, target)

    return statement


def _partial(self: _Lowering, x: Tensor, how: str) -> Tensor:
    """Reductions of chunks of a long x, flattened: a stored value of one axis."""
    chunks, whole = -(-x.size // CHUNK), x.size % CHUNK == 0
    partial = Tensor(TensorSpec((chunks,), x.dtype))
    target = self.buffer_like(partial.spec)
    g, v, total = self.fresh("g"), self.fresh("v"), self.fresh("t")
    place = position((along(g), along(v)), (CHUNK, 1))
    inside = None if whole else op("less", place.scalar(), integer(x.size))
    neutral = Const(x.dtype, start_value(how, x.dtype).item())
    if x.ndim == 1:
        element = self.values.read(x, (place,), inside)
    else:
        flat = self.in_memory(x)
        flat = flat if _contiguous(flat) else self.store_copy(x)
        element = Load(x.dtype, flat.buffer, place.plus(flat.start).at(), inside)
    value = element if inside is None else op("where", inside, element, neutral)
    loop = LaneLoop(v, CHUNK, (), (), (Accumulate(total, how, value),))
    last = LaneLoop(self.fresh("v"), 1, (), (_store(target, (along(g),), Local(x.dtype, total)),))
    self.statements.append(Nest((g,), (chunks,), (loop, last)))
    self.values.place(partial.key, target.buffer, (chunks,))
    return partial


def _contiguous(view: Stored) -> bool:
    return all(n == 1 or s == r for n, s, r in zip(view.shape, view.strides, row_major(view.shape), strict=True))


def _reduce_axes(self: _Lowering, x: Tensor, how: str, target: Stored, axes: tuple, kept: tuple, node: Node) -> None:
    if math.prod(x.shape[a] for a in kept) == 0:
        return
    lanes_reduced = bool(axes) and (not kept or x.ndim - 1 in axes)
    reduced = [a for a in axes if not (lanes_reduced and a == axes[-1])]
    grid_axes = kept if lanes_reduced else kept[:-1]
    names = {a: self.fresh("g") for a in grid_axes}
    lane_axis = axes[-1] if lanes_reduced else kept[-1] if kept else None
    lane = self.fresh("v")
    serial_names = {a: self.fresh("r") for a in reduced}
    every = {**names, **serial_names, **({lane_axis: lane} if lane_axis is not None else {})}
    index = tuple(along(every[a]) for a in range(x.ndim))
    element = self.values.read(x, index)
    total = self.fresh("t")
    extents = tuple(x.shape[a] for a in reduced)
    serial: tuple[SerialLoop, ...] = ()
    if reduced or not lanes_reduced:
        serial = (SerialLoop(tuple(serial_names[a] for a in reduced), extents, (Accumulate(total, how, element),)),)
    finish = FINISH.get(node.primitive.name, lambda value, n: value)
    count = math.prod(node.inputs[0].shape[a] for a in node.parameters["axes"])
    place = tuple(along(every[a]) for a in kept)
    extent = x.shape[lane_axis] if lane_axis is not None else 1
    if lanes_reduced:
        joined = self.fresh("t")
        value = Local(element.dtype, total) if serial else element
        loop = LaneLoop(lane, extent, serial, (), (Accumulate(joined, how, value),))
        stored = _store(target, place, finish(Local(element.dtype, joined), count))
        loops: tuple[LaneLoop, ...] = (loop, LaneLoop(self.fresh("v"), 1, (), (stored,)))
    else:
        stored = _store(target, place, finish(Local(element.dtype, total), count))
        loops = (LaneLoop(lane, extent, serial, (stored,)),)
    self.statements.append(Nest(tuple(names[a] for a in grid_axes), tuple(x.shape[a] for a in grid_axes), loops))


FINISH: dict[str, Callable[[Scalar, int], Scalar]] = {
    "mean": lambda value, n: op("divide", value, Const(value.dtype, float(n))),
}


def _extreme(how: str) -> Callable[[_Lowering, Node], None]:
    """argmax and argmin: the extreme first, then the least position that has it."""

    def statement(self: _Lowering, node: Node) -> None:
        x, axis, y = node.inputs[0], node.parameters["axis"], node.output(0)
        target = self.target(y)
        kept = tuple(a for a in range(x.ndim) if a != axis)
        names, lane, again = {a: self.fresh("g") for a in kept}, self.fresh("v"), self.fresh("v")
        if math.prod(x.shape[a] for a in kept) == 0:
            self.placed(y, target)
            return

        def element(name: str) -> Scalar:
            return self.values.read(x, tuple(along(name if a == axis else names[a]) for a in range(x.ndim)))

        best, first = self.fresh("t"), self.fresh("t")
        value = element(again)
        hit = op("equal", value, Local(x.dtype, best))
        if x.spec.floating:
            hit = op("logical_or", hit, op("isnan", value))  # a NaN is the extreme, as in NumPy
        candidate = op("where", hit, along(again).scalar(), integer(x.shape[axis]))
        loops = (
            LaneLoop(lane, x.shape[axis], (), (), (Accumulate(best, how, element(lane)),)),
            LaneLoop(again, x.shape[axis], (), (), (Accumulate(first, "minimum", candidate),)),
            LaneLoop(self.fresh("v"), 1, (), (
                Store(target.buffer, position(tuple(along(names[a]) for a in kept),
                      row_major(tuple(x.shape[a] for a in kept))).at(), Local(INT64, first)),
            )),
        )  # fmt: skip
        self.statements.append(Nest(tuple(names.values()), tuple(x.shape[a] for a in kept), loops))
        self.placed(y, target)

    return statement


def _cumsum(self: _Lowering, node: Node) -> None:
    x, axis, y = node.inputs[0], node.parameters["axis"], node.output(0)
    target = self.target(y)
    self.placed(y, target)
    if x.size == 0:
        return
    kept = [a for a in range(x.ndim) if a != axis]
    grid, lane_axis = kept[:-1], (kept[-1] if kept else None)
    names = {a: self.fresh("g") for a in grid}
    lane, step, total = self.fresh("v"), self.fresh("r"), self.fresh("t")
    every = {**names, axis: step, **({lane_axis: lane} if lane_axis is not None else {})}
    index = tuple(along(every[a]) for a in range(x.ndim))
    serial = SerialLoop(
        (step,), (x.shape[axis],), (Accumulate(total, "sum", self.values.read(x, index)),),
        (_store(target, index, Local(x.dtype, total)),),
    )  # fmt: skip
    extent = x.shape[lane_axis] if lane_axis is not None else 1
    self.statements.append(
        Nest(tuple(names.values()), tuple(x.shape[a] for a in grid), (LaneLoop(lane, extent, (serial,)),))
    )


# ------------------------------------------------------------------------------------------------ positions


def _gather(self: _Lowering, node: Node) -> None:
    x, i = node.inputs
    y = node.output(0)
    source, target = self.in_memory(x), self.target(y)
    if not _contiguous(source):
        source = self.store_copy(x)
    width = math.prod(x.shape[1:])

    def stores(index: tuple[Index, ...]) -> list:
        row = self.values.read(i, index[: i.ndim])
        inside = op("logical_and", op("greater_equal", row, integer(0)), op("less", row, integer(x.shape[0])))
        rest = position(index[i.ndim :], row_major(x.shape[1:]), source.start)
        at = op("where", inside, computed(row).times(width).plus(rest).scalar(), integer(-1))
        return [
            (target, index, Gather(x.dtype, source.buffer, at, self.values.buffers[source.buffer].size, _poison(x)))
        ]

    self.nest(y.shape, stores)
    self.placed(y, target)


def _poison(x: Tensor) -> float | int:
    """What an index outside reads: NaN, so that it never passes for a number."""
    return math.nan if x.spec.floating else 0


def _scatter_add(self: _Lowering, node: Node) -> None:
    i, updates = node.inputs
    y = node.output(0)
    target = self.target(y)
    self.nest(y.shape, lambda index: [(target, index, Const(y.dtype, 0))])
    self.placed(y, target)
    rest = y.shape[1:]

    if updates.size:
        grid, lane = self.axes(updates.shape[:-1]), self.fresh("v")
        index = (*map(along, grid), along(lane)) if updates.shape else ()
        row = self.values.read(i, index[: i.ndim])
        inside = op("logical_and", op("greater_equal", row, integer(0)), op("less", row, integer(y.shape[0])))
        at = computed(row).times(math.prod(rest)).plus(position(index[i.ndim :], row_major(rest))).scalar()
        store = Store(target.buffer, op("where", inside, at, integer(-1)), self.values.read(updates, index), True)
        extent = updates.shape[-1] if updates.shape else 1
        self.statements.append(Nest(tuple(grid), updates.shape[:-1], (LaneLoop(lane, extent, (), (store,)),)))


def _windows_add(self: _Lowering, node: Node) -> None:
    """Each element adds up what the windows that it is in hold for it.

    With a stride s, elements s apart along an axis are at the same offsets of their windows: one nest for each
    remainder of the position by s, in which every index is affine.
    """
    x, p, y = node.inputs[0], node.parameters, node.output(0)
    axes, target = len(p["shape"]), self.target(y)
    lead = y.ndim - axes
    counts, sizes = x.shape[lead : lead + axes], x.shape[lead + axes :]
    for remainders in np.ndindex(*p["strides"]):
        phases = [
            _Phase.of(r, n, count, size, s, d)
            for r, n, count, size, s, d in zip(
                remainders, p["shape"], counts, sizes, p["strides"], p["dilations"], strict=True
            )
        ]
        _add_phase(self, x, target, lead, phases)
    self.placed(y, target)


@dataclass(frozen=True)
class _Phase:
    """Along one axis, the elements at remainder + stride * q.

    Such an element is in windows q + window + apart * t, there at the offsets last - step * t.
    """

    remainder: int
    stride: int
    elements: int
    windows: int
    """How many there are on this axis; others that the formula names are none."""
    last: int
    step: int
    offsets: int
    window: int
    apart: int

    @staticmethod
    def of(remainder: int, length: int, windows: int, size: int, stride: int, dilation: int) -> _Phase:
        at = [k for k in range(size) if (k * dilation - remainder) % stride == 0]
        common = math.gcd(stride, dilation)
        last = at[-1] if at else 0
        return _Phase(
            remainder, stride, len(range(remainder, length, stride)), windows, last, stride // common, len(at),
            (remainder - last * dilation) // stride, dilation // common,
        )  # fmt: skip


def _add_phase(self: _Lowering, x: Tensor, target: Stored, lead: int, phases: list[_Phase]) -> None:
    shape = (*target.shape[:lead], *(phase.elements for phase in phases))
    apart = tuple(s * phase.stride for s, phase in zip(target.strides[lead:], phases, strict=True))
    start = sum(s * phase.remainder for s, phase in zip(target.strides[lead:], phases, strict=True))
    part = Stored(target.buffer, shape, (*target.strides[:lead], *apart), start)
    if math.prod(shape) == 0:
        return
    if not all(phase.offsets for phase in phases):
        self.nest(shape, lambda index: [(part, index, Const(x.dtype, 0))])
        return
    grid, lane, total = self.axes(shape[:-1]), self.fresh("v"), self.fresh("t")
    index = (*map(along, grid), along(lane))
    steps = [self.fresh("r") for _ in phases]
    windows = [
        q.plus(along(t).times(phase.apart)).plus(phase.window)
        for q, t, phase in zip(index[lead:], steps, phases, strict=True)
    ]
    offsets = [along(t).times(-phase.step).plus(phase.last) for t, phase in zip(steps, phases, strict=True)]
    tests = [
        test
        for i, phase in zip(windows, phases, strict=True)
        for test in (
            op("greater_equal", i.scalar(), integer(0)),
            op("less", i.scalar(), integer(phase.windows)),
        )
    ]
    inside = reduce(lambda a, b: op("logical_and", a, b), tests)
    held = self.values.read(x, (*index[:lead], *windows, *offsets), inside)
    # A load that is switched off is 0 already; what is read through may be anything there.
    value = held if isinstance(held, Load) else op("where", inside, held, Const(x.dtype, 0))
    serial = SerialLoop(tuple(steps), tuple(phase.offsets for phase in phases), (Accumulate(total, "sum", value),))
    stored = _store(part, index, Local(x.dtype, total))
    self.statements.append(Nest(tuple(grid), shape[:-1], (LaneLoop(lane, shape[-1], (serial,), (stored,)),)))


def _copying(self: _Lowering, target: Stored, x: Tensor) -> Callable[[tuple[Index, ...]], list]:
    return lambda index: [(target, index, self.values.read(x, index))]


def _concat(self: _Lowering, node: Node) -> None:
    y, axis = node.output(0), node.parameters["axis"]
    target = self.target(y)
    start = 0
    for x in node.inputs:
        part = Stored(target.buffer, x.shape, target.strides, start * target.strides[axis])
        self.nest(x.shape, _copying(self, part, x))
        start += x.shape[axis]
    self.placed(y, target)


def _sort(self: _Lowering, node: Node) -> None:
    """By rank: an element goes to the number of those before it. Quadratic in the axis, and the same everywhere."""
    x, axis, descending = node.inputs[0], node.parameters["axis"], node.parameters["descending"]
    source = self.in_memory(x)
    sorted_, order = (self.target(node.output(k)) for k in range(2))
    for k, target in enumerate((sorted_, order)):
        self.placed(node.output(k), target)
    if x.size == 0:
        return
    grid_axes = list(range(x.ndim - 1))
    names, lane, other, rank = (
        {a: self.fresh("g") for a in grid_axes},
        self.fresh("v"),
        self.fresh("r"),
        self.fresh("t"),
    )
    own = (*(along(names[a]) for a in grid_axes), along(lane))
    against = tuple(along(other) if a == axis else i for a, i in enumerate(own))
    mine = self.values.load(source, x.dtype, own)
    theirs = self.values.load(source, x.dtype, against)
    before = op("less", mine, theirs) if descending else op("less", theirs, mine)
    tie = op("equal", theirs, mine)
    if x.spec.floating:  # NaN sorts last, after every number (first when descending)
        nan_mine, nan_theirs = op("isnan", mine), op("isnan", theirs)
        first, second = (nan_theirs, nan_mine) if descending else (nan_mine, nan_theirs)
        before = op("logical_or", before, op("logical_and", first, op("logical_not", second)))
        tie = op("logical_or", tie, op("logical_and", nan_mine, nan_theirs))
    earlier = op("less", along(other).scalar(), own[axis].scalar())
    counts = op("cast", op("logical_or", before, op("logical_and", tie, earlier)), dtype=INT64)
    serial = SerialLoop((other,), (x.shape[axis],), (Accumulate(rank, "sum", counts),))
    place = tuple(computed(Local(INT64, rank)) if a == axis else i for a, i in enumerate(own))
    stores = (_store(sorted_, place, mine), _store(order, place, own[axis].scalar()))
    loop = LaneLoop(lane, x.shape[-1], (serial,), stores)
    self.statements.append(Nest(tuple(names.values()), x.shape[:-1], (loop,)))


def _scan(self: _Lowering, node: Node) -> None:
    """The body's statements once for each step, over views of the sequences: the machine code is one and the same."""
    p, inputs = node.parameters, node.inputs
    body, carries, sequences = p["body"], p["carries"], p["sequences"]
    state = list(inputs[:carries])
    xs, fixed = inputs[carries : carries + sequences], inputs[carries + sequences :]
    for x in xs:
        self.in_memory(x)
    steps = xs[0].shape[0]
    stacked = [self.target(node.output(carries + k)) for k in range(len(body.outputs) - carries)]
    for t in reversed(range(steps)) if p["reverse"] else range(steps):
        rows = [_row(self, x, t) for x in xs]
        results = inline_nodes(self, body, [*state, *rows, *fixed])
        for target, y in zip(stacked, results[carries:], strict=True):
            row = Stored(target.buffer, y.shape, target.strides[1:], t * target.strides[0])
            self.nest(y.shape, _copying(self, row, y))
        state = [self.kept(y) for y in results[:carries]]
    for k, y in enumerate(state):
        out = node.output(k)
        target = self.target(out)
        self.nest(y.shape, _copying(self, target, y))
        self.placed(out, target)
    for k, target in enumerate(stacked):
        self.placed(node.output(carries + k), target)


def _row(self: _Lowering, x: Tensor, t: int) -> Tensor:
    view = self.values.view(x)
    assert view is not None
    row = Tensor(TensorSpec(x.shape[1:], x.dtype))
    self.values.stored[row.key] = Stored(view.buffer, row.shape, view.strides[1:], view.start + t * view.strides[0])
    return row


def inline_nodes(self: _Lowering, body: Graph, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Apply a body's nodes to ``inputs`` and lower them at once."""
    with holding(trace=None):
        results = inline(body, inputs)
    made = Graph(tuple(inputs), results)
    self.must_store |= _must_store(made)
    for node in made.nodes():
        self.visit(node)
    return results


STATEMENTS: dict[str, Callable[[_Lowering, Node], None]] = {
    "matmul": _matmul, "sum": _reduce("sum"), "mean": _reduce("sum"), "max": _reduce("maximum"),
    "min": _reduce("minimum"), "all": _reduce("all"), "any": _reduce("any"), "argmax": _extreme("maximum"),
    "argmin": _extreme("minimum"), "cumsum": _cumsum, "gather": _gather, "scatter_add": _scatter_add,
    "concat": _concat, "sort": _sort, "scan": _scan, "windows_add": _windows_add,
}  # fmt: skip
"""Primitives that become statements of their own."""
