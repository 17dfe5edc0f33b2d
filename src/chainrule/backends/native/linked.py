"""Programs one after another as one table: machine code, memory for scratch, and the way to run it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from chainrule.backends.native import build
from chainrule.backends.native.address import address
from chainrule.backends.native.emit import NestCode, Places, code_of
from chainrule.backends.native.gemm import gemm_params
from chainrule.backends.native.partition import MOST_ROW_BLOCKS, Range, cost_of, from_both_ends, row_blocks
from chainrule.backends.native.products import Loaded, Piece, load_products, pieces_of, pieces_of_less
from chainrule.backends.native.runtime import bind
from chainrule.backends.native.runtime_code import runtime_module
from chainrule.backends.native.table import Block, Gate, Group, Table, Task, pack
from chainrule.kernel import Buffer, Gemm, Matrix, Nest, Program, Repeat, Rows, Statement, Together, parts
from chainrule.kernel import Gate as GateStatement
from chainrule.memory import aligned_zeros

SERIAL_BELOW = 25_000.0
"""ns: programs that cost less than this run on one thread without barriers: what threads exchange through their caches
eats up what they share. Above it that depends on the machine, and the runtime sees whether sharing pays."""


@dataclass(frozen=True)
class Named:
    """A program whose inputs and outputs have names; the same name is the same memory. doomed: see `link.Part`."""

    program: Program
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    doomed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Placed:
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


class NativeLinked:
    """Machine code for programs and stops in order; a part that is a str ends the run unless that bool is true."""

    def __init__(self, programs: Sequence[Named | str]) -> None:
        self.buffers: list[Buffer] = []
        self.slots: dict[str, list[int]] = {}
        self.arena = 0
        placed: list[_Placed | Gate] = []
        for part in programs:
            if isinstance(part, str):
                placed.append(Gate(self.slots[part][0]))
                continue
            base = len(self.buffers)
            self.buffers += part.program.buffers
            self.arena = max(self.arena, part.program.arena)
            written, read = (
                dict(zip(names, buffers, strict=True))
                for names, buffers in ((part.outputs, part.program.outputs), (part.inputs, part.program.inputs))
            )
            doomed = {written[y]: read[x] for y, x in part.doomed}
            placed.append(_Placed(part.program, base, doomed))
            for names, indices in ((part.inputs, part.program.inputs), (part.outputs, part.program.outputs)):
                for name, i in zip(names, indices, strict=True):
                    self.slots.setdefault(name, []).append(base + i)
        programs_in_order = [p.program for p in placed if isinstance(p, _Placed)]
        self.codes = [code for program in programs_in_order for code in _codes(program).values()]
        pieces = [piece for program in programs_in_order for piece in _pieces(program)]
        modules = [*(piece.module for piece in pieces), *(code.module for code in self.codes), runtime_module()]
        addresses = build.load(modules)
        self.table = _table(placed, addresses, load_products(pieces))
        # While the program runs, and last, so that nobody waits for it.
        build.begin(p.module for program in programs_in_order for p in _of_products(program, pieces_of_less))

    @property
    def source(self) -> str:
        """The LLVM IR of every nest, each once."""
        return "\n".join({code.name: code.text for code in self.codes}.values())

    def bind(self, memory: Mapping[str, np.ndarray], tables: Mapping[str, np.ndarray]) -> NativeBound:
        """Join the machine code to arrays by name (see ``compiler.link.Linked``); every name must be there."""
        return NativeBound(self, memory, tables)


def _table(placed: Sequence[_Placed | Gate], functions: dict[str, int], products: dict[np.dtype, Loaded]) -> Table:
    statements = [s for p in placed if isinstance(p, _Placed) for s in p.program.statements]
    serial = sum(map(_cost, statements)) < SERIAL_BELOW
    entries: list[Group | Gate] = []
    for each in placed:
        if isinstance(each, Gate):
            entries.append(each)
        else:
            entries += _Entries(each, functions, products, serial).of(each.program.statements)
    return pack(entries, serial)


def _cost(statement: Statement) -> float:
    if isinstance(statement, Repeat):
        return statement.turns * sum(map(_cost, statement.statements))
    return sum(map(cost_of, parts(statement)))


class _Entries:
    """The entries of a program: those of a `Repeat` once for each turn, with the rows of that turn."""

    def __init__(
        self, placed: _Placed, functions: dict[str, int], products: dict[np.dtype, Loaded], serial: bool
    ) -> None:
        self.program, self.base, self.serial = placed.program, placed.base, serial
        self.doomed = {} if serial else placed.doomed
        self.functions, self.products = functions, products
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
            code = self.products[self.program.buffers[part.result.buffer].dtype]
            return Task(code.task, gemm_params(_in_turn(part, rows) if rows else part, code.table, self.base), *where)
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


class NativeBound:
    """A table joined to memory."""

    def __init__(
        self, linked: NativeLinked, memory: Mapping[str, np.ndarray], tables: Mapping[str, np.ndarray]
    ) -> None:
        self.linked, self.held, self.tables = linked, dict(memory), dict(tables)
        self.scratch = aligned_zeros(linked.arena, np.uint8)
        self.constants = [np.ascontiguousarray(b.values, b.dtype) for b in linked.buffers if b.values is not None]
        self.slots = np.zeros(max(len(linked.buffers), 1), np.int64)
        advances = np.zeros_like(self.slots)
        constants = iter(self.constants)
        for i, buffer in enumerate(linked.buffers):
            if buffer.role == "scratch":
                self.slots[i] = self.scratch.ctypes.data + buffer.offset
            elif buffer.values is not None:
                self.slots[i] = next(constants).ctypes.data
        for name, indices in linked.slots.items():
            array = self.tables[name] if name in self.tables else self.held[name]
            self.slots[indices] = array.ctypes.data
            if name in self.tables and len(array):
                advances[indices] = array[0].nbytes
        self.first, self.moving = self.slots.copy(), np.flatnonzero(advances)
        self.run = bind(linked.table, self.slots, advances).repeat
        """Run so many steps; how many were whole."""

    def point(self, name: str, array: np.ndarray) -> None:
        """From now on ``name`` is this array."""
        if self.held.get(name) is array:
            return
        self.held[name] = array
        at = address(array)
        for slot in self.linked.slots[name]:
            self.slots[slot] = self.first[slot] = at

    def rewind(self) -> None:
        """The next step is the tables' first."""
        self.slots[self.moving] = self.first[self.moving]
