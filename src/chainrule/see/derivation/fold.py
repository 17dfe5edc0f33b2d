"""Folding: repeating layers of a deep network, said once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from chainrule.see.derivation.lines import Line

SHORT = 40
"""Derivations of up to this many lines are printed whole: a three-layer network has about 25."""
LONGEST = 60
"""Lines of the longest block that is looked for; a transformer's has about 50."""
OFTEN = 3
"""A block is folded from this many times on."""


@dataclass(frozen=True)
class Fold:
    """Lines that say the same as the ``period`` lines before them, for other layers."""

    lines: tuple[Line, ...]
    period: int

    @property
    def words(self) -> str:
        """What is left out."""
        times = len(self.lines) // self.period
        first, last = self.lines[0], self.lines[-1]
        so = "once more" if times == 1 else f"{times} times more"
        return f"lines {first.number} to {last.number}: the same {so}, from {first.name} to {last.name}"


def folded(lines: Sequence[Line]) -> list[Line | Fold]:
    """The lines of one section, with repeating blocks shown once."""
    marks = [_mark(line) for line in lines]
    found: list[Line | Fold] = []
    i = 0
    while i < len(lines):
        period, times = _repeats(marks, i)
        found.extend(lines[i : i + period])
        if times > 1:
            found.append(Fold(tuple(lines[i + period : i + period * times]), period))
        i += period * times
    return found


def _repeats(marks: Sequence[str], i: int) -> tuple[int, int]:
    """(length, how often) of the block at ``i`` that covers the most lines; (1, 1) if nothing repeats enough."""
    best = (1, 1)
    for period in range(1, min(LONGEST, (len(marks) - i) // OFTEN) + 1):
        times = 1
        block = marks[i : i + period]
        while marks[i + times * period : i + (times + 1) * period] == block:
            times += 1
        if times >= OFTEN and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def _mark(line: Line) -> str:
    """The line with layers counted from its own, so that it reads alike at every depth."""
    own = re.search(r"[A-Za-z](\d+)", line.name)
    base = int(own[1]) if own else 0
    relative = re.sub(
        r"\b([A-Za-z]+)(\d+)(?=\b|_)",
        lambda found: f"{found[1]}<{int(found[2]) - base}>",
        f"{line.name} = {line.expression}",
    )
    return f"{line.section} {relative} {line.rule} {line.equation}"
