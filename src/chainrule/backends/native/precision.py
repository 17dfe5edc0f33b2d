"""What functions need to know of float32 and of float64: ranges, constants, fitted polynomials, the exponent's bits."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from chainrule.backends.native.formula import Lanes, fma


def coefficients(text: str) -> tuple[float, ...]:
    return tuple(float.fromhex(t) for t in text.split())


class Precision(NamedTuple):
    """One floating type. Coefficients stand lowest power first.

    digits, bias: stored bits of the significand; what the exponent's bits are above the exponent.
    ln2_high + ln2_low: ln 2 in two numbers of this type, of which the first keeps every bit it can.
    exp_least, exp_most: beyond these e^x is 0 or infinite.
    expm1_least, tanh_most, erf_most: from here on the result rounds to -1 or 1.
    exp, expm1: (e^r - 1 - r) / r². log: (ln((1 + s) / (1 - s)) - 2s) / s³, in s².
    tanh: (tanh(x) / x - 1) / x², in x², below tanh_border.
    erf_near: erf(x) / x - 1, in x², below erf_border; erf_far: ln(1 - erf x) above it.
    """

    element: str
    digits: int
    bias: int
    log2_e: float
    ln2_high: float
    ln2_low: float
    exp_least: float
    exp_most: float
    expm1_least: float
    tanh_border: float
    tanh_most: float
    erf_most: float
    erf_border: float
    exp: tuple[float, ...]
    expm1: tuple[float, ...]
    log: tuple[float, ...]
    tanh: tuple[float, ...]
    erf_near: tuple[float, ...]
    erf_far: tuple[float, ...]

    @property
    def integer(self) -> str:
        return "i64" if self.element == "double" else "i32"

    @property
    def epsilon(self) -> float:
        """So small that x + x² / 2 rounds to x, with room."""
        return math.ldexp(1.0, -self.digits - 2)

    @property
    def half_root_bits(self) -> int:
        """The bits of 1 / sqrt 2."""
        root = math.sqrt(0.5)
        return int(np.float64(root).view(np.int64)) if self.digits == 52 else int(np.float32(root).view(np.int32))

    def whole(self, x: Lanes, factor: float) -> tuple[Lanes, Lanes]:
        """x * factor to the nearest whole number, as an integer and as a float.

        Adding 1.5 * 2^digits moves the fraction's bits out, and leaves the whole number in the lowest bits.
        """
        magic = 1.5 * math.ldexp(1.0, self.digits)
        moved = fma(x, factor, magic)
        return moved.bits() - x.like(magic).bits(), moved - magic

    def reduce_by_ln2(self, x: Lanes) -> tuple[Lanes, Lanes]:
        """k (integer) and r, with x = k ln 2 + r and |r| <= ln 2 / 2."""
        k, whole = self.whole(x, self.log2_e)
        return k, fma(whole, -self.ln2_low, fma(whole, -self.ln2_high, x))

    def power_of_two(self, k: Lanes) -> Lanes:
        """2^k, for k that is the exponent of a normal number."""
        return ((k + self.bias) << self.digits).as_float()

    def scale(self, y: Lanes, k: Lanes) -> Lanes:
        """y * 2^k, in two steps since 2^k alone may be infinite, or denormal."""
        half = k >> 1
        return y * self.power_of_two(half) * self.power_of_two(k - half)

    def split(self, x: Lanes) -> tuple[Lanes, Lanes]:
        """k (float) and f, with x = 2^k (1 + f) and 1 + f between 1 / sqrt 2 and sqrt 2. Only for positive numbers."""
        up = self.digits + 2
        denormal = x.less(math.ldexp(1.0, 1 - self.bias))
        bits = denormal.choose(x * math.ldexp(1.0, up), x).bits()
        k = (bits - self.half_root_bits) >> self.digits
        f = (bits - (k << self.digits)).as_float() - 1.0
        k = denormal.choose(k - up, k)
        return k.convert("sitofp", self.element), f

    def log_edges(self, x: Lanes, result: Lanes) -> Lanes:
        """ln 0 is -infinity, of infinity infinity, of NaN and of what is negative NaN."""
        inside = x.less(math.inf).choose(result, x)
        outside = x.equals(0.0).choose(x.like(-math.inf), math.nan)
        return x.more(0.0).choose(inside, outside)


SINGLE = Precision(
    element="float",
    digits=23,
    bias=127,
    log2_e=float.fromhex("0x1.715476p+0"),
    ln2_high=float.fromhex("0x1.62e430p-1"),
    ln2_low=float.fromhex("-0x1.05c610p-29"),
    exp_least=-104.5,
    exp_most=89.0,
    expm1_least=-20.0,
    tanh_border=0.55,
    tanh_most=10.0,
    erf_most=4.0,
    erf_border=0.9600000381469727,
    # error 1.3e-8 * |r|
    exp=coefficients("0x1p-1 0x1.5554bp-3 0x1.555488p-5 0x1.122814p-7 0x1.6d97b4p-10"),
    # error 2.4e-10 * |r|
    expm1=coefficients("0x1p-1 0x1.555556p-3 0x1.5554aep-5 0x1.11109p-7 0x1.6d748ep-10 0x1.a1a138p-13"),
    # error 1.1e-11 / s²
    log=coefficients("0x1.555556p-1 0x1.999a64p-2 0x1.243d72p-2 0x1.e25ecap-3"),
    # error 2.9e-11 / x²
    tanh=coefficients("-0x1.555554p-2 0x1.1110dep-3 -0x1.ba09ecp-5 0x1.64e834p-6 -0x1.13cfa8p-7 0x1.3a7b1ap-9"),
    # error 6.9e-10
    erf_near=coefficients(
        "0x1.06eba8p-3 -0x1.812742p-2 0x1.ce2dc2p-4 -0x1.b8085cp-6 0x1.548b2ap-8 -0x1.a821e4p-11 0x1.55d9a6p-14"
    ),
    # error 3e-11 * erf / erfc
    erf_far=coefficients(
        "0x1.7eb090p-13 -0x1.212a54p+0 -0x1.443c40p-1 -0x1.bbd994p-4 0x1.9c6ae8p-6 -0x1.12a7f6p-8 0x1.cbd89cp-12 "
        "-0x1.67d124p-16"
    ),
)

DOUBLE = Precision(
    element="double",
    digits=52,
    bias=1023,
    log2_e=float.fromhex("0x1.71547652b82fep+0"),
    ln2_high=float.fromhex("0x1.62e42fefa39efp-1"),
    ln2_low=float.fromhex("0x1.abc9e3b39803fp-56"),
    exp_least=-746.0,
    exp_most=710.0,
    expm1_least=-40.0,
    tanh_border=0.55,
    tanh_most=20.0,
    erf_most=5.95,
    erf_border=1.0,
    # error 2.7e-19 * |r|
    exp=coefficients(
        "0x1p-1 0x1.5555555555559p-3 0x1.555555555555ap-5 0x1.111111110f6acp-7 0x1.6c16c16c14464p-10 "
        "0x1.a01a01afe7e0fp-13 0x1.a01a01b0b3b6cp-16 0x1.71ddf848d7152p-19 0x1.27e4c5a3a4631p-22 "
        "0x1.af5ed7c44e130p-26 0x1.1f9563efe8ad1p-29"
    ),
    # error 3e-21 * |r|
    expm1=coefficients(
        "0x1p-1 0x1.5555555555555p-3 0x1.5555555555559p-5 0x1.1111111111114p-7 0x1.6c16c16c14d91p-10 "
        "0x1.a01a01a017d00p-13 0x1.a01a01adbdefbp-16 0x1.71de3a61862d3p-19 0x1.27e4cc1cb44b4p-22 "
        "0x1.ae6411eac355ep-26 0x1.1f8b43af7e2f7p-29 0x1.61e5d8c4a0abbp-33"
    ),
    # error 3.2e-18 / s²
    log=coefficients(
        "0x1.5555555555572p-1 0x1.999999998887cp-2 0x1.2492493b5311dp-2 0x1.c71c56d2a791bp-3 "
        "0x1.74655a88ed0a7p-3 0x1.39b6f12b8c49bp-3 0x1.2e3e526e42d24p-3"
    ),
    # error 5.5e-19 / x²
    tanh=coefficients(
        "-0x1.555555555554fp-2 0x1.1111111110803p-3 -0x1.ba1ba1b982c17p-5 0x1.664f485a88f63p-6 "
        "-0x1.226e2f3682dbep-7 0x1.d6d2a0b9070e9p-9 -0x1.7d901337c32c6p-10 0x1.3485a75195610p-11 "
        "-0x1.e98336ab572dcp-13 0x1.5daa7e9fa7372p-14 -0x1.47933df7d9108p-16"
    ),
    # error 1.3e-19
    erf_near=coefficients(
        "0x1.06eba8214db69p-3 -0x1.812746b0379e6p-2 0x1.ce2f21a042b34p-4 -0x1.b82ce31284f38p-6 "
        "0x1.565bcd0dbd921p-8 -0x1.c02db3db49762p-11 0x1.f9a321e4b84f9p-14 -0x1.f4d1e434bc0cfp-17 "
        "0x1.b9df305cad6f7p-20 -0x1.5f1f40faeea79p-23 0x1.f7b99d7c8709ap-27 -0x1.38ac2290d3965p-30 "
        "0x1.062759c5be8ecp-34"
    ),
    # error 7.5e-18 * erf / erfc
    erf_far=coefficients(
        "-0x1.f89088d95eb07p-22 -0x1.20dd24fbb8f2ep+0 -0x1.45f5faa833967p-1 -0x1.a4b0174a221b4p-4 "
        "0x1.373e192b74b2bp-6 0x1.a5475a8688e93p-12 -0x1.f3def6dd87d12p-10 0x1.9041923e4f9a2p-11 "
        "-0x1.11cccaa591f4cp-13 -0x1.7905b7b3d4a66p-16 0x1.8d392ae3c95a4p-16 -0x1.2b8458f0964e0p-17 "
        "0x1.26d1c595ca849p-19 -0x1.9c7ae1a363897p-22 0x1.9aec7f174f6c4p-25 -0x1.171bd34decc5dp-28 "
        "0x1.d135110b1ac29p-33 -0x1.6795665e2040ep-38"
    ),
)
