"""sin and cos: quarter turns taken off in two or three numbers of double precision, then a polynomial on +-pi / 4."""

from __future__ import annotations

from chainrule.backends.native.formula import Lanes, at_least, at_most, fma, polynomial
from chainrule.backends.native.precision import DOUBLE, Precision, coefficients

# pi / 2 in three numbers of double precision, each what the ones before left over.
HALF_PI = (float.fromhex("0x1.921fb54442d18p+0"), float.fromhex("0x1.1a62633145c07p-54"),
           float.fromhex("-0x1.f1976b7ed8fbcp-110"))  # fmt: skip
PER_QUARTER = float.fromhex("0x1.45f306dc9c883p-1")
LARGEST_REST = 0.7854
"""pi / 4 and a little; what is left of a number too large to reduce (beyond 2^50) is cut here, so sines stay sines."""

# (sin r - r) / r³ and (cos r - 1 + r² / 2) / r⁴, in r².
SIN_SINGLE = coefficients("-0x1.555546p-3 0x1.11075cp-7 -0x1.994cc6p-13")  # error 3.6e-9 / r²
COS_SINGLE = coefficients("0x1.55554ap-5 -0x1.6c0c94p-10 0x1.9a03aep-16")  # error 9.9e-11 / r⁴
SIN_DOUBLE = coefficients(
    "-0x1.5555555555549p-3 0x1.111111110f896p-7 -0x1.a01a019c12c9bp-13 0x1.71de35775cad4p-19 "
    "-0x1.ae5e652265593p-26 0x1.5d927f3835caap-33"
)  # error 3.5e-18 / r²
COS_DOUBLE = coefficients(
    "0x1.555555555554ep-5 -0x1.6c16c16c154dfp-10 0x1.a01a019cfa1e6p-16 -0x1.27e4f837cf697p-22 "
    "0x1.1eea07b8f4892p-29 -0x1.8fbb9ddd83f09p-37"
)  # error 5.4e-20 / r⁴


def sin(x: Lanes, p: Precision) -> Lanes:
    return x.equals(0.0).choose(x, _turned(x, p, 0))


def cos(x: Lanes, p: Precision) -> Lanes:
    return _turned(x, p, 1)


def _turned(x: Lanes, p: Precision, quarters: int) -> Lanes:
    """The sine of x and so many quarter turns."""
    quarter, sine, cosine = _double(x) if p.element == "double" else _single(x)
    quarter = quarter + quarters
    value = (quarter & 1).equals(0).choose(sine, cosine)
    return (quarter & 2).equals(0).choose(value, -value)


def _single(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """Quarter turns, and sine and cosine of the rest. Double precision makes the reduction exact enough to 2^50."""
    wide = x.convert("fpext", "double")
    quarter, whole = DOUBLE.whole(wide, PER_QUARTER)
    rest = fma(whole, -HALF_PI[1], fma(whole, -HALF_PI[0], wide))
    r = _cut(rest).convert("fptrunc", "float")
    z = r * r
    sine = fma(z * r, polynomial(z, SIN_SINGLE), r)
    cosine = fma(z * z, polynomial(z, COS_SINGLE), fma(z, -0.5, 1.0))
    return quarter.convert("trunc", "i32"), sine, cosine


def _double(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """The rest is high + low, of twice the precision, as it may be as small as x's last bits."""
    quarter, whole = DOUBLE.whole(x, PER_QUARTER)
    first = fma(whole, -HALF_PI[0], x)
    product = whole * HALF_PI[1]
    lost = fma(whole, HALF_PI[1], -product)
    high = first - product
    low = (first - high) - product - fma(whole, HALF_PI[2], lost)
    high = _cut(high)
    z = high * high
    half = z * 0.5
    one = 1.0 - half
    sine = high + fma(z * high, polynomial(z, SIN_DOUBLE), fma(half, -low, low))
    cosine = one + (((1.0 - one) - half) + fma(z * z, polynomial(z, COS_DOUBLE), -(high * low)))
    return quarter, sine, cosine


def _cut(rest: Lanes) -> Lanes:
    return at_most(at_least(rest, -LARGEST_REST), LARGEST_REST)
