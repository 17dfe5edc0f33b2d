"""What a statement reads and writes, and where: the facts that fusion and memory planning rest on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from chainrule.kernel import Affine, Gate, Gather, Gemm, Load, Nest, Scalar, Statement, walk


@dataclass(frozen=True)
class Access:
    """One access of a nest to a buffer. at: None for a computed position, which may be anywhere."""

    buffer: int
    at: Affine | None
    writes: bool
    inner: tuple[tuple[str, int], ...]
    """Loop variables inside the grid, with their extents."""


def accesses(nest: Nest) -> list[Access]:
    """Every load and store of a nest."""
    found = []
    for loop in nest.loops:
        lanes = ((loop.variable, loop.extent),)
        for serial in loop.serial:
            inner = lanes + tuple(zip(serial.variables, serial.extents, strict=True))
            values = [a.value for a in serial.accumulates] + [s.value for s in serial.stores]
            found += _of(values, serial.stores, inner)
        values = [s.value for s in loop.stores] + [a.value for a in loop.accumulates]
        found += _of(values, loop.stores, lanes)
    return found


def _of(values: list[Scalar], stores: tuple, inner: tuple) -> list[Access]:
    places = [s.at for s in stores if isinstance(s.at, Scalar)]
    found = []
    for e in walk(*values, *places):
        if isinstance(e, Load):
            found.append(Access(e.buffer, e.at, False, inner))
        elif isinstance(e, Gather):
            found.append(Access(e.buffer, None, False, inner))
    for s in stores:
        found.append(Access(s.buffer, None if isinstance(s.at, Scalar) else s.at, True, inner))
        if s.adds:
            found.append(Access(s.buffer, None if isinstance(s.at, Scalar) else s.at, False, inner))
    return found


def reads(statement: Statement) -> set[int]:
    """Buffers that a statement reads."""
    if isinstance(statement, Gate):
        return {statement.buffer}
    if isinstance(statement, Gemm):
        own = {statement.left.buffer, statement.right.buffer}
        return own | {statement.result.buffer} if statement.adds else own
    return {a.buffer for a in accesses(statement) if not a.writes}


def writes(statement: Statement) -> set[int]:
    """Buffers that a statement writes."""
    if isinstance(statement, Gate):
        return set()
    if isinstance(statement, Gemm):
        return {statement.result.buffer}
    return {s.buffer for s in statement.stores()}


def independent(a: Statement, b: Statement) -> bool:
    """Whether two statements may change places."""
    if isinstance(a, Gate) or isinstance(b, Gate):
        return False
    ra, wa, rb, wb = reads(a), writes(a), reads(b), writes(b)
    return not (wa & (rb | wb) or ra & wb)


def row_local(nest_a: Nest, nest_b: Nest) -> bool:
    """Whether, with one grid, no point of either touches what another point of the other does.

    Both nests have the same grid variables and extents. For every buffer that one writes and the other touches, all
    accesses must step through it alike from point to point, in strides larger than what one point touches.
    """
    a, b = accesses(nest_a), accesses(nest_b)
    shared = {x.buffer for x in a if x.writes} & {x.buffer for x in b} | {x.buffer for x in a} & {
        x.buffer for x in b if x.writes
    }
    extents = dict(zip(nest_a.variables, nest_a.extents, strict=True))
    return all(_apart([x for x in a + b if x.buffer == buffer], extents) for buffer in shared)


def _apart(found: list[Access], extents: dict[str, int]) -> bool:
    if any(x.at is None for x in found):
        return math.prod(extents.values()) == 1
    steps = {tuple(x.at.stride(g) for g in extents) for x in found if x.at is not None}
    if len(steps) > 1:
        return False
    (strides,) = steps
    low, high = zip(*(_range(x) for x in found), strict=True)
    span = max(high) - min(low) + 1
    for stride, extent in sorted((abs(s), n) for s, n in zip(strides, extents.values(), strict=True) if n > 1):
        if stride < span:
            return False
        span += (extent - 1) * stride
    return True


def _range(x: Access) -> tuple[int, int]:
    assert x.at is not None
    low = high = x.at.start
    for name, extent in x.inner:
        reach = x.at.stride(name) * max(extent - 1, 0)
        low, high = low + min(reach, 0), high + max(reach, 0)
    return low, high
