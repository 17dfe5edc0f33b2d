"""One program after another in one numbering of buffers."""

from __future__ import annotations

from dataclasses import replace

from chainrule.kernel.program import Accumulate, Gate, Gemm, LaneLoop, Matrix, Rows, SerialLoop, Statement, Store, Together
from chainrule.kernel.scalar import Gather, Load, Op, Scalar, walk


def renumbered(statement: Statement, base: int) -> Statement:
    """The same statement on buffers numbered from ``base``."""
    if base == 0:
        return statement
    if isinstance(statement, Gate):
        return Gate(statement.buffer + base)
    if isinstance(statement, (Rows, Together)):
        return replace(statement, statements=tuple(renumbered(s, base) for s in statement.statements))
    if isinstance(statement, Gemm):
        left, right, result = (_matrix(m, base) for m in (statement.left, statement.right, statement.result))
        return replace(statement, left=left, right=right, result=result)
    return replace(statement, loops=tuple(_loop(loop, base) for loop in statement.loops))


def _matrix(matrix: Matrix, base: int) -> Matrix:
    return replace(matrix, buffer=matrix.buffer + base)


def _loop(loop: LaneLoop, base: int) -> LaneLoop:
    return replace(
        loop,
        serial=tuple(_serial(s, base) for s in loop.serial),
        stores=tuple(_store(s, base) for s in loop.stores),
        accumulates=tuple(Accumulate(a.name, a.how, _scalar(a.value, base)) for a in loop.accumulates),
    )


def _serial(serial: SerialLoop, base: int) -> SerialLoop:
    return replace(
        serial,
        accumulates=tuple(Accumulate(a.name, a.how, _scalar(a.value, base)) for a in serial.accumulates),
        stores=tuple(_store(s, base) for s in serial.stores),
    )


def _store(store: Store, base: int) -> Store:
    at = _scalar(store.at, base) if isinstance(store.at, Scalar) else store.at
    return replace(store, buffer=store.buffer + base, at=at, value=_scalar(store.value, base))


def _scalar(root: Scalar, base: int) -> Scalar:
    done: dict[Scalar, Scalar] = {}
    for e in walk(root):
        if isinstance(e, Load):
            done[e] = replace(e, buffer=e.buffer + base, where=None if e.where is None else done[e.where])
        elif isinstance(e, Gather):
            done[e] = replace(e, buffer=e.buffer + base, at=done[e.at])
        elif isinstance(e, Op):
            done[e] = replace(e, arguments=tuple(done[a] for a in e.arguments))
        else:
            done[e] = e
    return done[root]
