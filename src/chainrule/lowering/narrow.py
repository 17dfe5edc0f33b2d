"""Narrow nests: where rows are short and many, lanes go along the rows, and what went along lanes goes one by one."""

from __future__ import annotations

from dataclasses import replace

from chainrule.kernel import LaneLoop, Nest, Program, Repeat, SerialLoop, Statement, walk

NARROW = 4
"""Elements of a row up to which 16 rows at a time are faster, as measured: rows of 2 took a sixth of the time."""

FEWEST = 16
"""Rows that fill a vector."""


def turned(program: Program) -> Program:
    """The program with its narrow nests turned."""
    return replace(program, statements=tuple(map(_turned, program.statements)))


def _turned(statement: Statement) -> Statement:
    if isinstance(statement, Repeat):
        return replace(statement, statements=tuple(map(_turned, statement.statements)))
    if not isinstance(statement, Nest) or not _is_narrow(statement):
        return statement
    row, serial = statement.variables[-1], list[SerialLoop]()
    for loop in statement.loops:
        serial += [
            SerialLoop((loop.variable, *s.variables), (loop.extent, *s.extents), s.accumulates, s.stores)
            for s in loop.serial
        ]
        serial.append(SerialLoop((loop.variable,), (loop.extent,), loop.accumulates, loop.stores))
    loop = LaneLoop(row, statement.extents[-1], tuple(s for s in serial if s.accumulates or s.stores))
    return Nest(statement.variables[:-1], statement.extents[:-1], (loop,))


def _is_narrow(nest: Nest) -> bool:
    if not nest.extents or nest.extents[-1] < FEWEST or nest.in_order:
        return False
    return all(loop.extent <= NARROW and _turns(loop) for loop in nest.loops)


def _turns(loop: LaneLoop) -> bool:
    """Whether the loop means the same element by element.

    Its accumulations then see the stores that come before them, so what it reads must not be what it stores; and a
    serial loop's Local, one value a lane, would have to be kept for each element.
    """
    if loop.serial and loop.extent > 1:
        return False
    stored = {s.buffer for s in loop.stores}
    return not any(getattr(e, "buffer", None) in stored for a in loop.accumulates for e in walk(a.value))
