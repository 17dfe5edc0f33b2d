"""Memory: scratch buffers share one arena, each for as long as something still reads it."""

from __future__ import annotations

from bisect import insort
from dataclasses import replace

from chainrule.kernel import Program
from chainrule.kernel.effects import reads, writes

ALIGNMENT = 64


def planned(program: Program) -> Program:
    """Offsets for every scratch buffer: buffers whose lives do not meet may share memory. Largest first, first fit."""
    lives = lifetimes(program)
    placed: list[tuple[int, int, int, int]] = []  # start, end in bytes; first, last statement; in this order
    offsets: dict[int, int] = {}
    order = sorted(lives, key=lambda b: (-_bytes(program, b), lives[b]))
    for buffer in order:
        first, last = lives[buffer]
        size = _bytes(program, buffer)
        start = 0
        for begin, end, lives_from, lives_to in placed:
            if lives_from > last or first > lives_to:
                continue
            if begin - start >= size:
                break
            start = max(start, end)
        offsets[buffer] = start
        insort(placed, (start, start + size, first, last))
    buffers = tuple(replace(b, offset=offsets.get(i, 0)) for i, b in enumerate(program.buffers))
    return replace(program, buffers=buffers, arena=max((end for _, end, *_ in placed), default=0))


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
