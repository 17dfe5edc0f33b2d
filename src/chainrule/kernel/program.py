"""A program: buffers, and the statements that fill them, in order. Everything that a backend sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from chainrule.kernel.scalar import Affine, Scalar


@dataclass(frozen=True)
class Buffer:
    """Memory for ``size`` elements.

    role: "input" and "output" are given by the caller; "constant" holds ``values``; "scratch" lives in the arena; "row"
    is a part of another buffer that moves from turn to turn of a `Repeat`.
    """

    size: int
    dtype: np.dtype
    role: str
    name: str = ""
    values: np.ndarray | None = None
    offset: int = 0
    """Of scratch: where in the arena it begins, in bytes."""


@dataclass(frozen=True)
class Store:
    """buffer[at] = value, for each point. A bool buffer holds a byte, 0 or 1.

    at: an affine position that is always inside, or a computed one (int64 Scalar), which outside [0, size) stores
    nothing. adds: buffer[at] += value instead; with a computed position points may meet, so they run in order.
    """

    buffer: int
    at: Affine | Scalar
    value: Scalar
    adds: bool = False


@dataclass(frozen=True)
class Accumulate:
    """Join ``value`` over a loop into the Local called ``name``; ``how`` is one of scalar.REDUCTIONS."""

    name: str
    how: str
    value: Scalar


@dataclass(frozen=True)
class SerialLoop:
    """for each point of ``extents`` in row-major order: accumulate, then store. Runs inside a lane.

    Its Locals keep one value a lane; a store here sees what has been accumulated so far (a running sum).
    """

    variables: tuple[str, ...]
    extents: tuple[int, ...]
    accumulates: tuple[Accumulate, ...]
    stores: tuple[Store, ...] = ()


@dataclass(frozen=True)
class LaneLoop:
    """for each ``variable`` in [0, extent), 16 at a time: the serial loops, then stores, then accumulate over lanes.

    Locals of ``serial`` loops are seen by what follows in this loop. Locals of ``accumulates`` are one value for the
    whole loop, seen by later loops of the nest; their sum is a fixed tree: lane k adds the elements k, k + 16, ... in
    order, then lanes are joined 0 with 8, 1 with 9, ...; then 0 with 4, ...; 0 with 2; 0 with 1.
    """

    variable: str
    extent: int
    serial: tuple[SerialLoop, ...] = ()
    stores: tuple[Store, ...] = ()
    accumulates: tuple[Accumulate, ...] = ()


@dataclass(frozen=True)
class Nest:
    """for each point of the grid, in any order and on any thread: its loops one after another.

    Grid points are independent: no point reads what another stores.
    ``splits_lanes``: there is one loop without ``accumulates``, so threads may share its lanes as well.
    """

    variables: tuple[str, ...]
    extents: tuple[int, ...]
    loops: tuple[LaneLoop, ...]

    @property
    def splits_lanes(self) -> bool:
        return len(self.loops) == 1 and not self.loops[0].accumulates

    @property
    def in_order(self) -> bool:
        """Whether points may meet in one element, so that one thread must run them in order."""
        return any(s.adds and isinstance(s.at, Scalar) for s in self.stores())

    def stores(self) -> list[Store]:
        found: list[Store] = []
        for loop in self.loops:
            found.extend(s for serial in loop.serial for s in serial.stores)
            found.extend(loop.stores)
        return found

    def accumulations(self) -> list[Accumulate]:
        found: list[Accumulate] = []
        for loop in self.loops:
            found.extend(a for serial in loop.serial for a in serial.accumulates)
            found.extend(loop.accumulates)
        return found

    def values(self) -> list[Scalar]:
        """Every expression at the top of a store or accumulation, computed positions among them."""
        found = []
        for s in self.stores():
            found.append(s.value)
            if isinstance(s.at, Scalar):
                found.append(s.at)
        return found + [a.value for a in self.accumulations()]


@dataclass(frozen=True)
class Matrix:
    """A matrix of a buffer: element (i, j) of batch entry b is at start + b * batch + i * row + j * column.

    One of row and column is 1 for what BLAS can read in place.
    """

    buffer: int
    start: int
    row: int
    column: int
    batch: int = 0


@dataclass(frozen=True)
class Gemm:
    """result[m, n] = left[m, k] @ right[k, n], for each of ``batch`` entries. Floating, all of one dtype.

    adds: result += instead.
    """

    m: int
    n: int
    k: int
    left: Matrix
    right: Matrix
    result: Matrix
    batch: int = 1
    adds: bool = False


@dataclass(frozen=True)
class Gate:
    """Go on only if the bool in ``buffer`` is true; otherwise the program ends here and says so."""

    buffer: int


@dataclass(frozen=True)
class Rows:
    """for each block of the ``rows``, in any order and on any thread: all statements, each on its share.

    The points of a statement (of its grid; its lanes, if it has no grid; the rows of all batch entries of a product)
    are a multiple of ``rows`` and belong to them in order. What one row's statements touch of a buffer that any of
    them writes, no other row's do.
    """

    rows: int
    statements: tuple[Nest | Gemm, ...]


@dataclass(frozen=True)
class Together:
    """Statements of which none touches what another writes: in any order, and at once."""

    statements: tuple[Nest | Gemm, ...]


@dataclass(frozen=True)
class Moving:
    """What a buffer of role "row" is: in turn t, the elements of the buffer ``of`` from ``start + t * step``."""

    buffer: int
    of: int
    start: int
    step: int


@dataclass(frozen=True)
class Repeat:
    """for each of the ``turns``, one after another: all statements, on the rows of this turn.

    moving: the rows that are its own. What one of them writes of a buffer, nothing else inside touches.
    """

    turns: int
    moving: tuple[Moving, ...]
    statements: tuple[Statement, ...]


Statement = Nest | Gemm | Gate | Rows | Together | Repeat


def parts(statement: Statement) -> tuple[Nest | Gemm | Gate, ...]:
    """What a statement is made of; itself if it is not made of others."""
    if isinstance(statement, (Rows, Together)):
        return statement.statements
    if isinstance(statement, Repeat):
        return tuple(part for s in statement.statements for part in parts(s))
    return (statement,)


@dataclass(frozen=True)
class Program:
    """Statements, one after another. ``inputs`` and ``outputs`` index ``buffers`` in the order of the graph's own."""

    buffers: tuple[Buffer, ...]
    statements: tuple[Statement, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    arena: int = 0
    """Bytes of scratch that a run needs."""

    def each(self) -> Iterator[Nest | Gemm | Gate]:
        """The statements in order, those inside others among them."""
        for statement in self.statements:
            yield from parts(statement)

    def __str__(self) -> str:
        from chainrule.kernel.text import program_text

        return program_text(self)
