"""What a demonstration is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chainrule.cli.output import Output

WIDTH = 100
"""Characters of a line: what a demonstration shows is read side by side with its script, and on slides."""


@dataclass(frozen=True)
class Demo:
    """One demonstration: it works its numbers out with chainrule, shows them, and prints scripts that do the same."""

    name: str
    summary: str
    run: Callable[[Output], dict[str, Any]]
    """Shows one screen or two, as it goes; gives the numbers as plain data."""
    scripts: Mapping[str, str]
    """By what they are written in: ``chainrule``, and ``pytorch`` where it can be said there."""
    next: tuple[str, ...]
    """The command that comes next."""
