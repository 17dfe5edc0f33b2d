"""Several graphs run one after another on named memory, as one callable: what a step of training is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from chainrule.compiler.kept import Planned, keep, kept
from chainrule.compiler.key import key_of
from chainrule.compiler.parts import Part, Parts, Stop
from chainrule.errors import GraphError
from chainrule.graph import Graph, collector_paused, evaluator, placeholder
from chainrule.kernel import Nest, Program, Repeat, Statement, parts
from chainrule.kernel.effects import reads, writes
from chainrule.lowering import lower
from chainrule.memory import aligned_zeros
from chainrule.rewrite import rewrite
from chainrule.spec import TensorSpec

if TYPE_CHECKING:
    from chainrule.backends.native.linked import NativeLinked


Memory = Mapping[str, np.ndarray]


class Bound(Protocol):
    """Parts joined to their memory."""

    def point(self, name: str, array: np.ndarray) -> None:
        """From now on ``name`` is this array, which the caller keeps."""

    def rewind(self) -> None:
        """The next step is the tables' first."""

    def run(self, steps: int) -> int:
        """Run all parts ``steps`` times; how many of them were whole. A Stop ends the run before its next part.

        Step t, counted since ``rewind``, reads and writes entry t of every table.
        """
        ...


class Linked(Protocol):
    """Parts that run in order."""

    def bind(self, memory: Memory, tables: Memory) -> Bound:
        """Join the parts to arrays by name, all C-contiguous.

        memory: arrays that stay from step to step. tables: arrays with a leading axis of steps. Names in neither are
        private: they hold what one part leaves for another.
        """
        ...


@collector_paused()
def link(parts: Parts, backend: str) -> Linked:
    """Parts as one callable. backend: "native" or "reference"."""
    return _native(parts) if backend == "native" else Interpreted(parts)


def _native(parts: Parts) -> Linked:
    from chainrule.backends.native.runtime_code import begin_runtime

    begin_runtime()  # before the rest is imported, which takes as long
    from chainrule.backends.native.linked import linked

    key = key_of(parts)
    planned = kept(key)
    if planned is None:
        planned = _planned(parts)
        keep(key, planned)
    specs = memory_specs(parts)
    return Compiled(linked(planned.plan), specs | {own: specs[name] for own, name in planned.staged})


def _planned(parts: Parts) -> Planned:
    from chainrule.backends.native.plan import Named, begin, plan

    programs: list[Named | str] = []
    staged: list[tuple[str, str]] = []
    for part in parts:
        if isinstance(part, Stop):
            programs.append(part.name)
            continue
        program = program_of(part.graph)
        begin(program)
        if _overwrites_too_soon(program, part):
            own = tuple(f"staged {n}" for n in part.outputs)
            staged += zip(own, part.outputs, strict=True)
            copies = tuple(placeholder(y.spec) for y in part.graph.outputs)
            programs.append(Named(program, part.inputs, own))
            programs.append(Named(lower(Graph(copies, copies)), own, part.outputs))
        else:
            programs.append(Named(program, part.inputs, part.outputs, part.doomed))
    return Planned(plan(programs), tuple(staged))


def program_of(graph: Graph) -> Program:
    """The loops of a graph, which keeps them: the variants of a step share their gate and update."""
    held = graph.__dict__
    if "program" not in held:
        held["program"] = lower(rewrite(graph))
    found: Program = held["program"]
    return found


def _overwrites_too_soon(program: Program, part: Part) -> bool:
    """Whether something still reads what has been replaced, or may have been, where a name is both read and written."""
    read_as: dict[str, list[int]] = {}
    for name, read in zip(part.inputs, program.inputs, strict=True):
        read_as.setdefault(name, []).append(read)
    for name, written in zip(part.outputs, program.outputs, strict=True):
        for read in read_as.get(name, ()):
            first = min((i for i, s in enumerate(program.statements) if written in writes(s)), default=0)
            if any(read in reads(s) for s in program.statements[first + 1 :]):
                return True
            # What runs at once with the statement that writes must not read, unless it is that statement itself.
            at_once = _at_once(program.statements[first]) if program.statements else ()
            if any(read in reads(s) and (written not in writes(s) or _reads_again(s, written, read)) for s in at_once):
                return True
    return False


def _at_once(statement: Statement) -> tuple[Statement, ...]:
    return (statement,) if isinstance(statement, Repeat) else parts(statement)


def _reads_again(statement: Statement, written: int, read: int) -> bool:
    """Whether a later loop of the statement reads what an earlier one has replaced; one loop reads before it writes."""
    if isinstance(statement, Repeat):
        return True
    if not isinstance(statement, Nest):
        return False
    first = next((i for i, x in enumerate(statement.loops) if written in writes(replace(statement, loops=(x,)))), None)
    return first is not None and read in reads(replace(statement, loops=statement.loops[first + 1 :]))


@dataclass(frozen=True)
class Compiled:
    """Parts as machine code."""

    native: NativeLinked
    specs: dict[str, TensorSpec]

    def bind(self, memory: Memory, tables: Memory) -> Bound:
        checked(self.specs, memory, tables)
        return self.native.bind({**private_memory(self.specs, memory, tables), **memory}, tables)


def memory_specs(parts: Parts) -> dict[str, TensorSpec]:
    """Shape and dtype of each name; GraphError if two parts disagree."""
    specs: dict[str, TensorSpec] = {}
    for part in parts:
        if isinstance(part, Stop):
            continue
        named = [*zip(part.inputs, part.graph.inputs, strict=True), *zip(part.outputs, part.graph.outputs, strict=True)]
        for name, x in named:
            if specs.setdefault(name, x.spec) != x.spec:
                raise GraphError(f"{name!r} is {specs[name]} in one part and {x.spec} in another")
    return specs


def checked(specs: Mapping[str, TensorSpec], memory: Memory, tables: Memory) -> None:
    """GraphError unless every array has its name's shape and dtype and is C-contiguous."""
    for name, array in (*memory.items(), *tables.items()):
        if name not in specs:
            continue
        shape = array.shape[1:] if name in tables else array.shape
        if shape != specs[name].shape or array.dtype != specs[name].dtype or not array.flags.c_contiguous:
            raise GraphError(f"{name!r} must be a C-contiguous {specs[name]}, got {array.dtype}{list(shape)}")


def private_memory(specs: Mapping[str, TensorSpec], memory: Memory, tables: Memory) -> dict[str, np.ndarray]:
    """Arrays for the names that nobody gave."""
    given = memory.keys() | tables.keys()
    return {name: aligned_zeros(spec.shape, spec.dtype) for name, spec in specs.items() if name not in given}


class Interpreted:
    """The reference: every part evaluated by NumPy."""

    def __init__(self, parts: Parts) -> None:
        self.specs = memory_specs(parts)
        self.parts = [(p, None if isinstance(p, Stop) else evaluator(p.graph)) for p in parts]

    def bind(self, memory: Memory, tables: Memory) -> InterpretedBound:
        checked(self.specs, memory, tables)
        return InterpretedBound(self, {**private_memory(self.specs, memory, tables), **memory}, dict(tables))


class InterpretedBound:
    """The reference, joined to its memory."""

    def __init__(self, linked: Interpreted, memory: dict[str, np.ndarray], tables: dict[str, np.ndarray]) -> None:
        self.linked, self.memory, self.tables, self.next = linked, memory, tables, 0

    def point(self, name: str, array: np.ndarray) -> None:
        self.memory[name] = array

    def rewind(self) -> None:
        self.next = 0

    def run(self, steps: int) -> int:
        for done in range(steps):
            for part, evaluate in self.linked.parts:
                if isinstance(part, Stop):
                    if not self._held(part.name):
                        return done
                    continue
                assert evaluate is not None
                values = evaluate(*map(self._held, part.inputs))
                try:
                    self._write(part.outputs, values)
                except KeyboardInterrupt:  # once begun it is finished, so that nothing is half written
                    self._write(part.outputs, values)
                    raise
            self.next += 1
        return steps

    def _write(self, names: tuple[str, ...], values: tuple[np.ndarray, ...]) -> None:
        for name, value in zip(names, values, strict=True):
            self._held(name)[...] = value

    def _held(self, name: str) -> np.ndarray:
        return self.tables[name][self.next, ...] if name in self.tables else self.memory[name]
