"""Formulas on 16 lanes written as Python arithmetic: ``a * b + 1`` adds an ``fmul`` and an ``fadd`` to a function."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chainrule.backends.native.vectors import BYTES, LANES, hexadecimal, suffix
from chainrule.backends.native.writer import Writer

FLOATS = ("float", "double")


class Lanes:
    """An operand: 16 lanes of ``element``. Arithmetic with a Python number uses it in every lane.

    Comparisons are methods that give a mask; false where either is NaN.
    """

    __slots__ = ("element", "operand", "writer")

    def __init__(self, writer: Writer, element: str, operand: str) -> None:
        self.writer, self.element, self.operand = writer, element, operand

    @property
    def type(self) -> str:
        return f"<{LANES} x {self.element}>"

    @property
    def floating(self) -> bool:
        return self.element in FLOATS

    def like(self, number: Lanes | float | int) -> Lanes:
        """``number`` as an operand beside this one."""
        if isinstance(number, Lanes):
            return number
        if not self.floating:
            return Lanes(self.writer, self.element, f"splat ({self.element} {int(number)})")
        nearest = float(np.float32(number)) if self.element == "float" else float(number)
        return Lanes(self.writer, self.element, f"splat ({self.element} {hexadecimal(nearest)})")

    def _two(self, floats: str, integers: str, other: Lanes | float | int, swap: bool = False) -> Lanes:
        a, b = (self.like(other), self) if swap else (self, self.like(other))
        name = floats if self.floating else integers
        return Lanes(self.writer, self.element, self.writer.value(f"{name} {self.type} {a.operand}, {b.operand}"))

    def __add__(self, other: Lanes | float | int) -> Lanes:
        return self._two("fadd", "add", other)

    def __radd__(self, other: float | int) -> Lanes:
        return self._two("fadd", "add", other, swap=True)

    def __sub__(self, other: Lanes | float | int) -> Lanes:
        return self._two("fsub", "sub", other)

    def __rsub__(self, other: float | int) -> Lanes:
        return self._two("fsub", "sub", other, swap=True)

    def __mul__(self, other: Lanes | float | int) -> Lanes:
        return self._two("fmul", "mul", other)

    def __rmul__(self, other: float | int) -> Lanes:
        return self._two("fmul", "mul", other, swap=True)

    def __truediv__(self, other: Lanes | float | int) -> Lanes:
        return self._two("fdiv", "udiv", other)

    def __rtruediv__(self, other: float | int) -> Lanes:
        return self._two("fdiv", "udiv", other, swap=True)

    def __and__(self, other: Lanes | int) -> Lanes:
        return self._two("", "and", other)

    def __or__(self, other: Lanes | int) -> Lanes:
        return self._two("", "or", other)

    def __xor__(self, other: Lanes | int) -> Lanes:
        return self._two("", "xor", other)

    def __lshift__(self, bits: int) -> Lanes:
        return self._two("", "shl", bits)

    def __rshift__(self, bits: int) -> Lanes:
        """Keeps the sign."""
        return self._two("", "ashr", bits)

    def __neg__(self) -> Lanes:
        return Lanes(self.writer, self.element, self.writer.value(f"fneg {self.type} {self.operand}"))

    def _compare(self, floats: str, integers: str, other: Lanes | float | int) -> Lanes:
        name = f"fcmp {floats}" if self.floating else f"icmp {integers}"
        text = f"{name} {self.type} {self.operand}, {self.like(other).operand}"
        return Lanes(self.writer, "i1", self.writer.value(text))

    def less(self, other: Lanes | float | int) -> Lanes:
        return self._compare("olt", "slt", other)

    def more(self, other: Lanes | float | int) -> Lanes:
        return self._compare("ogt", "sgt", other)

    def equals(self, other: Lanes | float | int) -> Lanes:
        return self._compare("oeq", "eq", other)

    def differs(self, other: Lanes | float | int) -> Lanes:
        """True where either is NaN."""
        return self._compare("une", "ne", other)

    def choose(self, yes: Lanes, no: Lanes | float | int) -> Lanes:
        """``yes`` where this mask is true, ``no`` elsewhere."""
        text = f"select {self.type} {self.operand}, {yes.type} {yes.operand}, {yes.type} {yes.like(no).operand}"
        return Lanes(self.writer, yes.element, self.writer.value(text))

    def intrinsic(self, name: str, *others: Lanes | float) -> Lanes:
        arguments = [(self.type, o.operand) for o in (self, *map(self.like, others))]
        return Lanes(
            self.writer, self.element, self.writer.call(self.type, f"llvm.{name}.{suffix(self.element)}", *arguments)
        )

    def size(self) -> Lanes:
        """|x|"""
        return self.intrinsic("fabs")

    def with_sign_of(self, other: Lanes) -> Lanes:
        return self.intrinsic("copysign", other)

    def convert(self, instruction: str, element: str) -> Lanes:
        text = f"{instruction} {self.type} {self.operand} to <{LANES} x {element}>"
        return Lanes(self.writer, element, self.writer.value(text))

    def bits(self) -> Lanes:
        return self.convert("bitcast", f"i{8 * BYTES[self.element]}")

    def as_float(self) -> Lanes:
        """The number that these bits stand for."""
        return self.convert("bitcast", "double" if self.element == "i64" else "float")


def fma(a: Lanes, b: Lanes | float, c: Lanes | float) -> Lanes:
    """a * b + c, rounded once."""
    return a.intrinsic("fma", b, c)


def polynomial(x: Lanes, coefficients: Sequence[float]) -> Lanes:
    """c0 + c1 x + c2 x² + ..., by Horner's rule."""
    result = x.like(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result = fma(result, x, c)
    return result


def at_least(x: Lanes, bound: float) -> Lanes:
    """NaN stays NaN."""
    return x.less(bound).choose(x.like(bound), x)


def at_most(x: Lanes, bound: float) -> Lanes:
    """NaN stays NaN."""
    return x.more(bound).choose(x.like(bound), x)
