"""A plan of programs, loaded: machine code in memory, and the way to run it on arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from chainrule.backends.native import build
from chainrule.backends.native.address import address
from chainrule.backends.native.places import fill, places_of
from chainrule.backends.native.runtime import bind
from chainrule.backends.native.table import Table
from chainrule.memory import aligned_zeros


class Plan(NamedTuple):
    """All that programs in a row need, without any address: what one process has worked out another can take over.

    modules: of machine code. places: (dtype, function, its place in the table of code for products of that dtype).
    functions: the names of those that tasks call. table: tasks hold a function's number for its address, and for that
    of its params how many bytes they begin after the first. products: (dtype, the positions among all params that hold
    the address of its table). slots: name -> its buffers; of all ``buffers`` each has a slot. scratch: (slot, bytes
    after the beginning of the ``arena``, of so many bytes). constants: (slot, values).
    """

    modules: tuple[build.Kept, ...]
    places: tuple[tuple[str, str, int], ...]
    functions: tuple[str, ...]
    table: Table
    products: tuple[tuple[str, np.ndarray], ...]
    slots: dict[str, list[int]]
    buffers: int
    arena: int
    scratch: tuple[tuple[int, int], ...]
    constants: tuple[tuple[int, np.ndarray], ...]


def linked(plan: Plan) -> NativeLinked:
    """A plan whose code is in memory, ready to be bound."""
    addresses = build.addresses()
    fill(plan.places, addresses)
    tasks, params = plan.table.tasks.copy(), plan.table.params.copy()
    for dtype, positions in plan.products:
        params[positions] = address(places_of(dtype))
    tasks[:, 0] = np.array([addresses[name] for name in plan.functions] or [0], np.int64)[tasks[:, 0]]
    tasks[:, 1] += address(params)
    return NativeLinked(plan, plan.table._replace(tasks=tasks, params=params))


class NativeLinked(NamedTuple):
    """A plan, and its table with the addresses of this process."""

    plan: Plan
    table: Table

    def bind(self, memory: Mapping[str, np.ndarray], tables: Mapping[str, np.ndarray]) -> NativeBound:
        """Join the machine code to arrays by name (see ``compiler.link.Linked``); every name must be there."""
        return NativeBound(self, memory, tables)


class NativeBound:
    """A table joined to memory."""

    def __init__(
        self, linked: NativeLinked, memory: Mapping[str, np.ndarray], tables: Mapping[str, np.ndarray]
    ) -> None:
        self.linked, self.held, self.tables = linked, dict(memory), dict(tables)
        plan = linked.plan
        self.scratch = aligned_zeros(plan.arena, np.uint8)
        self.slots = np.zeros(max(plan.buffers, 1), np.int64)
        advances = np.zeros_like(self.slots)
        for slot, offset in plan.scratch:
            self.slots[slot] = self.scratch.ctypes.data + offset
        for slot, values in plan.constants:
            self.slots[slot] = values.ctypes.data
        for name, indices in plan.slots.items():
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
        for slot in self.linked.plan.slots[name]:
            self.slots[slot] = self.first[slot] = at

    def rewind(self) -> None:
        """The next step is the tables' first."""
        self.slots[self.moving] = self.first[self.moving]
