"""Figures -> text for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def duration(seconds: float | None) -> str:
    """Three digits and a unit."""
    if seconds is None:
        return "-"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale or unit == "us":
            return f"{seconds / scale:.3g} {unit}" if seconds / scale < 1000 else f"{seconds / scale:.0f} {unit}"
    return ""


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns, the first one to the left and the others to the right."""
    lines = [list(map(str, header)), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def shown(line: list[str]) -> str:
        cells = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        return "  ".join(cells).rstrip()

    return "\n".join([shown(lines[0]), "  ".join("-" * w for w in widths), *map(shown, lines[1:])])
