"""Functions that LLVM lacks, as LLVM functions on 16 lanes, each defined once for a module that needs it."""

from __future__ import annotations

from collections.abc import Iterable

DEFINITIONS: dict[str, str] = {}


def definition(name: str) -> str:
    """The LLVM text of a function that a NestCode names in ``support``."""
    return DEFINITIONS[name]


def closure(names: Iterable[str]) -> frozenset[str]:
    return frozenset(names)
