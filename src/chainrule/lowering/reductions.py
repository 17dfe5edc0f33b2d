"""Reductions: sums and extremes over axes, where an extreme is, and running sums."""

from __future__ import annotations

import math
from collections.abc import Callable

from chainrule.graph import Node, Tensor
from chainrule.kernel import Accumulate, Const, LaneLoop, Load, Local, Nest, Scalar, SerialLoop, Store, op
from chainrule.lowering.builder import Builder, is_contiguous, store_at
from chainrule.lowering.index import Index, along, integer, position, row_major
from chainrule.lowering.values import Stored
from chainrule.spec import INT64, TensorSpec

CHUNK = 4096
"""A sum over more elements than twice this is made of partial sums of this many, so that threads can share it."""

STREAMS, CHEAP = 4, 4
"""Elements of a chunk that are joined before they join its sum, as an addition waits for the one before it: the norm of
235,152 gradients took 30 us with one and 7 with four. Where an element takes more operations than CHEAP there is
enough else to do meanwhile."""

JOINS = {"sum": "add", "maximum": "maximum", "minimum": "minimum", "all": "logical_and", "any": "logical_or"}
"""What joins two values in each kind of reduction."""


def reduction(how: str) -> Callable[[Builder, Node], None]:
    def statement(builder: Builder, node: Node) -> None:
        x, axes = node.inputs[0], node.parameters["axes"]
        y = node.output(0)
        target = builder.target(y)
        kept = tuple(a for a in range(x.ndim) if a not in axes)
        flat = Stored(target.buffer, tuple(x.shape[a] for a in kept), row_major(tuple(x.shape[a] for a in kept)))
        count = math.prod(x.shape[a] for a in axes)
        source, whole = x, how
        if not kept and count > 2 * CHUNK:
            source, axes, kept = _partial(builder, x, how), (0,), ()
        _reduce_axes(builder, source, whole, flat, tuple(axes), kept, node)
        builder.placed(y, target)

    return statement


def _partial(builder: Builder, x: Tensor, how: str) -> Tensor:
    """Reductions of chunks of a long x, flattened: a stored value of one axis."""
    whole, rest = divmod(x.size, CHUNK)
    partial = Tensor(TensorSpec((whole + (rest > 0),), x.dtype))
    target = builder.buffer_like(partial.spec)
    element = _flat_element(builder, x)
    streams = STREAMS if builder.operations.get(x.key, 0) <= CHEAP else 1
    g = builder.fresh("g")
    _chunk(builder, target, how, element, {g: whole}, streams, CHUNK // streams)
    if rest:
        _chunk(builder, target, how, lambda at: element(at.plus(whole * CHUNK)), {}, 1, rest, whole)
    builder.values.place(partial.key, target.buffer, partial.shape)
    return partial


def _flat_element(builder: Builder, x: Tensor) -> Callable[[Index], Scalar]:
    """Position in x, flattened -> the element there."""
    if x.ndim == 1:
        return lambda at: builder.values.read(x, (at,))
    flat = builder.in_memory(x)
    flat = flat if is_contiguous(flat) else builder.store_copy(x)
    return lambda at: Load(x.dtype, flat.buffer, at.plus(flat.start).at())


def _chunk(
    builder: Builder, target: Stored, how: str, element: Callable[[Index], Scalar], grid: dict[str, int], streams: int,
    width: int, first: int = 0,
) -> None:  # fmt: skip
    """For each point of the grid the reduction of ``streams`` runs of ``width`` elements, side by side."""
    v, total = builder.fresh("v"), builder.fresh("t")
    strides = tuple(CHUNK for _ in grid)
    values = [element(position((*map(along, grid), along(v)), (*strides, 1), s * width)) for s in range(streams)]
    while len(values) > 1:
        values = [op(JOINS[how], a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
    loop = LaneLoop(v, width, (), (), (Accumulate(total, how, values[0]),))
    stored = store_at(
        target, (position(tuple(map(along, grid)), (1,) * len(grid), first),), Local(values[0].dtype, total)
    )
    last = LaneLoop(builder.fresh("v"), 1, (), (stored,))
    builder.statements.append(Nest(tuple(grid), tuple(grid.values()), (loop, last)))


def _reduce_axes(builder: Builder, x: Tensor, how: str, target: Stored, axes: tuple, kept: tuple, node: Node) -> None:
    if math.prod(x.shape[a] for a in kept) == 0:
        return
    lanes_reduced = bool(axes) and (not kept or x.ndim - 1 in axes)
    reduced = [a for a in axes if not (lanes_reduced and a == axes[-1])]
    grid_axes = kept if lanes_reduced else kept[:-1]
    names = {a: builder.fresh("g") for a in grid_axes}
    lane_axis = axes[-1] if lanes_reduced else kept[-1] if kept else None
    lane = builder.fresh("v")
    serial_names = {a: builder.fresh("r") for a in reduced}
    every = {**names, **serial_names, **({lane_axis: lane} if lane_axis is not None else {})}
    index = tuple(along(every[a]) for a in range(x.ndim))
    element = builder.values.read(x, index)
    total = builder.fresh("t")
    extents = tuple(x.shape[a] for a in reduced)
    serial: tuple[SerialLoop, ...] = ()
    if reduced or not lanes_reduced:
        serial = (SerialLoop(tuple(serial_names[a] for a in reduced), extents, (Accumulate(total, how, element),)),)
    finish = FINISH.get(node.primitive.name, lambda value, n: value)
    count = math.prod(node.inputs[0].shape[a] for a in node.parameters["axes"])
    place = tuple(along(every[a]) for a in kept)
    extent = x.shape[lane_axis] if lane_axis is not None else 1
    if lanes_reduced:
        joined = builder.fresh("t")
        value = Local(element.dtype, total) if serial else element
        loop = LaneLoop(lane, extent, serial, (), (Accumulate(joined, how, value),))
        stored = store_at(target, place, finish(Local(element.dtype, joined), count))
        loops: tuple[LaneLoop, ...] = (loop, LaneLoop(builder.fresh("v"), 1, (), (stored,)))
    else:
        stored = store_at(target, place, finish(Local(element.dtype, total), count))
        loops = (LaneLoop(lane, extent, serial, (stored,)),)
    builder.statements.append(Nest(tuple(names[a] for a in grid_axes), tuple(x.shape[a] for a in grid_axes), loops))


FINISH: dict[str, Callable[[Scalar, int], Scalar]] = {
    "mean": lambda value, n: op("divide", value, Const(value.dtype, float(n))),
}


def extreme(how: str) -> Callable[[Builder, Node], None]:
    """argmax and argmin: the extreme first, then the least position that has it."""

    def statement(builder: Builder, node: Node) -> None:
        x, axis, y = node.inputs[0], node.parameters["axis"], node.output(0)
        target = builder.target(y)
        kept = tuple(a for a in range(x.ndim) if a != axis)
        names, lane, again = {a: builder.fresh("g") for a in kept}, builder.fresh("v"), builder.fresh("v")
        if math.prod(x.shape[a] for a in kept) == 0:
            builder.placed(y, target)
            return

        def element(name: str) -> Scalar:
            return builder.values.read(x, tuple(along(name if a == axis else names[a]) for a in range(x.ndim)))

        best, first = builder.fresh("t"), builder.fresh("t")
        value = element(again)
        hit = op("equal", value, Local(x.dtype, best))
        if x.spec.floating:
            hit = op("logical_or", hit, op("isnan", value))  # a NaN is the extreme, as in NumPy
        candidate = op("where", hit, along(again).scalar(), integer(x.shape[axis]))
        loops = (
            LaneLoop(lane, x.shape[axis], (), (), (Accumulate(best, how, element(lane)),)),
            LaneLoop(again, x.shape[axis], (), (), (Accumulate(first, "minimum", candidate),)),
            LaneLoop(builder.fresh("v"), 1, (), (
                Store(target.buffer, position(tuple(along(names[a]) for a in kept),
                      row_major(tuple(x.shape[a] for a in kept))).at(), Local(INT64, first)),
            )),
        )  # fmt: skip
        builder.statements.append(Nest(tuple(names.values()), tuple(x.shape[a] for a in kept), loops))
        builder.placed(y, target)

    return statement


def cumsum(builder: Builder, node: Node) -> None:
    x, axis, y = node.inputs[0], node.parameters["axis"], node.output(0)
    target = builder.target(y)
    builder.placed(y, target)
    if x.size == 0:
        return
    kept = [a for a in range(x.ndim) if a != axis]
    grid, lane_axis = kept[:-1], (kept[-1] if kept else None)
    names = {a: builder.fresh("g") for a in grid}
    lane, step, total = builder.fresh("v"), builder.fresh("r"), builder.fresh("t")
    every = {**names, axis: step, **({lane_axis: lane} if lane_axis is not None else {})}
    index = tuple(along(every[a]) for a in range(x.ndim))
    serial = SerialLoop(
        (step,), (x.shape[axis],), (Accumulate(total, "sum", builder.values.read(x, index)),),
        (store_at(target, index, Local(x.dtype, total)),),
    )  # fmt: skip
    extent = x.shape[lane_axis] if lane_axis is not None else 1
    builder.statements.append(
        Nest(tuple(names.values()), tuple(x.shape[a] for a in grid), (LaneLoop(lane, extent, (serial,)),))
    )
