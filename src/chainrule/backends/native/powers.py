"""Floating powers, and the exact remainder of a division."""

from __future__ import annotations

import math

from chainrule.backends.native.formula import Lanes, at_least, at_most, fma, polynomial
from chainrule.backends.native.precision import DOUBLE, Precision
from chainrule.backends.native.vectors import LANES

BEYOND = 800.0
"""e to this power is infinite in double precision, e to its negative 0."""


def pow_double(x: Lanes, y: Lanes) -> Lanes:
    """|x|^y as e^(y ln |x|), the logarithm in two numbers; then C's rules for signs, zeros and infinities."""
    size = x.size()
    high, low = _log_in_two(size)
    product = y * high
    small = product.size().less(BEYOND)
    rest = small.choose(fma(y, high, -product) + y * low, 0.0)
    product = at_most(at_least(product, -BEYOND), BEYOND)
    whole, bits = DOUBLE.whole(product, DOUBLE.log2_e)[::-1]
    r = fma(whole, -DOUBLE.ln2_low, fma(whole, -DOUBLE.ln2_high, product)) + rest
    result = DOUBLE.scale(fma(r * r, polynomial(r, DOUBLE.exp), r) + 1.0, bits)
    return _edges(x, y, size, result)


def _log_in_two(size: Lanes) -> tuple[Lanes, Lanes]:
    """ln of a positive number as high + low, to about 60 bits."""
    p = DOUBLE
    k, f = p.split(size)
    sum_ = f + 2.0
    s = f / sum_
    s_low = (fma(-s, sum_, f) - s * (f - (sum_ - 2.0))) / sum_
    z = s * s
    tail = fma(z * s, polynomial(z, p.log), s_low + s_low)
    main = k * p.ln2_high
    main_lost = fma(k, p.ln2_high, -main)
    twice = s + s
    total = main + twice
    # Exact where |k| >= 1, as |2s| < ln 2 / 2 then; where k is 0 the sum is 2s itself.
    lost = twice - (total - main)
    low = lost + main_lost + fma(k, p.ln2_low, tail)
    high = total + low
    return high, low - (high - total)


def _edges(x: Lanes, y: Lanes, size: Lanes, result: Lanes) -> Lanes:
    odd_half = y * 0.5
    whole = y.intrinsic("floor").equals(y)
    odd = odd_half.intrinsic("floor").differs(odd_half)
    to_infinity = size.more(1.0)
    rising = to_infinity ^ y.less(0.0)
    endless = size.equals(0.0) | size.equals(math.inf) | y.size().equals(math.inf)
    result = endless.choose(rising.choose(x.like(math.inf), 0.0), result)
    negative = x.bits().less(0)
    result = (negative & whole & odd).choose(-result, result)
    result = (x.less(0.0) & (whole ^ _true(x)) & size.less(math.inf)).choose(x.like(math.nan), result)
    result = ((x + y).differs(x + y) & (x.differs(x) | y.differs(y))).choose(x.like(math.nan), result)
    one = x.equals(1.0) | y.equals(0.0) | (x.equals(-1.0) & y.size().equals(math.inf))
    return one.choose(x.like(1.0), result)


def _true(x: Lanes) -> Lanes:
    return Lanes(x.writer, "i1", "splat (i1 true)")


def pow_single(x: Lanes, y: Lanes) -> Lanes:
    return pow_double(x.convert("fpext", "double"), y.convert("fpext", "double")).convert("fptrunc", "float")


def fmod(a: Lanes, b: Lanes, p: Precision) -> Lanes:
    """a minus the multiple of b that leaves a rest of a's sign and smaller than b: exact, in rounds of a few bits.

    A round takes off a multiple of b or, where a is very much larger, of b times a power of two.
    """
    w, size, divisor = a.writer, a.size(), b.size()
    before, head, done = w.block, w.name(), w.name()
    w.go(head)
    w.label(head)
    operand, phi = w.phi(a.type, size.operand, before)
    rest = Lanes(w, a.element, operand)
    next_ = _round(rest, divisor, p)
    w.close(phi, next_.operand)
    again = next_.less(divisor).choose(_true(a) ^ _true(a), next_.less(math.inf))
    again = again & divisor.more(0.0)
    w.branch(w.value(f"call i1 @llvm.vector.reduce.or.v{LANES}i1({again.type} {again.operand})"), head, done)
    w.label(done)
    valid = size.less(math.inf) & divisor.more(0.0)
    return valid.choose(next_.with_sign_of(a), math.nan)


def _round(rest: Lanes, divisor: Lanes, p: Precision) -> Lanes:
    """Once: ``rest`` less a whole multiple of ``divisor``, where that is not larger than ``rest``."""
    limit = math.ldexp(1.0, p.digits - 2)
    quotient = rest / divisor
    step = quotient.less(limit).choose(divisor, _scaled(rest, divisor, quotient, p))
    whole = (rest / step).intrinsic("trunc")
    left = fma(-whole, step, rest)
    left = left.less(0.0).choose(left + step, left)
    return rest.less(divisor).choose(rest, left)


def _scaled(rest: Lanes, divisor: Lanes, quotient: Lanes, p: Precision) -> Lanes:
    """``divisor`` times a power of two, 2^10 to 2^12 below ``rest``, also where the quotient is no finite number."""
    far = math.ldexp(1.0, p.bias - 27)
    exponent = ((1 << (p.digits + 8 if p.digits == 23 else p.digits + 11)) - 1) ^ ((1 << p.digits) - 1)
    near_power = (quotient.bits() & exponent).as_float() * math.ldexp(1.0, -10)
    up = divisor * far
    far_power = ((rest * (1.0 / far) / up).bits() & exponent).as_float()
    distant = up * far_power * (far * math.ldexp(1.0, -10))
    return quotient.less(math.inf).choose(divisor * near_power, distant)
