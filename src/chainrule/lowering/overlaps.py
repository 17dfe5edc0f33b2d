"""The overlapping add that pulls windows back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np

from chainrule.graph import Node, Tensor
from chainrule.kernel import Accumulate, Const, LaneLoop, Load, Local, Nest, SerialLoop, op
from chainrule.lowering.builder import Builder, store_at
from chainrule.lowering.index import along, integer
from chainrule.lowering.values import Stored


def windows_add(builder: Builder, node: Node) -> None:
    """Each element adds up what the windows that it is in hold for it.

    With a stride s, elements s apart along an axis are at the same offsets of their windows: one nest for each
    remainder of the position by s, in which every index is affine.
    """
    x, p, y = node.inputs[0], node.parameters, node.output(0)
    axes, target = len(p["shape"]), builder.target(y)
    lead = y.ndim - axes
    counts, sizes = x.shape[lead : lead + axes], x.shape[lead + axes :]
    for remainders in np.ndindex(*p["strides"]):
        phases = [
            _Phase.of(r, n, count, size, s, d)
            for r, n, count, size, s, d in zip(
                remainders, p["shape"], counts, sizes, p["strides"], p["dilations"], strict=True
            )
        ]
        _add_phase(builder, x, target, lead, phases)
    builder.placed(y, target)


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


def _add_phase(builder: Builder, x: Tensor, target: Stored, lead: int, phases: list[_Phase]) -> None:
    shape = (*target.shape[:lead], *(phase.elements for phase in phases))
    apart = tuple(s * phase.stride for s, phase in zip(target.strides[lead:], phases, strict=True))
    start = sum(s * phase.remainder for s, phase in zip(target.strides[lead:], phases, strict=True))
    part = Stored(target.buffer, shape, (*target.strides[:lead], *apart), start)
    if math.prod(shape) == 0:
        return
    if not all(phase.offsets for phase in phases):
        builder.nest(shape, lambda index: [(part, index, Const(x.dtype, 0))])
        return
    grid, lane, total = builder.axes(shape[:-1]), builder.fresh("v"), builder.fresh("t")
    index = (*map(along, grid), along(lane))
    steps = [builder.fresh("r") for _ in phases]
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
    held = builder.values.read(x, (*index[:lead], *windows, *offsets), inside)
    # A load that is switched off is 0 already; what is read through may be anything there.
    value = held if isinstance(held, Load) else op("where", inside, held, Const(x.dtype, 0))
    serial = SerialLoop(tuple(steps), tuple(phase.offsets for phase in phases), (Accumulate(total, "sum", value),))
    stored = store_at(part, index, Local(x.dtype, total))
    builder.statements.append(Nest(tuple(grid), shape[:-1], (LaneLoop(lane, shape[-1], (serial,), (stored,)),)))
