"""Write one loop nest as an LLVM function whose text depends on the nest's structure and never on its sizes.

A nest becomes: a loop over grid points; in it, one after another, the lane loops, 16 lanes at a time with a masked
tail; in those, serial loops. Every expression is computed once, at the outermost loop that it depends on: *level* 1 is
a grid point, 2 a group of 16 lanes, 3 and up the serial loops.

In the body of a loop all values are computed from memory as it was, then stored in order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.backends.native import memory
from chainrule.backends.native.dag import Dag, Node
from chainrule.backends.native.operations import join, operation, tree
from chainrule.backends.native.vectors import (
    ALL_LANES,
    LANE_NUMBERS,
    LANES,
    MASK,
    POSITIONS,
    element,
    splat,
    start_value,
    stored,
    vector,
)
from chainrule.backends.native.writer import Writer
from chainrule.errors import GraphError
from chainrule.kernel.program import Accumulate, Buffer, LaneLoop, Nest, SerialLoop, Store
from chainrule.kernel.scalar import Affine, Const, Gather, Load, Local, Op, Scalar, Variable

POINT, GROUP = 1, 2
SIGNATURE = "(ptr %slots, ptr %params, i64 %g0, i64 %g1, i64 %v0, i64 %v1)"


@dataclass(frozen=True)
class NestCode:
    """Machine code to be, of one nest.

    key: digest of ``text`` without its name: the same for nests of the same structure.
    text: LLVM IR of one function, ``nest_<key>``; intrinsics are not declared (LLVM does that by itself).
    params: what the function reads from its second argument, in order (int64).
    support: names of the functions that it calls; ``functions.definition(name)`` is each one's text.
    """

    key: str
    text: str
    params: tuple[int, ...]
    support: frozenset[str]

    @property
    def name(self) -> str:
        return f"nest_{self.key}"


def code_of(nest: Nest, buffers: tuple[Buffer, ...]) -> NestCode:
    """The code of ``nest``. GraphError for what the vocabulary does not have."""
    emitter = _Emitter(nest, buffers)
    emitter.grid()
    writer = emitter.writer
    key = hashlib.sha256(writer.text("nest").encode()).hexdigest()[:32]
    return NestCode(key, writer.text(f"nest_{key}"), tuple(writer.params), frozenset(writer.support))


@dataclass(frozen=True)
class _Group:
    """The 16 lanes at hand. first: the number of lane 0; last: which lane is the last that counts, from 0. Operands."""

    first: str
    mask: str
    last: str


@dataclass(frozen=True)
class _Access:
    """An affine element of a buffer, within one lane loop. start and strides are operands; the lanes' stride is apart.

    lane_class: where the lanes are: "same" element, "next" to each other, or "apart" by ``lane_stride``.
    """

    buffer: int
    start: str
    strides: tuple[tuple[str, str], ...]
    lane_class: str
    lane_stride: str


Reached = dict[object, str]
"""Operands at hand at one level: of expressions by number, of addresses by their own keys."""


class _Emitter:
    """One nest on its way to text: the writer, and what is known at each level of the loops around the writer."""

    def __init__(self, nest: Nest, buffers: tuple[Buffer, ...]) -> None:
        self.nest = nest
        self.buffers = buffers
        self.writer = Writer()
        self.dag = Dag()
        self.variables: dict[str, str] = {}
        self.levels: dict[str, int] = {}
        self.locals: dict[str, str] = {}
        self.local_levels: dict[str, int] = {}
        self.reached: list[Reached] = [{}]
        self.group = _Group("0", ALL_LANES, "0")
        self.accesses: dict[tuple, _Access] = {}
        self.integers: dict[int, str] = {}
        self.extents: dict[int, tuple[str, ...]] = {}
        self.lane_variable = ""
        self.known: set[str] = set()
        self.stored_at: dict[int, int] = {}

    # Loops

    def grid(self) -> None:
        """The loop over the points g0 to g1, and all that is in it."""
        w = self.writer
        w.label("start")
        extents = [w.param(e) for e in self.nest.extents[1:]]
        head, done = w.name(), w.name()
        empty = w.value("icmp sge i64 %g0, %g1")
        if self.nest.splits_lanes:
            empty = w.value(f"or i1 {empty}, {w.value('icmp sge i64 %v0, %v1')}")
        w.branch(empty, done, head)
        w.label(head)
        point, point_phi = w.phi("i64", "%g0", "start")
        self._place_point(point, extents)
        for loop in self.nest.loops:
            self._lane_loop(loop)
        following = w.value(f"add i64 {point}, 1")
        w.close(point_phi, following)
        w.branch(w.value(f"icmp slt i64 {following}, %g1"), head, done)
        w.label(done)
        w.do("ret void")

    def _place_point(self, point: str, extents: Sequence[str]) -> None:
        """The grid variables of a point in row-major order. The first extent is not needed."""
        w, rest = self.writer, point
        for name, extent in zip(reversed(self.nest.variables[1:]), reversed(extents), strict=True):
            self.variables[name] = w.value(f"urem i64 {rest}, {extent}")
            rest = w.value(f"udiv i64 {rest}, {extent}")
        if self.nest.variables:
            self.variables[self.nest.variables[0]] = rest

    def _lane_loop(self, loop: LaneLoop) -> None:
        starts = [splat(a.value.dtype, start_value(a.how, a.value.dtype)) for a in loop.accumulates]
        ends = self._lanes(loop, starts) if loop.extent else starts
        for a, lanes in zip(loop.accumulates, ends, strict=True):
            self.locals[a.name] = tree(self.writer, a.how, a.value.dtype, lanes) if loop.extent else lanes
            self.local_levels[a.name] = POINT

    def _lanes(self, loop: LaneLoop, starts: list[str]) -> list[str]:
        """All lanes of a loop that has some; the accumulators after them, not yet joined."""
        self.lane_variable = loop.variable
        self.known = {*self.nest.variables, *_variables_of(loop)}
        self.levels = {**dict.fromkeys(self.nest.variables, POINT), loop.variable: GROUP}
        self.stored_at = dict.fromkeys((s.buffer for s in _stores_of(loop)), GROUP)
        self.accesses = {}
        for serial in loop.serial:
            self._start_locals(serial, GROUP)
        self.reached.append({})
        self._reach(POINT, self._roots(loop), _stores_of(loop))
        ends = self._bodies(loop, starts)
        self.reached.pop()
        for name in [a.name for serial in loop.serial for a in serial.accumulates]:
            del self.locals[name], self.local_levels[name]
        return ends

    def _bodies(self, loop: LaneLoop, starts: list[str]) -> list[str]:
        """The loop over whole groups of lanes and the masked group that is left over; the accumulators after them."""
        w = self.writer
        if loop.extent == 1:
            one_lane = f"<{', '.join('i1 true' if k == 0 else 'i1 false' for k in range(LANES))}>"
            return self._group(loop, _Group("%v0" if self.nest.splits_lanes else "0", one_lane, "0"), starts)
        first, end = ("%v0", "%v1") if self.nest.splits_lanes else ("0", w.param(loop.extent))
        whole = w.value(f"and i64 {w.value(f'sub i64 {end}, {first}')}, -{LANES}")
        whole_end = w.value(f"add i64 {first}, {whole}")
        head, middle, tail, done = w.name(), w.name(), w.name(), w.name()
        before = w.block
        w.branch(w.value(f"icmp slt i64 {first}, {whole_end}"), head, middle)

        w.label(head)
        lane, lane_phi = w.phi("i64", first, before)
        carried = [w.phi(vector(a.value.dtype), s, before) for a, s in zip(loop.accumulates, starts, strict=True)]
        sums = self._group(loop, _Group(lane, ALL_LANES, str(LANES - 1)), [c[0] for c in carried])
        following = w.value(f"add i64 {lane}, {LANES}")
        for (_, phi), value in zip([(lane, lane_phi), *carried], [following, *sums], strict=True):
            w.close(phi, value)
        after = w.block
        w.branch(w.value(f"icmp slt i64 {following}, {whole_end}"), head, middle)

        w.label(middle)
        sums = self._merge(loop, (starts, before), (sums, after))
        w.branch(w.value(f"icmp slt i64 {whole_end}, {end}"), tail, done)

        w.label(tail)
        left = w.value(f"sub i64 {end}, {whole_end}")
        mask = w.value(f"icmp slt {POSITIONS} {LANE_NUMBERS}, {w.splat('i64', left)}")
        ends = self._group(loop, _Group(whole_end, mask, w.value(f"sub i64 {left}, 1")), sums)
        after = w.block
        w.go(done)
        w.label(done)
        return self._merge(loop, (sums, middle), (ends, after))

    def _merge(self, loop: LaneLoop, one: tuple[list[str], str], other: tuple[list[str], str]) -> list[str]:
        """The accumulators where two ways meet."""
        merged = []
        for a, x, y in zip(loop.accumulates, one[0], other[0], strict=True):
            value, phi = self.writer.phi(vector(a.value.dtype), x, one[1])
            self.writer.body[phi] += f", [ {y}, %{other[1]} ]"
            merged.append(value)
        return merged

    def _group(self, loop: LaneLoop, group: _Group, sums: list[str]) -> list[str]:
        """16 lanes: the serial loops, then stores, then a step of each accumulation."""
        self.group = group
        self.variables[loop.variable] = group.first
        self.reached.append({})
        for serial in loop.serial:
            self._serial_loop(serial)
        roots = [self._number(a.value) for a in loop.accumulates] + self._store_roots(loop.stores)
        self._reach(GROUP, roots, loop.stores)
        for store in loop.stores:
            self._store(store)
        joined = [self._join_lanes(a, s) for a, s in zip(loop.accumulates, sums, strict=True)]
        self.reached.pop()
        return joined

    def _join_lanes(self, accumulate: Accumulate, so_far: str) -> str:
        """Lanes outside the mask keep what they had."""
        w, t = self.writer, vector(accumulate.value.dtype)
        value = self._operand(self._number(accumulate.value))
        joined = join(w, accumulate.how, accumulate.value.dtype, so_far, value)
        if self.group.mask == ALL_LANES:
            return joined
        return w.value(f"select {MASK} {self.group.mask}, {t} {joined}, {t} {so_far}")

    def _serial_loop(self, loop: SerialLoop) -> None:
        depth = GROUP + len(loop.variables)
        self._start_locals(loop, depth if _runs(loop) else GROUP)
        if not _runs(loop):
            return
        if id(loop) not in self.extents:
            self.extents[id(loop)] = tuple(self.writer.param(e) for e in loop.extents)
        self.levels |= {name: GROUP + 1 + k for k, name in enumerate(loop.variables)}
        stored_at = self.stored_at
        self.stored_at = {**stored_at, **dict.fromkeys((s.buffer for s in loop.stores), depth)}
        roots = [self._number(a.value) for a in loop.accumulates] + self._store_roots(loop.stores)
        self._reach(GROUP, roots, loop.stores)
        self._serial_level(loop, 0, roots)
        self.stored_at = stored_at
        for name in loop.variables:
            del self.levels[name]
        self.local_levels |= dict.fromkeys((a.name for a in loop.accumulates), GROUP)
        self._forget({s.buffer for s in loop.stores}, {a.name for a in loop.accumulates})

    def _serial_level(self, loop: SerialLoop, depth: int, roots: list[int]) -> None:
        """One of the nested loops and those in it. Every extent is at least 1."""
        if depth == len(loop.variables):
            self._serial_body(loop)
            return
        w, head = self.writer, self.writer.name()
        before = w.block
        w.go(head)
        w.label(head)
        counter, counter_phi = w.phi("i64", "0", before)
        phis = []
        for a in loop.accumulates:
            self.locals[a.name], phi = w.phi(vector(a.value.dtype), self.locals[a.name], before)
            phis.append(phi)
        self.variables[loop.variables[depth]] = counter
        self.reached.append({})
        if depth + 1 < len(loop.variables):
            self._reach(GROUP + 1 + depth, roots, loop.stores)
        self._serial_level(loop, depth + 1, roots)
        self.reached.pop()
        following = w.value(f"add i64 {counter}, 1")
        w.close(counter_phi, following)
        for a, phi in zip(loop.accumulates, phis, strict=True):
            w.close(phi, self.locals[a.name])
        after = w.name()
        w.branch(w.value(f"icmp slt i64 {following}, {self.extents[id(loop)][depth]}"), head, after)
        w.label(after)

    def _serial_body(self, loop: SerialLoop) -> None:
        """Accumulate one after another, each seeing those before it; then store."""
        level = GROUP + len(loop.variables)
        for a in loop.accumulates:
            number = self._number(a.value)
            self._reach(level, [number], ())
            self.locals[a.name] = join(self.writer, a.how, a.value.dtype, self.locals[a.name], self._operand(number))
            self._forget(set(), {a.name})
        self._reach(level, self._store_roots(loop.stores), loop.stores)
        for store in loop.stores:
            self._store(store)

    def _start_locals(self, loop: SerialLoop, level: int) -> None:
        for a in loop.accumulates:
            self.locals[a.name] = splat(a.value.dtype, start_value(a.how, a.value.dtype))
            self.local_levels[a.name] = level

    # Values

    def _number(self, scalar: Scalar) -> int:
        return self.dag.number(scalar)

    def _store_roots(self, stores: Iterable[Store]) -> list[int]:
        roots = []
        for s in stores:
            roots.append(self._number(s.value))
            if isinstance(s.at, Scalar):
                roots.append(self._number(s.at))
        return roots

    def _roots(self, loop: LaneLoop) -> list[int]:
        roots = [self._number(a.value) for a in loop.accumulates] + self._store_roots(loop.stores)
        for serial in (s for s in loop.serial if _runs(s)):
            roots += [self._number(a.value) for a in serial.accumulates] + self._store_roots(serial.stores)
        return roots

    def _forget(self, buffers: set[int], names: set[str]) -> None:
        """Drop what was computed from memory or accumulations that have changed."""
        for reached in self.reached:
            for number in [k for k in reached if isinstance(k, int)]:
                node = self.dag.nodes[number]
                if node.buffers & buffers or node.locals & names:
                    del reached[number]

    def _level(self, node: Node, of: dict[int, int]) -> int:
        """The outermost level at which a node can be computed; ``of`` holds its arguments'."""
        level = max((of[a] for a in node.arguments), default=POINT)
        scalar = node.scalar
        if isinstance(scalar, Variable):
            return self._variable_level(scalar.name)
        if isinstance(scalar, Local):
            return self._local_level(scalar.name)
        if isinstance(scalar, Load):
            level = max([level, *(self._variable_level(name) for name, stride in scalar.at.strides if stride)])
        if isinstance(scalar, (Load, Gather)):
            level = max(level, self.stored_at.get(scalar.buffer, POINT))
        return level

    def _variable_level(self, name: str) -> int:
        # A serial loop's variables are not yet known while the lane loop around it begins: they are further in.
        return self.levels.get(name, GROUP + 1)

    def _local_level(self, name: str) -> int:
        if name not in self.local_levels:
            raise GraphError(
                f"a nest reads the local {name!r} before any accumulation of that name; found {[*self.locals]}"
            )
        return self.local_levels[name]

    def _reach(self, level: int, roots: list[int], stores: Sequence[Store]) -> None:
        """Compute, here, what ``roots`` need and what can be computed at ``level`` (and what was left further out)."""
        of: dict[int, int] = {}
        for number in self.dag.below(roots):
            node = self.dag.nodes[number]
            of[number] = self._level(node, of)
            self._point_at(node.scalar, level)
            if of[number] <= level and self._found(number) is None:
                self.reached[-1][number] = self._compute(node)
        for s in stores:
            if isinstance(s.at, Affine):
                self._address(self._access(s.buffer, s.at), level)

    def _found(self, key: object) -> str | None:
        for reached in reversed(self.reached):
            if key in reached:
                return reached[key]
        return None

    def _operand(self, number: int) -> str:
        scalar = self.dag.nodes[number].scalar
        if isinstance(scalar, Const):
            return self._constant(scalar)
        if isinstance(scalar, Local):
            return self.locals[scalar.name]
        found = self._found(number)
        if found is None:
            raise GraphError(f"a nest uses a value outside the loops that it depends on: {type(scalar).__name__}")
        return found

    def _compute(self, node: Node) -> str:
        scalar, w = node.scalar, self.writer
        if isinstance(scalar, Const):
            return self._constant(scalar)
        if isinstance(scalar, Local):
            return self.locals[scalar.name]
        if isinstance(scalar, Variable):
            return self._variable(scalar.name)
        if isinstance(scalar, Load):
            return self._load(scalar, node)
        if isinstance(scalar, Gather):
            base, size = w.base(scalar.buffer), self._size(scalar.size, scalar.buffer)
            mask = self.group.mask if self._lanes_count() else ALL_LANES
            at = self._operand(node.arguments[0])
            return memory.gather(w, self._held(scalar), base, at, size, mask, scalar.other)
        if isinstance(scalar, Op):
            return self._operate(scalar, node)
        raise GraphError(f"{type(scalar).__name__} is not a scalar expression of chainrule.kernel")

    def _lanes_count(self) -> bool:
        """Whether the writer is inside a group of lanes, whose mask says which of them count."""
        return len(self.reached) > GROUP

    def _operate(self, scalar: Op, node: Node) -> str:
        arguments = [self.dag.nodes[a].scalar for a in node.arguments]
        operands = [self._operand(a) for a in node.arguments]
        if scalar.name in ("floor_divide", "remainder", "pow") and isinstance(arguments[1], Const):
            operands[1] = splat(arguments[1].dtype, arguments[1].value)
        return operation(self.writer, scalar.name, scalar.dtype, arguments[-1].dtype, operands)

    def _constant(self, scalar: Const) -> str:
        """Integers beyond -1, 0 and 1 are sizes more often than not, so they are params."""
        dtype = scalar.dtype
        if dtype.kind not in "iu" or scalar.value in (-1, 0, 1):
            return splat(dtype, scalar.value)
        number = self._number(scalar)
        if number not in self.integers:
            w, t = self.writer, element(dtype)
            one = w.param(int(scalar.value))
            if t != "i64":
                one = w.at_entry(f"trunc i64 {one} to {t}")
            v = vector(dtype)
            first = w.at_entry(f"insertelement {v} poison, {t} {one}, i64 0")
            self.integers[number] = w.at_entry(
                f"shufflevector {v} {first}, {v} poison, <{LANES} x i32> zeroinitializer"
            )
        return self.integers[number]

    def _variable(self, name: str) -> str:
        w = self.writer
        lanes = w.splat("i64", self.variables[name])
        return w.value(f"add {POSITIONS} {lanes}, {LANE_NUMBERS}") if name == self.lane_variable else lanes

    def _size(self, size: int, buffer: int) -> str:
        """The operand of how many elements a computed position may reach."""
        key = ("size", buffer, size)
        if key not in self.reached[0]:
            self.reached[0][key] = self.writer.param(size)
        return self.reached[0][key]

    def _held(self, scalar: Load | Gather) -> np.dtype:
        """The dtype of what is read; it must be the buffer's."""
        held = self.buffers[scalar.buffer].dtype
        if held != scalar.dtype:
            raise GraphError(
                f"buffer {scalar.buffer} holds {held.name} but is read as {scalar.dtype.name}: cast after reading"
            )
        return held

    # Memory

    def _access(self, buffer: int, at: Affine) -> _Access:
        key = (buffer, at)
        if key not in self.accesses:
            w, strides = self.writer, dict(at.strides)
            if not strides.keys() <= self.known:
                raise GraphError(
                    f"a position of a nest depends on {sorted(strides.keys() - self.known)}, loops it is not in"
                )
            lane = strides.pop(self.lane_variable, 0)
            kept = tuple((name, w.param(stride)) for name, stride in strides.items() if stride)
            lane_class = {0: "same", 1: "next"}.get(lane, "apart")
            lane_stride = w.param(lane) if lane_class == "apart" else "1"
            start = w.param(at.start)
            self.accesses[key] = _Access(buffer, start, kept, lane_class, lane_stride)
        return self.accesses[key]

    def _point_at(self, scalar: Scalar, level: int) -> None:
        if isinstance(scalar, Load):
            self._address(self._access(scalar.buffer, scalar.at), level)

    def _address(self, access: _Access, level: int) -> str:
        """The address (of lane 0) with the terms of every level up to ``level``, each added at its own level."""
        w, t = self.writer, stored(self.buffers[access.buffer].dtype)
        pointer = ""
        for at in range(POINT, level + 1):
            found = self._found(("address", access, at))
            if found is None:
                found = self._address_terms(access, at, pointer or w.base(access.buffer), t)
                self.reached[-1][("address", access, at)] = found
            pointer = found
        return pointer

    def _address_terms(self, access: _Access, level: int, pointer: str, t: str) -> str:
        w = self.writer
        terms = [
            w.value(f"mul i64 {self.variables[name]}, {stride}")
            for name, stride in access.strides
            if self._variable_level(name) == level
        ]
        if level == POINT:
            terms.append(access.start)
        if level == GROUP and access.lane_class != "same":
            first = self.group.first
            terms.append(first if access.lane_class == "next" else w.value(f"mul i64 {first}, {access.lane_stride}"))
        for term in terms:
            pointer = w.value(f"getelementptr {t}, ptr {pointer}, i64 {term}")
        return pointer

    def _lane_positions(self, access: _Access) -> str:
        """How far each lane's element is from lane 0's."""
        if access.lane_class == "same":
            return "zeroinitializer"
        w = self.writer
        return w.value(f"mul {POSITIONS} {LANE_NUMBERS}, {w.splat('i64', access.lane_stride)}")

    def _load(self, scalar: Load, node: Node) -> str:
        w, dtype = self.writer, self._held(scalar)
        access = self._access(scalar.buffer, scalar.at)
        pointer = self._address(access, len(self.reached) - 1)
        if access.lane_class == "same" and scalar.where is None:
            return memory.load_one(w, dtype, pointer)
        mask = self.group.mask if self._lanes_count() else ALL_LANES
        if scalar.where is not None:
            mask = memory.both(w, mask, self._operand(node.arguments[0]))
        if access.lane_class == "next":
            return memory.load_next(w, dtype, pointer, mask, scalar.other)
        pointers = memory.apart(w, dtype, pointer, self._lane_positions(access))
        return memory.load_apart(w, dtype, pointers, mask, scalar.other)

    def _store(self, store: Store) -> None:
        w, group = self.writer, self.group
        dtype = self.buffers[store.buffer].dtype
        if dtype != store.value.dtype:
            raise GraphError(
                f"buffer {store.buffer} holds {dtype.name} but {store.value.dtype.name} is stored: cast before"
            )
        value = self._operand(self._number(store.value))
        if isinstance(store.at, Scalar):
            self._store_computed(store, dtype, value)
            return
        access = self._access(store.buffer, store.at)
        pointer = self._address(access, len(self.reached) - 1)
        if access.lane_class == "next":
            memory.store_next(w, dtype, pointer, value, group.mask, store.adds)
        elif access.lane_class == "apart":
            pointers = memory.apart(w, dtype, pointer, self._lane_positions(access))
            memory.store_apart(w, dtype, pointers, value, group.mask, store.adds)
        elif store.adds:
            memory.add_in_order(w, dtype, pointer, "zeroinitializer", "1", value, group.mask)
        else:
            memory.store_one(w, dtype, pointer, value, group.last)

    def _store_computed(self, store: Store, dtype: np.dtype, value: str) -> None:
        w, mask = self.writer, self.group.mask
        assert isinstance(store.at, Scalar)
        base, size = w.base(store.buffer), self._size(self.buffers[store.buffer].size, store.buffer)
        at = self._operand(self._number(store.at))
        if store.adds:
            memory.add_in_order(w, dtype, base, at, size, value, mask)
            return
        found = memory.both(w, mask, memory.inside(w, at, size))
        memory.store_apart(w, dtype, memory.apart(w, dtype, base, at), value, found, adds=False)


def _runs(loop: SerialLoop) -> bool:
    """Whether a serial loop has any point. One that has none leaves no code, so the others need not ask."""
    return 0 not in loop.extents


def _stores_of(loop: LaneLoop) -> list[Store]:
    return [*loop.stores, *(s for serial in loop.serial if _runs(serial) for s in serial.stores)]


def _variables_of(loop: LaneLoop) -> set[str]:
    return {loop.variable, *(name for serial in loop.serial for name in serial.variables)}
