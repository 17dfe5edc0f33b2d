"""Reading and writing at computed positions: gather, scatter-add, sort; and joining along an axis."""

from __future__ import annotations

import math

from chainrule.graph import Node, Tensor
from chainrule.kernel import Accumulate, Const, Gather, LaneLoop, Local, Nest, SerialLoop, Store, op
from chainrule.lowering.builder import Builder, copying, is_contiguous, store_at
from chainrule.lowering.index import Index, along, computed, integer, position, row_major
from chainrule.lowering.values import Stored
from chainrule.spec import INT64


def gather(builder: Builder, node: Node) -> None:
    x, i = node.inputs
    y = node.output(0)
    source, target = builder.in_memory(x), builder.target(y)
    if not is_contiguous(source):
        source = builder.store_copy(x)
    width = math.prod(x.shape[1:])

    def stores(index: tuple[Index, ...]) -> list:
        row = builder.values.read(i, index[: i.ndim])
        inside = op("logical_and", op("greater_equal", row, integer(0)), op("less", row, integer(x.shape[0])))
        rest = position(index[i.ndim :], row_major(x.shape[1:]), source.start)
        at = op("where", inside, computed(row).times(width).plus(rest).scalar(), integer(-1))
        return [
            (target, index, Gather(x.dtype, source.buffer, at, builder.values.buffers[source.buffer].size, _poison(x)))
        ]

    builder.nest(y.shape, stores)
    builder.placed(y, target)


def _poison(x: Tensor) -> float | int:
    """What an index outside reads: NaN, so that it never passes for a number."""
    return math.nan if x.spec.floating else 0


def scatter_add(builder: Builder, node: Node) -> None:
    i, updates = node.inputs
    y = node.output(0)
    target = builder.target(y)
    builder.nest(y.shape, lambda index: [(target, index, Const(y.dtype, 0))])
    builder.placed(y, target)
    rest = y.shape[1:]

    if updates.size:
        grid, lane = builder.axes(updates.shape[:-1]), builder.fresh("v")
        index = (*map(along, grid), along(lane)) if updates.shape else ()
        row = builder.values.read(i, index[: i.ndim])
        inside = op("logical_and", op("greater_equal", row, integer(0)), op("less", row, integer(y.shape[0])))
        at = computed(row).times(math.prod(rest)).plus(position(index[i.ndim :], row_major(rest))).scalar()
        store = Store(target.buffer, op("where", inside, at, integer(-1)), builder.values.read(updates, index), True)
        extent = updates.shape[-1] if updates.shape else 1
        builder.statements.append(Nest(tuple(grid), updates.shape[:-1], (LaneLoop(lane, extent, (), (store,)),)))


def concat(builder: Builder, node: Node) -> None:
    y, axis = node.output(0), node.parameters["axis"]
    target = builder.target(y)
    start = 0
    for x in node.inputs:
        part = Stored(target.buffer, x.shape, target.strides, start * target.strides[axis])
        builder.nest(x.shape, copying(builder, part, x))
        start += x.shape[axis]
    builder.placed(y, target)


def sort(builder: Builder, node: Node) -> None:
    """By rank: an element goes to the number of those before it. Quadratic in the axis, and the same everywhere."""
    x, axis, descending = node.inputs[0], node.parameters["axis"], node.parameters["descending"]
    source = builder.in_memory(x)
    sorted_, order = (builder.target(node.output(k)) for k in range(2))
    for k, target in enumerate((sorted_, order)):
        builder.placed(node.output(k), target)
    if x.size == 0:
        return
    grid_axes = list(range(x.ndim - 1))
    names, lane, other, rank = (
        {a: builder.fresh("g") for a in grid_axes},
        builder.fresh("v"),
        builder.fresh("r"),
        builder.fresh("t"),
    )
    own = (*(along(names[a]) for a in grid_axes), along(lane))
    against = tuple(along(other) if a == axis else i for a, i in enumerate(own))
    mine = builder.values.load(source, x.dtype, own)
    theirs = builder.values.load(source, x.dtype, against)
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
    stores = (store_at(sorted_, place, mine), store_at(order, place, own[axis].scalar()))
    loop = LaneLoop(lane, x.shape[-1], (serial,), stores)
    builder.statements.append(Nest(tuple(names.values()), x.shape[:-1], (loop,)))
