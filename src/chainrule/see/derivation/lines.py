"""A line of a derivation: one value of the step, how it comes about, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One value: forward, backward or in the update."""

    number: int
    """Counted from 1 through the whole step."""
    section: str
    """"forward", "backward" or "update"."""
    name: str
    """What is computed: "z1", "d[W1]", "W1"."""
    expression: str
    """How, as a Python expression of the names of earlier lines."""
    rule: str = ""
    """Why, in words: the declared rule of the operation that is pulled back."""
    cites: tuple[int, ...] = ()
    """Of a backward line: the forward lines whose rule it is."""
    equation: str = ""
    """Which of Nielsen's equations it is: "BP1" to "BP4"; empty where it is none of them."""
    note: str = ""
    """Constants and conventions: what a mean's n counts, the derivative chosen at a kink."""
    shape: tuple[int, ...] = ()
    source: str = ""
    """Where in the user's files the forward operation was called: "train.py:9"."""
    layer: str = ""
    """Qualified name of the module: "0"."""
    operation: str = ""
    """The primitive; of several paths, the first."""
    via: tuple[str, ...] = ()
    """Of a backward line: the values through which the loss depends on this one, a path each."""
    key: str = ""
    """The line's array in ``Derivation.values``."""


@dataclass(frozen=True)
class Change:
    """One weight before and after the update, in numbers."""

    name: str
    """"0.weight[7, 2]"."""
    short: str
    """"W1[7, 2]"."""
    before: float
    after: float
    gradient: float
    steps: tuple[str, ...]
    """Each assignment of the optimizer's formula with its numbers; the last gives the new weight."""
