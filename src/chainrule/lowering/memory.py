"""Memory: scratch buffers share one arena, each for as long as something still reads it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from chainrule.kernel import Program
from chainrule.kernel.effects import reads, writes

ALIGNMENT = 64


def planned(program: Program) -> Program:
    """Offsets for every scratch buffer: buffers whose lives do not meet may share memory. Largest first, first fit."""
    lives = lifetimes(program)
    placed = _Placed(len(lives))
    offsets: dict[int, int] = {}
    order = sorted(lives, key=lambda b: (-_bytes(program, b), lives[b]))
    for buffer in order:
        offsets[buffer] = placed.add(_bytes(program, buffer), *lives[buffer])
    buffers = tuple(replace(b, offset=offsets.get(i, 0)) for i, b in enumerate(program.buffers))
    return replace(program, buffers=buffers, arena=placed.end)


class _Placed:
    """What has a place: where it starts and ends, in bytes, and its first and last statement, in order of starts."""

    def __init__(self, most: int) -> None:
        self.starts, self.ends, self.firsts, self.lasts = self.columns = np.empty((4, most), np.int64)
        self.count, self.end = 0, 0

    def add(self, size: int, first: int, last: int) -> int:
        """Put ``size`` bytes, needed from statement ``first`` to ``last``, at the lowest start that is free."""
        n = self.count
        met = np.flatnonzero((self.firsts[:n] <= last) & (self.lasts[:n] >= first))
        # Before each of them, the free bytes behind all that begin earlier; behind the last there is room for anything.
        ends = np.maximum.accumulate(self.ends[met])
        gaps = self.starts[met[1:]] - ends[:-1] >= size
        if not len(met) or self.starts[met[0]] >= size:
            start = 0
        else:
            start = int(ends[gaps.argmax() if gaps.any() else -1])
        at = int(self.starts[:n].searchsorted(start))
        self.columns[:, at + 1 : n + 1] = self.columns[:, at:n]
        self.columns[:, at] = start, start + size, first, last
        self.count, self.end = n + 1, max(self.end, start + size)
        return start


def lifetimes(program: Program) -> dict[int, tuple[int, int]]:
    """First and last statement that touches each scratch buffer."""
    lives: dict[int, tuple[int, int]] = {}
    for i, statement in enumerate(program.statements):
        for buffer in reads(statement) | writes(statement):
            if program.buffers[buffer].role == "scratch":
                lives[buffer] = (lives.get(buffer, (i, i))[0], i)
    return lives


def live_bytes(program: Program) -> int:
    """The most bytes of scratch that are needed at once: no plan can do with less."""
    lives = lifetimes(program)
    return max(
        (sum(_bytes(program, b) for b, (f, l) in lives.items() if f <= i <= l) for i in range(len(program.statements))),
        default=0,
    )


def _bytes(program: Program, buffer: int) -> int:
    held = program.buffers[buffer]
    return -(-max(held.size * held.dtype.itemsize, 1) // ALIGNMENT) * ALIGNMENT
