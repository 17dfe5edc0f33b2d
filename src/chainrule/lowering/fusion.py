"""Fusion: nests that walk the same grid become one, and values that are read where they were made stay in registers.

Each pass takes a program and gives one that stores the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from chainrule.kernel import (
    Accumulate,
    Affine,
    Gather,
    Gemm,
    LaneLoop,
    Load,
    Local,
    Nest,
    Op,
    Program,
    Repeat,
    Scalar,
    SerialLoop,
    Statement,
    Store,
    Variable,
    walk,
)
from chainrule.kernel.effects import accesses, independent, reads, row_local

REACH = 12
"""How many statements back a nest looks for one to join."""

FEWEST_ROWS = 8
"""Grids of fewer points are joined only where little work would be kept from other threads."""

LITTLE = 4096
"""Elements."""

MOST_LOOPS = 32
"""Of a nest that others join: each is compared with every other one, and LLVM's time grows faster than a function."""


def fused(program: Program) -> Program:
    """Join nests, forward values, drop stores that nobody reads."""
    statements = _fused(program.statements)
    return replace(program, statements=tuple(without_dead_stores(statements, program)))


def _fused(statements: Iterable[Statement]) -> list[Statement]:
    inside = [replace(s, statements=tuple(_fused(s.statements))) if isinstance(s, Repeat) else s for s in statements]
    return [_with_joined_lanes(s) if isinstance(s, Nest) else s for s in joined(inside)]


# ------------------------------------------------------------------------------------------------ nests


def joined(statements: list[Statement]) -> list[Statement]:
    """Each nest moves back into an earlier one over the same grid, where no other statement is in the way."""
    result: list[Statement] = []
    for statement in statements:
        place = _partner(result, statement) if isinstance(statement, Nest) else None
        if place is None:
            result.append(statement)
        else:
            result[place] = _join(result[place], statement)  # type: ignore[arg-type]
    return result


def _partner(earlier: list[Statement], nest: Nest) -> int | None:
    for back in range(1, min(REACH, len(earlier)) + 1):
        place = len(earlier) - back
        other = earlier[place]
        if isinstance(other, Nest) and other.extents == nest.extents and _joinable(other, nest):
            return place
        if not independent(other, nest):
            return None
    return None


def _joinable(a: Nest, b: Nest) -> bool:
    if len(a.loops) + len(b.loops) > MOST_LOOPS or a.in_order or b.in_order:
        return False
    if _reads_anywhere(a) != _reads_anywhere(b):
        return False
    renamed = _on_grid_of(a, b)
    if not row_local(a, renamed):
        return False
    if a.splits_lanes and b.splits_lanes and _lanes_join(a.loops[0], renamed.loops[0]):
        return True
    points = math.prod(a.extents)
    work = points * sum(loop.extent for loop in a.loops + b.loops)
    return points >= FEWEST_ROWS or work <= LITTLE


def _reads_anywhere(nest: Nest) -> bool:
    """Whether it reads at computed positions: nobody can tell which rows that needs, so it must wait for all."""
    return any(not a.writes and a.at is None for a in accesses(nest))


def _join(a: Nest, b: Nest) -> Nest:
    return Nest(a.variables, a.extents, _joined_lanes(a.loops, _on_grid_of(a, b).loops))


def _on_grid_of(a: Nest, b: Nest) -> Nest:
    """b with the grid variables of a. b keeps the last one, as joining asks for it twice."""
    held = b.__dict__
    if "renamed" not in held or held["renamed"][0] != a.variables:
        held["renamed"] = (a.variables, _renamed(b, dict(zip(b.variables, a.variables, strict=True))))
    found: Nest = held["renamed"][1]
    return found


def _with_joined_lanes(nest: Nest) -> Nest:
    return replace(nest, loops=_joined_lanes((), nest.loops))


def _joined_lanes(earlier: tuple[LaneLoop, ...], added: tuple[LaneLoop, ...]) -> tuple[LaneLoop, ...]:
    """The loops of ``added``, each within one of those before it where that is possible."""
    loops = list(earlier)
    for loop in added:
        place = _lane_partner(loops, loop)
        if place is None:
            loops.append(loop)
        else:
            loops[place] = _joined_loop(loops[place], loop)
    return tuple(loops)


def _lane_partner(earlier: list[LaneLoop], loop: LaneLoop) -> int | None:
    """The nearest loop that it can be one with, where none between them is in the way."""
    for place in reversed(range(len(earlier))):
        if _lanes_join(earlier[place], loop):
            return place
        if not _may_pass(earlier[place], loop):
            return None
    return None


@dataclass(frozen=True)
class _Facts:
    """What a loop makes and needs: buffers, and the names of Locals."""

    stored: frozenset[int]
    accumulated: frozenset[str]
    read: frozenset[int]
    locals: frozenset[str]


def _facts(loop: LaneLoop) -> _Facts:
    """The loop keeps them: each is asked about with every other one."""
    held = loop.__dict__
    if "facts" not in held:
        stored = {s.buffer for s in loop.stores} | {s.buffer for serial in loop.serial for s in serial.stores}
        needed = list(walk(*_values(loop)))
        held["facts"] = _Facts(
            frozenset(stored),
            frozenset(a.name for a in loop.accumulates),
            frozenset(e.buffer for e in needed if isinstance(e, (Load, Gather))),
            frozenset(e.name for e in needed if isinstance(e, Local)),
        )
    found: _Facts = held["facts"]
    return found


def _may_pass(a: LaneLoop, b: LaneLoop) -> bool:
    """Whether b may stand before a."""
    first, second = _facts(a), _facts(b)
    if first.accumulated & second.locals or first.stored & (second.read | second.stored):
        return False
    return not first.read & second.stored


# ------------------------------------------------------------------------------------------------ lane loops


def _lanes_join(a: LaneLoop, b: LaneLoop) -> bool:
    """Whether two lane loops can be one: b needs of a only what a makes in the same lane."""
    if a.extent != b.extent or a.extent == 1:
        return False
    names = {x.name for x in a.accumulates}
    expressions = walk(*_values(b))
    if any(isinstance(e, Local) and e.name in names for e in expressions):
        return False
    made = {s.buffer: s for s in a.stores}
    made_inside = {s.buffer for serial in a.serial for s in serial.stores}
    touched = [e for e in expressions if isinstance(e, (Load, Gather))]
    if any(e.buffer in made_inside for e in touched) or any(s.adds for s in (*a.stores, *b.stores)):
        return False
    inner = {e for serial in b.serial for e in walk(*_serial_values(serial))}
    for e in touched:
        if e.buffer in made and (e in inner or not _same_place(made[e.buffer], a, e, b)):
            return False
    stored_by_b = {s.buffer: s for s in b.stores} | {s.buffer: s for serial in b.serial for s in serial.stores}
    for own in walk(*_values(a)):
        if isinstance(own, Gather) and own.buffer in stored_by_b:
            return False
        if isinstance(own, Load) and own.buffer in stored_by_b:
            there = stored_by_b[own.buffer].at
            if _affine(own.at, {a.variable: b.variable}) != there:
                return False
    if (made.keys() | made_inside) & stored_by_b.keys():
        return False
    # In the joined loop what a accumulates comes after what b stores.
    return _loaded(x.value for x in a.accumulates).isdisjoint(stored_by_b) and _still_the_same(made, b)


def _still_the_same(made: dict[int, Store], b: LaneLoop) -> bool:
    """Whether no store changes what the values that ``made`` gave read, before b makes something of them."""

    def given(values: Iterable[Scalar]) -> set[int]:
        return _loaded(made[buffer].value for buffer in _loaded(values) if buffer in made)

    changed = set(made)
    for store in b.stores:
        places = [store.at] if isinstance(store.at, Scalar) else []
        if given([store.value, *places]) & changed:
            return False
        changed.add(store.buffer)
    return given(x.value for x in b.accumulates).isdisjoint(changed)


def _loaded(values: Iterable[Scalar]) -> set[int]:
    return {e.buffer for e in walk(*values) if isinstance(e, (Load, Gather))}


def _same_place(store: Store, a: LaneLoop, load: Scalar, b: LaneLoop) -> bool:
    return (
        isinstance(load, Load)
        and isinstance(store.at, Affine)
        and _affine(load.at, {b.variable: a.variable}) == store.at
        and load.where is None
        and load.dtype == store.value.dtype
    )


def _joined_loop(a: LaneLoop, b: LaneLoop) -> LaneLoop:
    made = {s.buffer: s.value for s in a.stores}
    rename = _Rewrite({b.variable: a.variable}, made)
    return LaneLoop(
        a.variable,
        a.extent,
        a.serial + tuple(_serial(s, rename) for s in b.serial),
        a.stores + tuple(_stored(s, rename) for s in b.stores),
        a.accumulates + tuple(Accumulate(x.name, x.how, rename(x.value)) for x in b.accumulates),
    )


def _values(loop: LaneLoop) -> list[Scalar]:
    found = [v for serial in loop.serial for v in _serial_values(serial)]
    found += [s.value for s in loop.stores] + [s.at for s in loop.stores if isinstance(s.at, Scalar)]
    return found + [a.value for a in loop.accumulates]


def _serial_values(serial: SerialLoop) -> list[Scalar]:
    found = [a.value for a in serial.accumulates] + [s.value for s in serial.stores]
    return found + [s.at for s in serial.stores if isinstance(s.at, Scalar)]


# ------------------------------------------------------------------------------------------------ renaming


def _affine(at: Affine, names: dict[str, str]) -> Affine:
    return Affine(at.start, tuple(sorted((names.get(n, n), s) for n, s in at.strides)))


class _Rewrite:
    """Expressions with loop variables renamed, and loads replaced by the values that were stored there."""

    def __init__(self, names: dict[str, str], made: dict[int, Scalar]) -> None:
        self.names, self.made = names, made
        self.done: dict[Scalar, Scalar] = {}

    def __call__(self, root: Scalar) -> Scalar:
        for e in walk(root):
            if e not in self.done:
                self.done[e] = self._one(e)
        return self.done[root]

    def _one(self, e: Scalar) -> Scalar:
        if isinstance(e, Variable):
            return Variable(e.dtype, self.names.get(e.name, e.name))
        if isinstance(e, Load):
            if e.buffer in self.made:
                return self.made[e.buffer]
            where = None if e.where is None else self.done[e.where]
            return Load(e.dtype, e.buffer, _affine(e.at, self.names), where, e.other)
        if isinstance(e, Gather):
            return replace(e, at=self.done[e.at])
        if isinstance(e, Op):
            return Op(e.dtype, e.name, tuple([self.done[a] for a in e.arguments]))
        return e


def _stored(store: Store, rewrite: _Rewrite) -> Store:
    at = rewrite(store.at) if isinstance(store.at, Scalar) else _affine(store.at, rewrite.names)
    return replace(store, at=at, value=rewrite(store.value))


def _serial(serial: SerialLoop, rewrite: _Rewrite) -> SerialLoop:
    return replace(
        serial,
        accumulates=tuple(Accumulate(a.name, a.how, rewrite(a.value)) for a in serial.accumulates),
        stores=tuple(_stored(s, rewrite) for s in serial.stores),
    )


def _renamed(nest: Nest, names: dict[str, str]) -> Nest:
    rewrite = _Rewrite(names, {})
    loops = tuple(
        replace(
            loop,
            serial=tuple(_serial(s, rewrite) for s in loop.serial),
            stores=tuple(_stored(s, rewrite) for s in loop.stores),
            accumulates=tuple(Accumulate(a.name, a.how, rewrite(a.value)) for a in loop.accumulates),
        )
        for loop in nest.loops
    )
    return Nest(tuple(names[v] for v in nest.variables), nest.extents, loops)


# ------------------------------------------------------------------------------------------------ dead stores


def without_dead_stores(statements: list[Statement], program: Program) -> list[Statement]:
    """Stores to scratch that no statement reads are dropped, until nothing changes."""
    while True:
        needed = set(program.outputs) | {b for s in statements for b in reads(s)}
        kept = _without_dead_stores(statements, needed)
        if kept == statements:
            return statements
        statements = kept


def _without_dead_stores(statements: Iterable[Statement], needed: set[int]) -> list[Statement]:
    kept: list[Statement] = []
    for statement in statements:
        if isinstance(statement, Nest):
            lean = _lean(statement, needed)
            if lean is not None:
                kept.append(lean)
        elif isinstance(statement, Repeat):
            inside = needed | {b for s in statement.statements for b in reads(s)}
            inside |= {m.buffer for m in statement.moving if m.of in inside}
            found = tuple(_without_dead_stores(statement.statements, inside))
            if found:
                kept.append(replace(statement, statements=found))
        elif not isinstance(statement, Gemm) or statement.result.buffer in needed:
            kept.append(statement)
    return kept


def _lean(nest: Nest, needed: set[int]) -> Nest | None:
    used = {e.name for v in nest.values() for e in walk(v) if isinstance(e, Local)}
    loops = []
    for loop in nest.loops:
        serial = tuple(
            replace(
                s,
                stores=tuple(x for x in s.stores if x.buffer in needed),
                accumulates=tuple(a for a in s.accumulates if a.name in used),
            )
            for s in loop.serial
        )
        lean = replace(
            loop,
            serial=tuple(s for s in serial if s.stores or s.accumulates),
            stores=tuple(s for s in loop.stores if s.buffer in needed),
            accumulates=tuple(a for a in loop.accumulates if a.name in used),
        )
        if lean.serial or lean.stores or lean.accumulates:
            loops.append(lean)
    return replace(nest, loops=tuple(loops)) if any(_effects(loop) for loop in loops) else None


def _effects(loop: LaneLoop) -> bool:
    return bool(loop.stores or any(s.stores for s in loop.serial))
