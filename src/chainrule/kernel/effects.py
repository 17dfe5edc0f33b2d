"""What a statement reads and writes, and where: the facts that fusion, schedule and memory planning rest on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from chainrule.kernel import (
    Affine,
    Gate,
    Gather,
    Gemm,
    LaneLoop,
    Load,
    Matrix,
    Nest,
    Repeat,
    Rows,
    Scalar,
    Statement,
    Together,
    walk,
)


class Access(NamedTuple):
    """One access of a nest to a buffer. at: None for a computed position, which may be anywhere."""

    buffer: int
    at: Affine | None
    writes: bool
    inner: tuple[tuple[str, int], ...]
    """Loop variables inside the grid, with their extents."""


def accesses(nest: Nest) -> list[Access]:
    """Every load and store of a nest, which keeps the list: every stage asks for it."""
    held = nest.__dict__
    if "accesses" not in held:
        held["accesses"] = [access for loop in nest.loops for access in _of_loop(loop)]
    found: list[Access] = held["accesses"]
    return found


def _of_loop(loop: LaneLoop) -> list[Access]:
    """Those of a loop, which keeps them too: a nest that other nests join is made anew with most of its loops."""
    held = loop.__dict__
    if "accesses" not in held:
        lanes = ((loop.variable, loop.extent),)
        found = []
        for serial in loop.serial:
            inner = lanes + tuple(zip(serial.variables, serial.extents, strict=True))
            values = [a.value for a in serial.accumulates] + [s.value for s in serial.stores]
            found += _of(values, serial.stores, inner)
        values = [s.value for s in loop.stores] + [a.value for a in loop.accumulates]
        held["accesses"] = found + _of(values, loop.stores, lanes)
    kept: list[Access] = held["accesses"]
    return kept


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


def reads(statement: Statement) -> frozenset[int]:
    """Buffers that a statement reads."""
    return _kept(statement, "reads", _read_by)


def writes(statement: Statement) -> frozenset[int]:
    """Buffers that a statement writes."""
    return _kept(statement, "writes", _written_by)


def _kept(statement: Statement, name: str, own: Callable[[Nest | Gemm | Gate], Iterable[int]]) -> frozenset[int]:
    """``own`` of a statement, or of those inside it. It keeps them by ``name``, as every stage asks again."""
    held = statement.__dict__
    if name not in held:
        if isinstance(statement, (Rows, Together, Repeat)):
            # A buffer that is a row is the buffer that it is a part of.
            rows = {m.buffer: m.of for m in statement.moving} if isinstance(statement, Repeat) else {}
            held[name] = frozenset(rows.get(b, b) for s in statement.statements for b in _kept(s, name, own))
        else:
            held[name] = frozenset(own(statement))
    found: frozenset[int] = held[name]
    return found


def _read_by(part: Nest | Gemm | Gate) -> Iterable[int]:
    if isinstance(part, Gate):
        return (part.buffer,)
    if isinstance(part, Gemm):
        return (part.left.buffer, part.right.buffer, *([part.result.buffer] if part.adds else []))
    return (a.buffer for a in accesses(part) if not a.writes)


def _written_by(part: Nest | Gemm | Gate) -> Iterable[int]:
    if isinstance(part, Gate):
        return ()
    return (part.result.buffer,) if isinstance(part, Gemm) else (s.buffer for s in part.stores())


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


class Shares(NamedTuple):
    """What a statement touches if its points are dealt out to rows, in order.

    own: the buffers of which each row touches its part alone, so many elements from row times so many. others: those
    of which this is not so.
    """

    own: frozenset[int]
    others: frozenset[int]


def shares(statement: Statement, rows: int, sizes: Callable[[int], int]) -> Shares | None:
    """How a nest or product deals its buffers out to ``rows``; None if it has no points to deal out.

    sizes: the number of elements of a buffer.
    """
    if isinstance(statement, Gemm):
        found = _of_product(statement, rows)
    elif isinstance(statement, Nest) and not statement.in_order:
        found = _of_nest(statement, rows)
    else:
        found = None
    if found is None:
        return None
    others = {b for b, span in found if span is None or not span.fits(sizes(b), rows)}
    return Shares(frozenset({b for b, _ in found} - others), frozenset(others))


class _Span(NamedTuple):
    """Where one access of a row lies: from row * step + low to row * step + high."""

    step: int
    low: int
    high: int

    def fits(self, size: int, rows: int) -> bool:
        return size == self.step * rows and self.low >= 0 and self.high < self.step


def _of_product(gemm: Gemm, rows: int) -> list[tuple[int, _Span | None]] | None:
    if 0 in (gemm.m, gemm.n, gemm.k):
        return None
    whole = gemm.batch % rows == 0
    if not whole and (gemm.batch > 1 or gemm.m % rows):
        return None
    each = gemm.batch // rows if whole else gemm.m // rows

    def span(matrix: Matrix, height: int, width: int) -> _Span:
        across = (width - 1) * matrix.column
        if whole:
            reach = (each - 1) * matrix.batch + (height - 1) * matrix.row + across
            return _Span(each * matrix.batch, matrix.start, matrix.start + reach)
        return _Span(each * matrix.row, matrix.start, matrix.start + (each - 1) * matrix.row + across)

    right = span(gemm.right, gemm.k, gemm.n) if whole else None
    return [
        (gemm.left.buffer, span(gemm.left, gemm.m, gemm.k)),
        (gemm.right.buffer, right),
        (gemm.result.buffer, span(gemm.result, gemm.m, gemm.n)),
    ]


def _of_nest(nest: Nest, rows: int) -> list[tuple[int, _Span | None]] | None:
    if nest.variables:
        first, *rest = zip(nest.variables, nest.extents, strict=True)
    elif nest.splits_lanes:
        first, rest = (nest.loops[0].variable, nest.loops[0].extent), []
    else:
        return None
    variable, extent = first
    if extent == 0 or extent % rows:
        return None
    found: list[tuple[int, _Span | None]] = []
    for x in accesses(nest):
        if x.at is None:
            found.append((x.buffer, None))
            continue
        low = high = x.at.start
        inner = [(name, points) for name, points in x.inner if name != variable]
        for name, points in (*rest, *inner, (variable, extent // rows)):
            reach = x.at.stride(name) * max(points - 1, 0)
            low, high = low + min(reach, 0), high + max(reach, 0)
        found.append((x.buffer, _Span(x.at.stride(variable) * (extent // rows), low, high)))
    return found
