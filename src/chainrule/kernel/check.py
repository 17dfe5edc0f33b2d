"""What makes a program legal: checked after lowering, fusion and memory planning, before any backend sees it."""

from __future__ import annotations

import math
from collections import Counter

from chainrule.errors import GraphError
from chainrule.kernel.effects import accesses, reads, shares, writes
from chainrule.kernel.program import (
    Accumulate,
    Gate,
    Gemm,
    LaneLoop,
    Matrix,
    Nest,
    Program,
    Repeat,
    Rows,
    Statement,
    Together,
    parts,
)
from chainrule.kernel.scalar import Load, Local, Scalar, Variable, check_scalar, walk
from chainrule.spec import BOOL


def check(program: Program, stage: str) -> Program:
    """The program itself; GraphError naming ``stage`` and the statement where it breaks a rule.

    Buffers exist and only what may be written is written; every access that no predicate guards stays inside its
    buffer; loop variables and Locals are defined where they are read, once; scalar operations are of the closed list;
    a gate reads a bool; what may run at once touches nothing that others write.
    """
    for i, statement in enumerate(program.statements):
        try:
            _check_statement(statement, program)
        except GraphError as error:
            raise GraphError(f"{stage} broke statement {i} of the program: {error}") from error
    return program


def _check_statement(statement: Statement, program: Program) -> None:
    for part in parts(statement):
        _check_part(part, program)
    if isinstance(statement, Rows):
        _check_rows(statement, program)
    elif isinstance(statement, Together):
        _check_together(statement)
    elif isinstance(statement, Repeat):
        _check_repeat(statement, program)
        for inner in statement.statements:
            _check_statement(inner, program)


def _check_repeat(repeat: Repeat, program: Program) -> None:
    """Rows lie inside what they are parts of, and what is written through one is touched through it alone."""
    touched = Counter(b for s in repeat.statements for b in reads(s) | writes(s))
    written = {b for s in repeat.statements for b in writes(s)}
    of = Counter(m.of for m in repeat.moving if m.buffer in touched)
    if any(isinstance(part, Gate) for part in parts(repeat)):
        raise GraphError("a gate stands among statements that are repeated")
    for m in repeat.moving:
        row, whole = program.buffers[m.buffer], program.buffers[m.of]
        if row.role != "row" or row.dtype != whole.dtype:
            raise GraphError(f"buffer {m.buffer}, {row.role} of {row.dtype}, moves along {m.of}, of {whole.dtype}")
        first, last = sorted((m.start, m.start + (repeat.turns - 1) * m.step))
        if row.size and not 0 <= first <= last <= whole.size - row.size:
            raise GraphError(f"rows of {row.size} begin at {first} to {last} of buffer {m.of}, which has {whole.size}")
        if m.buffer not in written:
            continue
        if whole.role in ("input", "constant"):
            raise GraphError(f"a row of buffer {m.of} is written, which is the program's {whole.role}")
        if of[m.of] > 1 or m.of in touched:
            raise GraphError(f"buffer {m.of} is written row by row and touched otherwise in the same turn")
        if abs(m.step) < row.size and repeat.turns > 1:
            raise GraphError(f"rows of {row.size} of buffer {m.of} are written {abs(m.step)} apart")


def _check_part(statement: Nest | Gemm | Gate, program: Program) -> None:
    if statement.__dict__.get("checked") is program.buffers:  # a stage before found it so, and it has not changed
        return
    _check_buffers(statement, program)
    if isinstance(statement, Nest):
        _check_nest(statement, program)
    elif isinstance(statement, Gemm):
        _check_gemm(statement, program)
    elif program.buffers[statement.buffer].dtype != BOOL:
        raise GraphError(f"a gate reads {program.buffers[statement.buffer].dtype}, not bool")
    statement.__dict__["checked"] = program.buffers


def _check_rows(statement: Rows, program: Program) -> None:
    written = writes(statement)
    for s in statement.statements:
        found = shares(s, statement.rows, lambda b: program.buffers[b].size)
        if found is None:
            raise GraphError(f"its points cannot be dealt out to {statement.rows} rows")
        if found.others & written:
            raise GraphError(f"rows meet in buffer {min(found.others & written)}, which is written among them")


def _check_together(statement: Together) -> None:
    read, written = set[int](), set[int]()
    for s in statement.statements:
        own_reads, own_writes = reads(s), writes(s)
        if written & (own_reads | own_writes) or read & own_writes:
            raise GraphError("two statements that run at once touch what one of them writes")
        read |= own_reads
        written |= own_writes


def _check_buffers(statement: Statement, program: Program) -> None:
    for b in reads(statement) | writes(statement):
        if not 0 <= b < len(program.buffers):
            raise GraphError(f"there is no buffer {b} among {len(program.buffers)}")
    for b in writes(statement):
        if program.buffers[b].role in ("input", "constant"):
            article = "an" if program.buffers[b].role == "input" else "a"
            raise GraphError(f"buffer {b} is {article} {program.buffers[b].role}, and is written")


def _check_nest(nest: Nest, program: Program) -> None:
    grid = dict(zip(nest.variables, nest.extents, strict=True))
    if math.prod(nest.extents) == 0:
        return
    known: set[str] = set()
    for loop in nest.loops:
        _check_loop(loop, grid, known)
    for access in accesses(nest):
        if access.at is None or any(extent == 0 for _, extent in access.inner):
            continue
        low = high = access.at.start
        extents = {**grid, **dict(access.inner)}
        for name, stride in access.at.strides:
            reach = stride * (extents[name] - 1)
            low, high = low + min(reach, 0), high + max(reach, 0)
        if 0 <= low <= high < program.buffers[access.buffer].size:
            continue
        if access.writes or not _guarded(nest, access.buffer, access.at):
            raise GraphError(f"positions {low} to {high} of buffer {access.buffer}, which has "
                             f"{program.buffers[access.buffer].size} elements")  # fmt: skip


def _guarded(nest: Nest, buffer: int, at: object) -> bool:
    found = [e for e in walk(*nest.values()) if isinstance(e, Load) and e.buffer == buffer and e.at == at]
    return all(e.where is not None for e in found)


def _check_loop(loop: LaneLoop, grid: dict[str, int], known: set[str]) -> None:
    inside: set[str] = set()
    for serial in loop.serial:
        variables = {*grid, loop.variable, *serial.variables}
        own = {a.name for a in serial.accumulates}
        for a in serial.accumulates:
            _check_value(a.value, variables, known | inside | own)
        _define(serial.accumulates, known | inside)
        inside |= own
        for s in serial.stores:
            _check_value(s.value, variables, known | inside)
    for value in [s.value for s in loop.stores] + [a.value for a in loop.accumulates]:
        _check_value(value, {*grid, loop.variable}, known | inside)
    _define(loop.accumulates, known | inside)
    known |= {a.name for a in loop.accumulates}


def _define(accumulates: tuple[Accumulate, ...], known: set[str]) -> None:
    for a in accumulates:
        if a.name in known:
            raise GraphError(f"the local {a.name} is made twice")


def _check_value(value: Scalar, variables: set[str], known: set[str]) -> None:
    check_scalar(value)
    for e in walk(value):
        names = [e.name] if isinstance(e, Variable) else [n for n, _ in e.at.strides] if isinstance(e, Load) else []
        for name in names:
            if name not in variables:
                raise GraphError(f"the loop variable {name} is not one of {', '.join(sorted(variables))}")
        if isinstance(e, Local) and e.name not in known:
            raise GraphError(f"the local {e.name} is read before it is made")


def _check_gemm(gemm: Gemm, program: Program) -> None:
    if 0 in (gemm.m, gemm.n, gemm.batch):
        return
    sides = ((gemm.left, gemm.m, gemm.k), (gemm.right, gemm.k, gemm.n), (gemm.result, gemm.m, gemm.n))
    dtypes = {program.buffers[m.buffer].dtype for m, _, _ in sides}
    if len(dtypes) > 1 or dtypes.pop().kind != "f":
        raise GraphError("a product of matrices needs one floating dtype")
    for matrix, rows, columns in sides:
        if rows and columns:
            _check_matrix(matrix, rows, columns, gemm.batch, program)


def _check_matrix(matrix: Matrix, rows: int, columns: int, batch: int, program: Program) -> None:
    last = matrix.start + (rows - 1) * matrix.row + (columns - 1) * matrix.column + (batch - 1) * matrix.batch
    size = program.buffers[matrix.buffer].size
    if matrix.start < 0 or not 0 <= last < size:
        raise GraphError(f"a matrix of {rows} x {columns} ends at {last} of buffer {matrix.buffer}, which has {size} "
                         "elements")  # fmt: skip
