"""What a demonstration is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Demo:
    """One demonstration: numbers worked out by chainrule, lines that show them, and a script that prints the same."""

    name: str
    summary: str
    numbers: Callable[[], dict[str, Any]]
    """Works everything out, as plain data."""
    lines: Callable[[dict[str, Any]], list[str]]
    """One screen of text: at most 40 lines of 100 characters."""
    script: str
    next: tuple[str, ...]
    """The command that comes next."""
