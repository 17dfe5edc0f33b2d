"""The loops of a nest as LLVM blocks: over grid points, over lanes 16 at a time with a masked rest, and serial ones.

In the body of a loop every value is computed before the first store, so that two buffers may be one memory (an update
in place). Then it is stored in order; what reads a buffer that a store before it changed is computed anew. A loop that
has no point leaves no code, and one of less than 16 lanes only the masked body: both are part of a nest's structure.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.backends.native.operations import fused_step, join, tree
from chainrule.backends.native.values import GROUP, POINT, Group, Values
from chainrule.backends.native.vectors import ALL_LANES, LANES, MASK, SMALL_LANE_NUMBERS, splat, start_value, vector
from chainrule.kernel.program import Accumulate, LaneLoop, Nest, SerialLoop, Store
from chainrule.kernel.scalar import Op, Scalar
from chainrule.spec import FLOAT32, FLOAT64

ONE_LANE = f"<{', '.join('i1 true' if k == 0 else 'i1 false' for k in range(LANES))}>"


class Loops:
    """One nest on its way to text."""

    def __init__(self, nest: Nest, values: Values) -> None:
        self.nest = nest
        self.values = values
        self.extents: dict[int, tuple[str, ...]] = {}

    def grid(self) -> None:
        """The loop over the points g0 to g1, and all that is in it."""
        w = self.values.writer
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
        w, rest = self.values.writer, point
        for name, extent in zip(reversed(self.nest.variables[1:]), reversed(extents), strict=True):
            self.values.variables[name] = w.value(f"urem i64 {rest}, {extent}")
            rest = w.value(f"udiv i64 {rest}, {extent}")
        if self.nest.variables:
            self.values.variables[self.nest.variables[0]] = rest

    def _lane_loop(self, loop: LaneLoop) -> None:
        starts = [splat(a.value.dtype, start_value(a.how, a.value.dtype)) for a in loop.accumulates]
        ends = self._lanes(loop, starts) if loop.extent else starts
        for a, lanes in zip(loop.accumulates, ends, strict=True):
            self.values.locals[a.name] = tree(self.values.writer, a.how, a.value.dtype, lanes) if loop.extent else lanes
            self.values.local_levels[a.name] = POINT

    def _lanes(self, loop: LaneLoop, starts: list[str]) -> list[str]:
        """All lanes of a loop that has some; the accumulators after them, not yet joined."""
        self.values.lane_variable = loop.variable
        self.values.known = {*self.nest.variables, *_variables_of(loop)}
        self.values.levels = {**dict.fromkeys(self.nest.variables, POINT), loop.variable: GROUP}
        self.values.stored_at = dict.fromkeys((s.buffer for s in _stores_of(loop)), GROUP)
        self.values.accesses = {}
        for serial in loop.serial:
            self._start_locals(serial, GROUP)
        self.values.reached.append({})
        self.values.reach(POINT, self._roots(loop), _stores_of(loop))
        ends = self._bodies(loop, starts)
        self.values.reached.pop()
        for name in [a.name for serial in loop.serial for a in serial.accumulates]:
            del self.values.locals[name], self.values.local_levels[name]
        return ends

    def _bodies(self, loop: LaneLoop, starts: list[str]) -> list[str]:
        """The loop over whole groups of lanes and the masked group that is left over; the accumulators after them."""
        w = self.values.writer
        if loop.extent == 1:
            return self._group(loop, Group("%v0" if self.nest.splits_lanes else "0", ONE_LANE, "0"), starts)
        first, end = ("%v0", "%v1") if self.nest.splits_lanes else ("0", w.param(loop.extent))
        if loop.extent < LANES:
            return self._part(loop, first, end, starts)
        whole = w.value(f"and i64 {w.value(f'sub i64 {end}, {first}')}, -{LANES}")
        whole_end = w.value(f"add i64 {first}, {whole}")
        head, middle, tail, done = w.name(), w.name(), w.name(), w.name()
        before = w.block
        w.branch(w.value(f"icmp slt i64 {first}, {whole_end}"), head, middle)

        w.label(head)
        lane, lane_phi = w.phi("i64", first, before)
        carried = [w.phi(vector(a.value.dtype), s, before) for a, s in zip(loop.accumulates, starts, strict=True)]
        sums = self._group(loop, Group(lane, ALL_LANES, str(LANES - 1)), [c[0] for c in carried])
        following = w.value(f"add i64 {lane}, {LANES}")
        for (_, phi), value in zip([(lane, lane_phi), *carried], [following, *sums], strict=True):
            w.close(phi, value)
        after = w.block
        w.branch(w.value(f"icmp slt i64 {following}, {whole_end}"), head, middle)

        w.label(middle)
        sums = self._merge(loop, (starts, before), (sums, after))
        w.branch(w.value(f"icmp slt i64 {whole_end}, {end}"), tail, done)

        w.label(tail)
        ends = self._part(loop, whole_end, end, sums)
        after = w.block
        w.go(done)
        w.label(done)
        return self._merge(loop, (sums, middle), (ends, after))

    def _part(self, loop: LaneLoop, first: str, end: str, sums: list[str]) -> list[str]:
        """Fewer than 16 lanes, under a mask."""
        w = self.values.writer
        left = w.value(f"sub i64 {end}, {first}")
        count = w.splat("i32", w.value(f"trunc i64 {left} to i32"))
        mask = w.value(f"icmp slt <{LANES} x i32> {SMALL_LANE_NUMBERS}, {count}")
        return self._group(loop, Group(first, mask, w.value(f"sub i64 {left}, 1")), sums)

    def _merge(self, loop: LaneLoop, one: tuple[list[str], str], other: tuple[list[str], str]) -> list[str]:
        """The accumulators where two ways meet."""
        merged = []
        for a, x, y in zip(loop.accumulates, one[0], other[0], strict=True):
            value, phi = self.values.writer.phi(vector(a.value.dtype), x, one[1])
            self.values.writer.body[phi] += f", [ {y}, %{other[1]} ]"
            merged.append(value)
        return merged

    def _group(self, loop: LaneLoop, group: Group, sums: list[str]) -> list[str]:
        """16 lanes: the serial loops, then stores, then a step of each accumulation."""
        self.values.group = group
        self.values.variables[loop.variable] = group.first
        self.values.reached.append({})
        for serial in loop.serial:
            self._serial_loop(serial)
        sums_of = self._needs(loop.accumulates)
        self.values.reach(GROUP, sums_of + self.values.store_roots(loop.stores), loop.stores)
        self._store_in_order(loop.stores, GROUP)
        self.values.reach(GROUP, sums_of, ())
        joined = [self._join_lanes(a, s) for a, s in zip(loop.accumulates, sums, strict=True)]
        self.values.reached.pop()
        return joined

    def _join_lanes(self, accumulate: Accumulate, so_far: str) -> str:
        """Lanes outside the mask keep what they had."""
        w, t = self.values.writer, vector(accumulate.value.dtype)
        joined = self._joined(accumulate, so_far)
        if self.values.group.mask == ALL_LANES:
            return joined
        return w.value(f"select {MASK} {self.values.group.mask}, {t} {joined}, {t} {so_far}")

    def _serial_loop(self, loop: SerialLoop) -> None:
        depth = GROUP + len(loop.variables)
        self._start_locals(loop, depth if _runs(loop) else GROUP)
        if not _runs(loop):
            return
        if id(loop) not in self.extents:
            self.extents[id(loop)] = tuple(self.values.writer.param(e) for e in loop.extents)
        self.values.levels |= {name: GROUP + 1 + k for k, name in enumerate(loop.variables)}
        stored_at = self.values.stored_at
        self.values.stored_at = {**stored_at, **dict.fromkeys((s.buffer for s in loop.stores), depth)}
        roots = self._needs(loop.accumulates) + self.values.store_roots(loop.stores)
        self.values.reach(GROUP, roots, loop.stores)
        self._serial_level(loop, 0, roots)
        self.values.stored_at = stored_at
        for name in loop.variables:
            del self.values.levels[name]
        self.values.local_levels |= dict.fromkeys((a.name for a in loop.accumulates), GROUP)
        self.values.forget({s.buffer for s in loop.stores}, {a.name for a in loop.accumulates})

    def _serial_level(self, loop: SerialLoop, depth: int, roots: list[int]) -> None:
        """One of the nested loops and those in it. Every extent is at least 1."""
        if depth == len(loop.variables):
            self._serial_body(loop)
            return
        w, head = self.values.writer, self.values.writer.name()
        before = w.block
        w.go(head)
        w.label(head)
        counter, counter_phi = w.phi("i64", "0", before)
        phis = []
        for a in loop.accumulates:
            self.values.locals[a.name], phi = w.phi(vector(a.value.dtype), self.values.locals[a.name], before)
            phis.append(phi)
        self.values.variables[loop.variables[depth]] = counter
        self.values.reached.append({})
        if depth + 1 < len(loop.variables):
            self.values.reach(GROUP + 1 + depth, roots, loop.stores)
        self._serial_level(loop, depth + 1, roots)
        self.values.reached.pop()
        following = w.value(f"add i64 {counter}, 1")
        w.close(counter_phi, following)
        for a, phi in zip(loop.accumulates, phis, strict=True):
            w.close(phi, self.values.locals[a.name])
        after = w.name()
        w.branch(w.value(f"icmp slt i64 {following}, {self.extents[id(loop)][depth]}"), head, after)
        w.label(after)

    def _serial_body(self, loop: SerialLoop) -> None:
        """Accumulate, then store."""
        v, level = self.values, GROUP + len(loop.variables)
        v.reach(level, self._needs(loop.accumulates), loop.stores)
        joined = [self._joined(a, v.locals[a.name]) for a in loop.accumulates]
        v.locals |= {a.name: value for a, value in zip(loop.accumulates, joined, strict=True)}
        v.forget(set(), {a.name for a in loop.accumulates})
        v.reach(level, v.store_roots(loop.stores), loop.stores)
        self._store_in_order(loop.stores, level)

    def _store_in_order(self, stores: Sequence[Store], level: int) -> None:
        for store in stores:
            self.values.reach(level, self.values.store_roots([store]), ())
            self.values.store(store)
            self.values.forget({store.buffer}, set())

    def _start_locals(self, loop: SerialLoop, level: int) -> None:
        for a in loop.accumulates:
            self.values.locals[a.name] = splat(a.value.dtype, start_value(a.how, a.value.dtype))
            self.values.local_levels[a.name] = level

    def _roots(self, loop: LaneLoop) -> list[int]:
        roots = self._needs(loop.accumulates) + self.values.store_roots(loop.stores)
        for serial in (s for s in loop.serial if _runs(s)):
            roots += self._needs(serial.accumulates) + self.values.store_roots(serial.stores)
        return roots

    def _needs(self, accumulates: Sequence[Accumulate]) -> list[int]:
        """The expressions that a step of each takes, as numbers."""
        return [self.values.number(e) for a in accumulates for e in (_exact_factors(a) or (a.value,))]

    def _joined(self, accumulate: Accumulate, so_far: str) -> str:
        """One step of an accumulation."""
        w, factors = self.values.writer, _exact_factors(accumulate)
        needed = [self.values.operand(number) for number in self._needs([accumulate])]
        if factors is not None:
            return fused_step(w, accumulate.value.dtype, so_far, *needed)
        return join(w, accumulate.how, accumulate.value.dtype, so_far, *needed)


def _exact_factors(accumulate: Accumulate) -> tuple[Scalar, ...] | None:
    """The factors of a product that is summed, if it has no rounding of its own: 24 bits times 24 bits fit into 53."""
    value = accumulate.value
    if accumulate.how != "sum" or value.dtype != FLOAT64 or not isinstance(value, Op) or value.name != "multiply":
        return None
    widened = all(isinstance(f, Op) and f.name == "cast" and f.arguments[0].dtype == FLOAT32 for f in value.arguments)
    return value.arguments if widened else None


def _runs(loop: SerialLoop) -> bool:
    """Whether a serial loop has any point. One that has none leaves no code, so the others need not ask."""
    return 0 not in loop.extents


def _stores_of(loop: LaneLoop) -> list[Store]:
    return [*loop.stores, *(s for serial in loop.serial if _runs(serial) for s in serial.stores)]


def _variables_of(loop: LaneLoop) -> set[str]:
    return {loop.variable, *(name for serial in loop.serial for name in serial.variables)}
