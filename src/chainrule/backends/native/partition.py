"""Which blocks statements are cut into for threads: by shapes alone, so that bits never depend on threads."""

from __future__ import annotations

import math
from collections.abc import Iterable

from chainrule.backends.native.gemm import gemm_blocks
from chainrule.kernel import Gate, Gather, Gemm, Load, Nest, Op, Rows, Scalar, walk
from chainrule.kernel.effects import writes

GEMM_FLOPS_PER_NS = 150.0
"""One core of the machine that this was measured on, float32."""

VECTOR_NS = 0.35
"""One simple operation, load or store on 16 lanes."""

FUNCTION_NS = 5.0
"""One elementary function (exp, log, ...) or gather on 16 lanes."""

BLOCK_NS = 3_000.0
"""What a block should cost at least: about ten times the price of handing it over."""

MOST_BLOCKS = 8
MOST_ROW_BLOCKS = 8
FEWEST_ROWS = 32
"""Of a block of rows, where there are more than two blocks: each reads, and packs, all weights."""
LANES_TOGETHER = 256
"""Cuts along lanes fall on multiples of this many."""

FUNCTIONS = {"exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "erf", "pow", "philox0", "philox1"}

Range = tuple[int, int, int, int]
"""First and last grid point, first and last lane; the last ones not included."""


def cost_of(statement: Nest | Gemm | Gate) -> float:
    """Nanoseconds on one core, about. A nest keeps it: it is asked for again and again."""
    if isinstance(statement, Gemm):
        return gemm_cost(statement)
    if not isinstance(statement, Nest):
        return 0.0
    held = statement.__dict__
    if "cost" not in held:
        held["cost"] = nest_cost(statement)
    found: float = held["cost"]
    return found


def blocks(statement: Nest | Gemm) -> list[Range]:
    """Ranges that cover a nest or a product once."""
    if isinstance(statement, Gemm):
        return list(gemm_blocks(statement))
    return nest_blocks(statement, cost_of(statement))


def from_both_ends(statements: Iterable[Nest | Gemm]) -> list[tuple[Nest | Gemm, Range]]:
    """The blocks of statements that run at once, in an order for threads that take them from both ends.

    What takes long begins early, so that no thread waits for it alone; of what takes equally long the half that lies
    first in memory comes first, so that a thread stays in the part that it knows. (Outputs are numbered before other
    buffers and in their order, which for gradients is that of the parameters in flat memory.)
    """
    alike: dict[float, list[Nest | Gemm]] = {}
    for statement in sorted(statements, key=lambda s: min(writes(s), default=0)):
        alike.setdefault(cost_of(statement), []).append(statement)
    front, back = list[tuple[Nest | Gemm, Range]](), list[tuple[Nest | Gemm, Range]]()
    given = [0.0, 0.0]
    for cost, equals in sorted(alike.items(), reverse=True):
        own = [(statement, where) for statement in equals for where in blocks(statement)]
        extra = len(own) % 2 if given[0] <= given[1] else 0
        half = len(own) // 2 + extra
        front += own[:half]
        back += reversed(own[half:])
        each = cost * len(equals) / max(len(own), 1)
        given = [given[0] + each * half, given[1] + each * (len(own) - half)]
    return [*front, *reversed(back)]


def row_blocks(rows: Rows, most: int) -> list[tuple[Range, ...]]:
    """For each block of rows, at most so many, the range of each statement."""
    each = rows.rows if most == 1 else max(-(-rows.rows // most), min(FEWEST_ROWS, -(-rows.rows // 2)))
    bounds = [(a, min(a + each, rows.rows)) for a in range(0, rows.rows, each)]
    return [tuple(_share(s, rows.rows, a, b) for s in rows.statements) for a, b in bounds]


def _share(statement: Nest | Gemm, rows: int, first: int, last: int) -> Range:
    if isinstance(statement, Gemm):
        points, lanes = statement.batch * statement.m, statement.n
    else:
        points, lanes = math.prod(statement.extents), statement.loops[0].extent if statement.splits_lanes else 0
    if isinstance(statement, Nest) and not statement.variables:
        return 0, 1, first * lanes // rows, last * lanes // rows
    return first * points // rows, last * points // rows, 0, lanes


def gemm_cost(gemm: Gemm) -> float:
    """Nanoseconds on one core, about."""
    return 2.0 * gemm.batch * gemm.m * gemm.n * gemm.k / GEMM_FLOPS_PER_NS


def nest_cost(nest: Nest) -> float:
    """Nanoseconds on one core, about."""
    total = 0.0
    for loop in nest.loops:
        vectors = -(-loop.extent // 16)
        for serial in loop.serial:
            values = [a.value for a in serial.accumulates] + [s.value for s in serial.stores]
            total += vectors * math.prod(serial.extents) * (_cost(values) + len(serial.stores) * VECTOR_NS)
        values = [s.value for s in loop.stores] + [a.value for a in loop.accumulates]
        total += vectors * (_cost(values) + len(loop.stores) * VECTOR_NS)
    return total * math.prod(nest.extents)


def _cost(values: list[Scalar]) -> float:
    """Of one vector of all values."""
    total = 0.0
    for e in walk(*values):
        if isinstance(e, Gather) or (isinstance(e, Op) and e.name in FUNCTIONS):
            total += FUNCTION_NS
        elif isinstance(e, (Op, Load)):
            total += VECTOR_NS
    return total


def nest_blocks(nest: Nest, cost: float) -> list[Range]:
    """Ranges that cover the nest once."""
    points = math.prod(nest.extents)
    lanes = nest.loops[0].extent if nest.splits_lanes else 0
    parts = min(MOST_BLOCKS, int(cost // BLOCK_NS))
    if nest.in_order or parts < 2:
        return [(0, points, 0, lanes)]
    if points >= parts:
        each = -(-points // parts)
        return [(a, min(a + each, points), 0, lanes) for a in range(0, points, each)]
    if lanes >= 2 * LANES_TOGETHER:
        each = -(-lanes // (parts * LANES_TOGETHER)) * LANES_TOGETHER
        return [(0, points, a, min(a + each, lanes)) for a in range(0, lanes, each)]
    return [(a, a + 1, 0, lanes) for a in range(points)]
