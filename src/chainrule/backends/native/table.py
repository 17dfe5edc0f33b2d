"""The table that native code walks: tasks in blocks in groups, packed into arrays of int64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from chainrule.backends.native.runtime_code import LEFT_BITS
from chainrule.errors import ArgumentError

MOST_BLOCKS = (1 << LEFT_BITS) - 1
"""Of a group: the claim word of runtime_code.py counts the blocks left in so many bits."""


class Task(NamedTuple):
    """One call of machine code: ``function(slots, params, g0, g1, v0, v1)``.

    function: an address that `build.load` gave. g0, g1: range of grid points; v0, v1: range of lanes.
    """

    function: int
    params: tuple[int, ...]
    g0: int
    g1: int
    v0: int
    v1: int


class Block(NamedTuple):
    """Tasks that one thread does in order."""

    tasks: tuple[Task, ...]


class Group(NamedTuple):
    """Blocks in any order, on any threads; what comes later in the table starts when all of them are done.

    Which blocks there are must follow from shapes alone, so that results have the same bits for any number of threads.
    cost: nanoseconds that one thread is thought to need for the group. It decides only whether threads share it.
    """

    blocks: tuple[Block, ...]
    cost: float


class Gate(NamedTuple):
    """Ends the program unless the byte at the start of slot ``slot`` is nonzero."""

    slot: int


class Table(NamedTuple):
    """A packed program.

    groups: [n, 6] first task, end task, first block, blocks, number of the gate or 0, slot of the gate or whether
    threads share the group. starts: [blocks + 1] the first task of each block. tasks: [n, 6] function, address of
    the params, g0, g1, v0, v1. params: what the tasks point to. shared: whether any group is.
    """

    groups: np.ndarray
    starts: np.ndarray
    tasks: np.ndarray
    params: np.ndarray
    shared: bool


SHARED_FROM = 3_000.0
"""ns: what a group must cost before threads share it; opening a group to a second thread and closing it costs less than
a tenth of that."""


def pack(entries: Sequence[Group | Gate], serial: bool = False) -> Table:
    """Entries in the order in which they run -> a table. serial: one thread does everything, without barriers.

    Gates count from 1. ArgumentError: a group of more than `MOST_BLOCKS` blocks.
    """
    groups: list[tuple[int, ...]] = []
    starts, tasks = [0], list[Task]()
    gates = 0
    for entry in entries:
        if isinstance(entry, Gate):
            gates += 1
            groups.append((len(tasks), len(tasks), len(starts) - 1, 0, gates, entry.slot))
            continue
        if len(entry.blocks) > MOST_BLOCKS:
            raise ArgumentError(f"a group has at most {MOST_BLOCKS:,} blocks, got {len(entry.blocks):,}")
        first_task, first_block = len(tasks), len(starts) - 1
        for block in entry.blocks:
            tasks.extend(block.tasks)
            starts.append(len(tasks))
        shared = not serial and len(entry.blocks) > 1 and entry.cost >= SHARED_FROM
        groups.append((first_task, len(tasks), first_block, len(entry.blocks), 0, int(shared)))
    params, addresses = _pooled([(t.function, t.params) for t in tasks])
    records = [(t.function, a, t.g0, t.g1, t.v0, t.v1) for t, a in zip(tasks, addresses, strict=True)]
    return Table(
        np.array(groups, np.int64).reshape(-1, 6),
        np.array(starts, np.int64),
        np.array(records, np.int64).reshape(-1, 6),
        params,
        any(g[4] == 0 and g[5] for g in groups),
    )


def _pooled(lists: Sequence[tuple[int, tuple[int, ...]]]) -> tuple[np.ndarray, list[int]]:
    """The params of functions in one array, equal ones of one function once, and the address of each."""
    offsets: dict[tuple[int, tuple[int, ...]], int] = {}
    pool: list[int] = []
    for key in lists:
        if key not in offsets:
            offsets[key] = len(pool)
            pool.extend(key[1])
    array = np.array(pool or [0], np.int64)
    return array, [array.ctypes.data + 8 * offsets[key] for key in lists]
