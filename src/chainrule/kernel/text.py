"""Program -> text, for people and for tests."""

from __future__ import annotations

from chainrule.kernel.program import Accumulate, Gate, Gemm, Matrix, Nest, Program, Repeat, Statement, Store, Together
from chainrule.kernel.scalar import Affine, Const, Gather, Load, Local, Op, Scalar, Variable

_SIGNS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "less": "<", "less_equal": "<=", "greater": ">",
    "greater_equal": ">=", "equal": "==", "not_equal": "!=", "logical_and": "and", "logical_or": "or",
}  # fmt: skip


def program_text(program: Program) -> str:
    """Buffers, then statements as loops."""
    names = buffer_names(program)
    shown = [(i, b) for i, b in enumerate(program.buffers) if b.role not in ("scratch", "row")]
    lines = [f"{b.role} {names[i]}: {b.dtype.name}[{b.size}]" for i, b in shown]
    lines.append(f"scratch: {program.arena:,} bytes")
    for statement in program.statements:
        lines += _statement(statement, names)
    return "\n".join(lines)


def _statement(statement: Statement, names: list[str]) -> list[str]:
    if isinstance(statement, Gemm):
        return [_gemm(statement, names)]
    if isinstance(statement, Gate):
        return [f"stop unless {names[statement.buffer]}"]
    if isinstance(statement, Nest):
        return _nest(statement, names)
    if isinstance(statement, Repeat):
        rows = [f"  {names[m.buffer]} = {names[m.of]} from {m.start} + {m.step} t" for m in statement.moving]
        inner = [f"  {line}" for s in statement.statements for line in _statement(s, names)]
        return [f"for t in 0 to {statement.turns - 1}, in order:", *rows, *inner]
    inner = [f"  {line}" for s in statement.statements for line in _statement(s, names)]
    return ["together:" if isinstance(statement, Together) else f"for blocks of {statement.rows} rows:", *inner]


def buffer_names(program: Program) -> list[str]:
    """A name for each buffer: its own if it has one, else a letter for its role and its number."""
    return [b.name or f"{b.role[0]}{i}" for i, b in enumerate(program.buffers)]


def _gemm(g: Gemm, names: list[str]) -> str:
    def shown(m: Matrix, rows: int, columns: int) -> str:
        transposed = ".T" if m.row == 1 and m.column != 1 else ""
        start = f"+{m.start}" if m.start else ""
        return f"{names[m.buffer]}{start}[{rows}, {columns}]{transposed}"

    batch = f" for each of {g.batch}" if g.batch > 1 else ""
    sign = "+=" if g.adds else "="
    return f"{shown(g.result, g.m, g.n)} {sign} {shown(g.left, g.m, g.k)} @ {shown(g.right, g.k, g.n)}{batch}"


def _nest(nest: Nest, names: list[str]) -> list[str]:
    lines, depth = [], ""
    if nest.variables:
        lines.append(f"for {', '.join(nest.variables)} in grid {list(nest.extents)}:")
        depth = "  "
    for loop in nest.loops:
        lines.append(f"{depth}for {loop.variable} in lanes {loop.extent}:")
        for serial in loop.serial:
            lines.append(f"{depth}  for {', '.join(serial.variables) or '()'} in {list(serial.extents)}:")
            lines += [f"{depth}    {_accumulate(a, names)}" for a in serial.accumulates]
            lines += [f"{depth}    {_store(s, names)}" for s in serial.stores]
        lines += [f"{depth}  {_store(s, names)}" for s in loop.stores]
        lines += [f"{depth}  {_accumulate(a, names)}" for a in loop.accumulates]
    return lines


def _store(s: Store, names: list[str]) -> str:
    at = scalar_text(s.at, names) if isinstance(s.at, Scalar) else _affine(s.at)
    return f"{names[s.buffer]}[{at}] {'+=' if s.adds else '='} {scalar_text(s.value, names)}"


def _accumulate(a: Accumulate, names: list[str]) -> str:
    return f"{a.name} = {a.how}({scalar_text(a.value, names)})"


def _affine(at: Affine) -> str:
    terms = [name if s == 1 else f"{s} {name}" for name, s in at.strides]
    if at.start or not terms:
        terms.append(str(at.start))
    return " + ".join(terms)


def scalar_text(e: Scalar, names: list[str]) -> str:
    """An expression as people write it; meant for expressions of reading size."""
    if isinstance(e, Const):
        return f"{e.value:g}" if isinstance(e.value, float) else str(e.value)
    if isinstance(e, (Variable, Local)):
        return e.name
    if isinstance(e, Load):
        element = f"{names[e.buffer]}[{_affine(e.at)}]"
        return element if e.where is None else f"({element} if {scalar_text(e.where, names)} else {e.other})"
    if isinstance(e, Gather):
        return f"{names[e.buffer]}[{scalar_text(e.at, names)}]"
    assert isinstance(e, Op)
    parts = [scalar_text(a, names) for a in e.arguments]
    if e.name in _SIGNS:
        return f"({parts[0]} {_SIGNS[e.name]} {parts[1]})"
    if e.name == "where":
        return f"({parts[1]} if {parts[0]} else {parts[2]})"
    return f"{e.dtype.name if e.name == 'cast' else e.name}({', '.join(parts)})"
