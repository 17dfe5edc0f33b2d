"""Compare two sets of named arrays bit by bit: the first place where they part."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Difference:
    """The first place where two sets of arrays part.

    reason: "value", "shape", "dtype", "only in the first" or "only in the second". Only for "value": index, the two
    values, their absolute distance, the steps between neighbouring floats from one to the other (ulps; None for other
    types and where one is NaN), and how many entries of the array differ out of how many.
    """

    name: str
    reason: str
    index: tuple[int, ...] | None = None
    first: Any = None
    second: Any = None
    distance: float | None = None
    ulps: int | None = None
    differing: int = 0
    entries: int = 0

    def __str__(self) -> str:
        if self.reason.startswith("only"):
            return f"{self.name}: {self.reason}"
        if self.index is None:
            return f"{self.name}: {self.reason} {self.first} and {self.second}"
        place = f"{self.name}[{', '.join(map(str, self.index))}]" if self.index else self.name
        apart = "" if self.distance is None else f", {self.distance:.3g} apart"
        steps = "" if self.ulps is None else f" ({self.ulps:,} ulp)"
        share = f"{self.differing:,} of {self.entries:,} entries differ"
        return f"{place}: {self.first!r} and {self.second!r}{apart}{steps}; {share}"


def first_difference(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> Difference | None:
    """The first difference in the order of `a`, then of what only `b` has; None if all bits are equal.

    0.0 and -0.0 differ, since 1/x does. Any NaN equals any other: its spare bits mean nothing.
    """
    for name, array in a.items():
        if name not in b:
            return Difference(name, "only in the first")
        found = _difference(name, np.asarray(array), np.asarray(b[name]))
        if found:
            return found
    return next((Difference(name, "only in the second") for name in b if name not in a), None)


def _difference(name: str, a: np.ndarray, b: np.ndarray) -> Difference | None:
    if a.dtype != b.dtype:
        return Difference(name, "dtype", first=str(a.dtype), second=str(b.dtype))
    if a.shape != b.shape:
        return Difference(name, "shape", first=list(a.shape), second=list(b.shape))
    differs = a != b
    if a.dtype.kind == "f":
        differs = np.where(np.isnan(a) & np.isnan(b), False, differs | (np.signbit(a) != np.signbit(b)))
    elif a.dtype.kind == "c":
        differs &= ~(np.isnan(a) & np.isnan(b))
    if not differs.any():
        return None
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(differs)), a.shape))
    x, y = a[index].item(), b[index].item()
    distance = float(abs(x - y)) if a.dtype.kind in "biufc" else None
    ranked = a.dtype.kind == "f" and a.dtype.itemsize <= 8 and x == x and y == y
    ulps = abs(_rank(a[index]) - _rank(b[index])) if ranked else None
    return Difference(name, "value", index, x, y, distance, ulps, int(np.count_nonzero(differs)), a.size)


def _rank(x: np.floating) -> int:
    """Place of x among all floats of its type; -0.0 is the neighbour of 0.0."""
    bits = x.itemsize * 8
    pattern = int.from_bytes(np.asarray(x, x.dtype.newbyteorder("<")).tobytes(), "little")
    magnitude = pattern & ((1 << (bits - 1)) - 1)
    return -magnitude - 1 if pattern >> (bits - 1) else magnitude
