"""Programs one after another -> the plan of how they run: their machine code, its tasks, blocks and groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from chainrule.backends.native import build
from chainrule.backends.native.emit import NestCode, Places, code_of
from chainrule.backends.native.gemm import PARAMETERS, gemm_params
from chainrule.backends.native.linked import Plan
from chainrule.backends.native.partition import MOST_ROW_BLOCKS, Range, cost_of, from_both_ends, row_blocks
from chainrule.backends.native.products import Piece, pieces_of, pieces_of_less
from chainrule.backends.native.runtime_code import runtime_module
from chainrule.backends.native.table import Block, Gate, Group, Table, Task, pack
from chainrule.kernel import Buffer, Gemm, Matrix, Nest, Program, Repeat, Rows, Statement, Together, parts
from chainrule.kernel import Gate as GateStatement

SERIAL_BELOW = 25_000.0
"""ns: programs that cost less than this run on one thread without barriers: what threads exchange through their caches
eats up what they share. Above it that depends on the machine, and the runtime sees whether sharing pays."""


class Named(NamedTuple):
    """A program whose inputs and outputs have names; the same name is the same memory. doomed: see `link.Part`."""

    program: Program
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    doomed: tuple[tuple[str, str], ...] = ()


class _Placed(NamedTuple):
    """A program whose buffers' slots are numbered from ``base``. doomed: buffers, as in `Named`."""

    program: Program
    base: int
    doomed: Mapping[int, int]


def begin(program: Program) -> None:
    """Let the machine code of a program be made while the caller goes on."""
    build.begin(piece.module for piece in _pieces(program))
    build.begin(code.module for code in _codes(program).values())


def _pieces(program: Program) -> list[Piece]:
    """Of the code for products, each once. The program keeps them, too."""
    held = program.__dict__
    if "pieces" not in held:
        held["pieces"] = _of_products(program, pieces_of)
    found: list[Piece] = held["pieces"]
    return found


def _of_products(program: Program, pieces: Callable[[Gemm, np.dtype], list[Piece]]) -> list[Piece]:
    products = ((p, program.buffers[p.result.buffer].dtype) for p in program.each() if isinstance(p, Gemm))
    return list(dict.fromkeys(piece for product in products for piece in pieces(*product)))


def _codes(program: Program) -> dict[int, NestCode]:
    """id of a nest -> its code. The program keeps them: variants of a step share their gate and update."""
    held = program.__dict__
    if "codes" not in held:
        nests = (p for p in program.each() if isinstance(p, Nest))
        held["codes"] = {id(nest): code_of(nest, program.buffers) for nest in nests}
    found: dict[int, NestCode] = held["codes"]
    return found


def plan(programs: Sequence[Named | str]) -> Plan:
    """The plan of programs and stops in order, with all its code made; a str ends the run unless that bool is true."""
    buffers, slots = list[Buffer](), dict[str, list[int]]()
    placed: list[_Placed | Gate] = []
    for part in programs:
        if isinstance(part, str):
            placed.append(Gate(slots[part][0]))
            continue
        base = len(buffers)
        buffers += part.program.buffers
        written, read = (
            dict(zip(names, numbers, strict=True))
            for names, numbers in ((part.outputs, part.program.outputs), (part.inputs, part.program.inputs))
        )
        placed.append(_Placed(part.program, base, {written[y]: read[x] for y, x in part.doomed}))
        for names, numbers in ((part.inputs, part.program.inputs), (part.outputs, part.program.outputs)):
            for name, i in zip(names, numbers, strict=True):
                slots.setdefault(name, []).append(base + i)
    in_order = [p.program for p in placed if isinstance(p, _Placed)]
    pieces = list(dict.fromkeys(piece for program in in_order for piece in _pieces(program)))
    codes = {code.name: code for program in in_order for code in _codes(program).values()}
    modules = [*(p.module for p in pieces), *(c.module for c in codes.values()), runtime_module()]
    build.load(modules)
    functions = _Functions()
    table = _table(placed, functions)
    # While the program runs, and last, so that nobody waits for it.
    build.begin(p.module for program in in_order for p in _of_products(program, pieces_of_less))
    return Plan(
        modules=tuple(map(build.kept, modules)),
        places=tuple(place for piece in pieces for place in piece.places),
        functions=tuple(functions),
        table=table,
        products=tuple((d, _read_of_places(table, functions, d)) for d in sorted({p.dtype for p in pieces})),
        slots=slots,
        buffers=len(buffers),
        arena=max((program.arena for program in in_order), default=0),
        scratch=tuple((i, b.offset) for i, b in enumerate(buffers) if b.role == "scratch"),
        constants=tuple(
            (i, np.ascontiguousarray(b.values, b.dtype)) for i, b in enumerate(buffers) if b.values is not None
        ),
    )


def source(program: Program) -> str:
    """The LLVM IR of every nest, each once."""
    return "\n".join({code.name: code.text for code in _codes(program).values()}.values())


class _Functions(dict[str, int]):
    """Numbers for the names of functions, in the order in which they are met."""

    def __missing__(self, name: str) -> int:
        self[name] = len(self)
        return self[name]


def _table(placed: Sequence[_Placed | Gate], functions: _Functions) -> Table:
    """With numbers for functions, and for params how many bytes they begin after the first."""
    statements = [s for p in placed if isinstance(p, _Placed) for s in p.program.statements]
    serial = sum(map(_cost, statements)) < SERIAL_BELOW
    entries: list[Group | Gate] = []
    for each in placed:
        if isinstance(each, Gate):
            entries.append(each)
        else:
            entries += _Entries(each, functions, serial).of(each.program.statements)
    table = pack(entries, serial)
    table.tasks[:, 1] -= table.params.ctypes.data
    return table


def _read_of_places(table: Table, functions: Mapping[str, int], dtype: str) -> np.ndarray:
    """Which params hold the address of the table of code for products of a dtype."""
    own = table.tasks[:, 0] == functions.get(_product(dtype), -1)
    begins = sorted(set(table.tasks[own, 1].tolist()))  # np.unique would load numpy.ma, which takes 8 ms
    return np.array(begins, np.int64) // table.params.itemsize + PARAMETERS.index("table")


def _product(dtype: str) -> str:
    """The function of tasks that are products."""
    return f"chainrule_gemm_{dtype}"


def _cost(statement: Statement) -> float:
    if isinstance(statement, Repeat):
        return statement.turns * sum(map(_cost, statement.statements))
    return sum(map(cost_of, parts(statement)))


class _Entries:
    """The entries of a program: those of a `Repeat` once for each turn, with the rows of that turn."""

    def __init__(self, placed: _Placed, functions: _Functions, serial: bool) -> None:
        self.program, self.base, self.functions, self.serial = placed.program, placed.base, functions, serial
        self.doomed = {} if serial else placed.doomed
        self.codes = _codes(placed.program)
        self.cut: dict[int, list[list[tuple[Nest | Gemm, Range]]]] = {}

    def of(self, statements: Iterable[Statement], rows: Places = MappingProxyType({})) -> list[Group | Gate]:
        entries: list[Group | Gate] = []
        for statement in statements:
            if isinstance(statement, GateStatement):
                entries.append(Gate(self.base + statement.buffer))
            elif isinstance(statement, Repeat):
                for turn in range(statement.turns):
                    entries += self.of(statement.statements, {**rows, **_rows_of(statement, turn, rows)})
            else:
                blocks = [Block(tuple(self.tasks(block, rows))) for block in self.blocks(statement)]
                entries.append(Group(tuple(blocks), _cost(statement)))
        return entries

    def blocks(self, statement: Nest | Gemm | Rows | Together) -> list[list[tuple[Nest | Gemm, Range]]]:
        """What the blocks of a statement do, which is the same in every turn."""
        if id(statement) not in self.cut:
            if isinstance(statement, Rows):
                shares = row_blocks(statement, 1 if self.serial else MOST_ROW_BLOCKS)
                found = [list(zip(statement.statements, share, strict=True)) for share in shares]
            else:
                alone = statement.statements if isinstance(statement, Together) else (statement,)
                found = [[block] for block in from_both_ends(alone)]
            self.cut[id(statement)] = found
        return self.cut[id(statement)]

    def tasks(self, block: Iterable[tuple[Nest | Gemm, Range]], rows: Places) -> Iterator[Task]:
        for part, where in block:
            yield self.task(part, where, rows)
            if isinstance(part, Gemm) and part.result.buffer in self.doomed and part.batch == part.result.column == 1:
                yield self.touch(part.result, where)

    def touch(self, result: Matrix, where: Range) -> Task:
        """Take what is doomed from other cores, at the places that a product has just written."""
        doomed = self.doomed[result.buffer]
        size = self.program.buffers[doomed].dtype.itemsize
        params = (self.base + doomed, result.start * size, result.row * size, size)
        return Task(self.functions["chainrule_touch"], params, *where)

    def task(self, part: Nest | Gemm, where: Range, rows: Places) -> Task:
        if isinstance(part, Gemm):
            function = self.functions[_product(self.program.buffers[part.result.buffer].dtype.name)]
            return Task(function, gemm_params(_in_turn(part, rows) if rows else part, 0, self.base), *where)
        nest = self.codes[id(part)]
        return Task(self.functions[nest.name], nest.params_at(self.base, rows), *where)


def _rows_of(repeat: Repeat, turn: int, outer: Places) -> Places:
    """Where the rows of a turn lie, in buffers that are no rows themselves."""
    found = {}
    for m in repeat.moving:
        of, begin = outer.get(m.of, (m.of, 0))
        found[m.buffer] = (of, begin + m.start + turn * m.step)
    return found


def _in_turn(gemm: Gemm, rows: Places) -> Gemm:
    def placed(matrix: Matrix) -> Matrix:
        of, begin = rows.get(matrix.buffer, (matrix.buffer, 0))
        return replace(matrix, buffer=of, start=matrix.start + begin)

    return replace(gemm, left=placed(gemm.left), right=placed(gemm.right), result=placed(gemm.result))
