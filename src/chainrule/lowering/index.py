"""Positions along axes: affine in loop variables where possible, computed otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from chainrule.kernel import Affine, Const, Scalar, op, variable
from chainrule.spec import INT64


@dataclass(frozen=True)
class Index:
    """start + Σ stride * variable, plus ``computed`` if there is one."""

    start: int = 0
    strides: tuple[tuple[str, int], ...] = ()
    computed: Scalar | None = None

    @property
    def affine(self) -> bool:
        return self.computed is None

    def times(self, factor: int) -> Index:
        if factor == 0:
            return Index()
        scaled = None if self.computed is None else op("multiply", self.computed, integer(factor))
        return Index(self.start * factor, tuple((v, s * factor) for v, s in self.strides), scaled)

    def plus(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return Index(self.start + other, self.strides, self.computed)
        strides = dict(self.strides)
        for name, stride in other.strides:
            strides[name] = strides.get(name, 0) + stride
        both = [c for c in (self.computed, other.computed) if c is not None]
        joined = op("add", *both) if len(both) == 2 else both[0] if both else None
        return Index(self.start + other.start, tuple((v, s) for v, s in strides.items() if s), joined)

    def at(self) -> Affine:
        """As a position in a buffer; only for an affine one."""
        return Affine(self.start, tuple(sorted(self.strides)))

    def scalar(self) -> Scalar:
        """As an int64 expression."""
        found: Scalar | None = self.computed
        for name, stride in self.strides:
            term: Scalar = variable(name)
            if stride != 1:
                term = op("multiply", term, integer(stride))
            found = term if found is None else op("add", found, term)
        if found is None:
            return integer(self.start)
        return op("add", found, integer(self.start)) if self.start else found


def integer(value: int) -> Const:
    return Const(INT64, int(value))


def along(name: str) -> Index:
    """The value of one loop variable."""
    return Index(0, ((name, 1),))


def computed(expression: Scalar) -> Index:
    return Index(0, (), expression)


def position(index: tuple[Index, ...], strides: tuple[int, ...], start: int = 0) -> Index:
    """start + Σ index * stride."""
    total = Index(start)
    for i, stride in zip(index, strides, strict=True):
        total = total.plus(i.times(stride))
    return total


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of a contiguous array."""
    strides, total = [], 1
    for n in reversed(shape):
        strides.append(total)
        total *= max(n, 1)
    return tuple(reversed(strides))
