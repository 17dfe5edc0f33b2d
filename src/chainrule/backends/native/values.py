"""The values of a nest at the levels of its loops: expressions, addresses, loads and stores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from chainrule.backends.native import memory
from chainrule.backends.native.dag import Dag, Node
from chainrule.backends.native.operations import operation
from chainrule.backends.native.vectors import ALL_LANES, LANE_NUMBERS, POSITIONS, splat, stored
from chainrule.backends.native.writer import Writer
from chainrule.errors import GraphError
from chainrule.kernel.program import Buffer, Store
from chainrule.kernel.scalar import Affine, Const, Gather, Load, Local, Op, Scalar, Variable
from chainrule.spec import INT64

POINT, GROUP = 1, 2


class Group(NamedTuple):
    """The 16 lanes at hand. first: the number of lane 0; last: which lane is the last that counts, from 0. Operands."""

    first: str
    mask: str
    last: str


class Access(NamedTuple):
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


class Values:
    """The values of a nest, each computed once, at the outermost loop that it depends on.

    *Level* 1 is a grid point, 2 a group of 16 lanes, 3 and up the serial loops. The loops say where the writer is by
    ``levels`` (of loop variables), ``variables`` and ``locals`` (operands), and a dict at the end of ``reached`` for
    each level that they enter.
    """

    def __init__(self, buffers: tuple[Buffer, ...]) -> None:
        self.buffers = buffers
        self.writer = Writer()
        self.dag = Dag()
        self.variables: dict[str, str] = {}
        self.levels: dict[str, int] = {}
        self.locals: dict[str, str] = {}
        self.local_levels: dict[str, int] = {}
        self.reached: list[Reached] = [{}]
        self.group = Group("0", ALL_LANES, "0")
        self.accesses: dict[tuple[int, Affine], Access] = {}
        self.constants: dict[int, str] = {}
        self.lane_variable = ""
        self.known: set[str] = set()
        self.stored_at: dict[int, int] = {}

    def number(self, scalar: Scalar) -> int:
        return self.dag.number(scalar)

    def store_roots(self, stores: Iterable[Store]) -> list[int]:
        roots = []
        for s in stores:
            roots.append(self.number(s.value))
            if isinstance(s.at, Scalar):
                roots.append(self.number(s.at))
        return roots

    def forget(self, buffers: set[int], names: set[str]) -> None:
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
            return self.variable_level(scalar.name)
        if isinstance(scalar, Local):
            return self._local_level(scalar.name)
        if isinstance(scalar, Load):
            level = max([level, *(self.variable_level(name) for name, stride in scalar.at.strides if stride)])
        if isinstance(scalar, (Load, Gather)):
            level = max(level, self.stored_at.get(scalar.buffer, POINT))
        return level

    def variable_level(self, name: str) -> int:
        # A serial loop's variables are not yet known while the lane loop around it begins: they are further in.
        return self.levels.get(name, GROUP + 1)

    def _local_level(self, name: str) -> int:
        if name not in self.local_levels:
            raise GraphError(
                f"a nest reads the local {name!r} before any accumulation of that name; found {[*self.locals]}"
            )
        return self.local_levels[name]

    def reach(self, level: int, roots: list[int], stores: Sequence[Store]) -> None:
        """Compute, here, what ``roots`` need and what can be computed at ``level`` (and what was left further out)."""
        of: dict[int, int] = {}
        for number in self.dag.below(roots):
            node = self.dag.nodes[number]
            of[number] = self._level(node, of)
            self._point_at(node.scalar, level)
            if of[number] <= level and self.found(number) is None:
                self.reached[-1][number] = self._compute(node)
        for s in stores:
            if isinstance(s.at, Affine):
                self._address(self._access(s.buffer, s.at), level)

    def found(self, key: object) -> str | None:
        for reached in reversed(self.reached):
            if key in reached:
                return reached[key]
        return None

    def operand(self, number: int) -> str:
        scalar = self.dag.nodes[number].scalar
        if isinstance(scalar, Const):
            return self._constant(scalar)
        if isinstance(scalar, Local):
            return self.locals[scalar.name]
        found = self.found(number)
        if found is None:
            raise GraphError(f"a nest uses a value outside the loops that it depends on: {type(scalar).__name__}")
        return found

    def _compute(self, node: Node) -> str:
        scalar = node.scalar
        if isinstance(scalar, Const):
            return self._constant(scalar)
        if isinstance(scalar, Local):
            return self.locals[scalar.name]
        if isinstance(scalar, Variable):
            return self._variable(scalar.name)
        if isinstance(scalar, Load):
            return self._load(scalar, node)
        if isinstance(scalar, Gather):
            return self._gather(scalar, node.arguments[0])
        if isinstance(scalar, Op):
            return self._operate(scalar, node)
        raise GraphError(f"{type(scalar).__name__} is not a scalar expression of chainrule.kernel")

    def _gather(self, scalar: Gather, at: int) -> str:
        w, dtype = self.writer, self._held(scalar)
        base = w.origin(scalar.buffer, stored(dtype))
        mask = self.group.mask if self._lanes_count() else ALL_LANES
        at, mask = self._unguarded(at, mask)
        positions = self.operand(at)
        found = memory.both(w, mask, memory.inside(w, positions, self._size(scalar.size, scalar.buffer)))
        if self._lane_stride(at) == 1:
            return memory.load_next(w, dtype, memory.first_of(w, dtype, base, positions), found, scalar.other)
        return memory.load_apart(w, dtype, memory.apart(w, dtype, base, positions), found, scalar.other)

    def _unguarded(self, at: int, mask: str) -> tuple[int, str]:
        """(positions, which lanes count): of positions that are -1, which no buffer has, where a guard is false, those
        without the guard and fewer lanes. So what lies side by side is seen to."""
        node = self.dag.nodes[at]
        if isinstance(node.scalar, Op) and node.scalar.name == "where":
            guard, positions, otherwise = node.arguments
            last = self.dag.nodes[otherwise].scalar
            if isinstance(last, Const) and last.value == -1:
                return positions, memory.both(self.writer, mask, self.operand(guard))
        return at, mask

    def _lane_stride(self, root: int) -> int | None:
        """By how much an integer grows from lane to lane, where that is plain from how it is written."""
        strides: dict[int, int | None] = {}
        for number in self.dag.below([root]):
            node = self.dag.nodes[number]
            strides[number] = self._stride_of(node, [strides[a] for a in node.arguments])
        return strides[root]

    def _stride_of(self, node: Node, arguments: list[int | None]) -> int | None:
        scalar = node.scalar
        if self.lane_variable not in node.variables and all(self.local_levels[n] == POINT for n in node.locals):
            return 0
        if isinstance(scalar, Variable):
            return 1
        if not isinstance(scalar, Op) or scalar.dtype != INT64 or None in arguments:
            return None
        if scalar.name == "add":
            return sum(a for a in arguments if a is not None)
        if scalar.name == "subtract" and arguments[1] == 0:
            return arguments[0]
        return None

    def _lanes_count(self) -> bool:
        """Whether the writer is inside a group of lanes, whose mask says which of them count."""
        return len(self.reached) > GROUP

    def _operate(self, scalar: Op, node: Node) -> str:
        arguments = [self.dag.nodes[a].scalar for a in node.arguments]
        operands = [self.operand(a) for a in node.arguments]
        if scalar.name in ("floor_divide", "remainder", "pow") and isinstance(arguments[1], Const):
            operands[1] = splat(arguments[1].dtype, arguments[1].value)
        return operation(self.writer, scalar.name, scalar.dtype, arguments[-1].dtype, operands)

    def _constant(self, scalar: Const) -> str:
        """Numbers beyond -1, 0 and 1 are sizes, or follow from sizes, more often than not, so they are params."""
        dtype = scalar.dtype
        if dtype.kind not in "iuf" or scalar.value in (-1, 0, 1) or scalar.value != scalar.value:
            return splat(dtype, scalar.value)
        number = self.number(scalar)
        if number not in self.constants:
            self.constants[number] = self.writer.constant(dtype, scalar.value)
        return self.constants[number]

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

    def _access(self, buffer: int, at: Affine) -> Access:
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
            start = w.start(buffer, at.start)
            self.accesses[key] = Access(buffer, start, kept, lane_class, lane_stride)
        return self.accesses[key]

    def _point_at(self, scalar: Scalar, level: int) -> None:
        if isinstance(scalar, Load):
            self._address(self._access(scalar.buffer, scalar.at), level)

    def _address(self, access: Access, level: int) -> str:
        """The address (of lane 0) with the terms of every level up to ``level``, each added at its own level."""
        w, t = self.writer, stored(self.buffers[access.buffer].dtype)
        pointer = ""
        for at in range(POINT, level + 1):
            found = self.found(("address", access, at))
            if found is None:
                found = self._address_terms(access, at, pointer or w.base(access.buffer), t)
                self.reached[-1][("address", access, at)] = found
            pointer = found
        return pointer

    def _address_terms(self, access: Access, level: int, pointer: str, t: str) -> str:
        w = self.writer
        terms = [
            w.value(f"mul i64 {self.variables[name]}, {stride}")
            for name, stride in access.strides
            if self.variable_level(name) == level
        ]
        if level == POINT:
            terms.append(access.start)
        if level == GROUP and access.lane_class != "same":
            first = self.group.first
            terms.append(first if access.lane_class == "next" else w.value(f"mul i64 {first}, {access.lane_stride}"))
        for term in terms:
            pointer = w.value(f"getelementptr {t}, ptr {pointer}, i64 {term}")
        return pointer

    def _lane_positions(self, access: Access) -> str:
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
            mask = memory.both(w, mask, self.operand(node.arguments[0]))
        if access.lane_class == "next":
            return memory.load_next(w, dtype, pointer, mask, scalar.other)
        pointers = memory.apart(w, dtype, pointer, self._lane_positions(access))
        return memory.load_apart(w, dtype, pointers, mask, scalar.other)

    def store(self, store: Store) -> None:
        w, group = self.writer, self.group
        dtype = self.buffers[store.buffer].dtype
        if dtype != store.value.dtype:
            raise GraphError(
                f"buffer {store.buffer} holds {dtype.name} but {store.value.dtype.name} is stored: cast before"
            )
        value = self.operand(self.number(store.value))
        if isinstance(store.at, Scalar):
            self._store_computed(store, store.at, dtype, value)
            return
        access = self._access(store.buffer, store.at)
        pointer = self._address(access, len(self.reached) - 1)
        if access.lane_class == "next":
            memory.store_next(w, dtype, pointer, value, group.mask, store.adds)
        elif access.lane_class == "apart":
            pointers = memory.apart(w, dtype, pointer, self._lane_positions(access))
            memory.store_apart(w, dtype, pointers, value, group.mask, store.adds)
        elif store.adds:
            memory.add_in_order(w, dtype, pointer, "zeroinitializer", value, group.mask)
        else:
            memory.store_one(w, dtype, pointer, value, group.last)

    def _store_computed(self, store: Store, computed: Scalar, dtype: np.dtype, value: str) -> None:
        w, mask = self.writer, self.group.mask
        base, size = w.origin(store.buffer, stored(dtype)), self._size(self.buffers[store.buffer].size, store.buffer)
        at, mask = self._unguarded(self.number(computed), mask)
        positions = self.operand(at)
        found = memory.both(w, mask, memory.inside(w, positions, size))
        if self._lane_stride(at) == 1:
            memory.store_next(w, dtype, memory.first_of(w, dtype, base, positions), value, found, store.adds)
        elif store.adds:
            memory.add_in_order(w, dtype, base, positions, value, found)
        else:
            memory.store_apart(w, dtype, memory.apart(w, dtype, base, positions), value, found, adds=False)
