"""Functions that LLVM lacks, as LLVM functions on 16 lanes, each defined once for a module that calls it.

Names are ``chainrule.<function>.<v16f32 or v16f64>``. Each is a formula written with ``formula.Lanes``; what it is good
for is tested against float64 over random bit patterns, and over all floats in the long tests. Denormals, infinities and
NaN are kept. Coefficients are minimax fits (Remez exchange in 60 digits) by the authors, each with its largest error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from chainrule.backends.native.formula import Lanes, at_least, at_most, fma, polynomial
from chainrule.backends.native.integers import philox, power
from chainrule.backends.native.powers import fmod, pow_double, pow_single
from chainrule.backends.native.precision import DOUBLE, SINGLE, Precision
from chainrule.backends.native.trigonometry import cos, sin
from chainrule.backends.native.writer import Writer
from chainrule.errors import GraphError


def _exp(x: Lanes, p: Precision) -> Lanes:
    """2^k * e^r with k whole and |r| <= ln 2 / 2."""
    x = at_most(at_least(x, p.exp_least), p.exp_most)
    k, r = p.reduce_by_ln2(x)
    return p.scale(fma(r * r, polynomial(r, p.exp), r) + 1.0, k)


def _expm1(x: Lanes, p: Precision) -> Lanes:
    """2^k * (e^r - 1 + (1 - 2^-k)): no digits are lost near 0, where k = 0."""
    reduced = at_most(at_least(x, p.expm1_least), p.exp_most)
    k, r = p.reduce_by_ln2(reduced)
    near = fma(r * r, polynomial(r, p.expm1), r)
    inverse = k.more(p.digits + 8).choose(k.like(0), (p.bias - k) << p.digits).as_float()
    far = p.scale(near + (1.0 - inverse), k)
    return x.equals(0.0).choose(x, k.equals(0).choose(near, far))


def _log(x: Lanes, p: Precision) -> Lanes:
    """k ln 2 + ln(1 + f) with 1 + f between 1/sqrt 2 and sqrt 2, from s = f / (2 + f)."""
    k, f = p.split(x)
    return p.log_edges(x, _log_of_parts(k, f, f.like(0.0), p))


def _log_of_parts(k: Lanes, f: Lanes, correction: Lanes, p: Precision) -> Lanes:
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    rest = fma(s, fma(z, polynomial(z, p.log), half_square), fma(k, p.ln2_low, correction))
    return fma(k, p.ln2_high, f - (half_square - rest))


def _log1p(x: Lanes, p: Precision) -> Lanes:
    """log of u = 1 + x as it rounds, plus what rounding lost, divided by u."""
    u = x + 1.0
    large = x.more(1.0)
    lost = large.choose(1.0 - (u - x), x - (u - 1.0))
    k, f = p.split(u)
    same = k.equals(0.0)
    result = _log_of_parts(k, same.choose(x, f), same.choose(x.like(0.0), lost / u), p)
    tiny = x.size().less(p.epsilon)
    return tiny.choose(x, p.log_edges(u, result))


def _tanh(x: Lanes, p: Precision) -> Lanes:
    """Near 0 x plus x³ times a polynomial in x²; further out 1 - 2 / (e^2|x| + 1)."""
    size = at_most(x.size(), p.tanh_most)
    z = x * x
    near = fma(x * z, polynomial(z, p.tanh), x)
    far = 1.0 - 2.0 / (_exp(size + size, p) + 1.0)
    return size.less(p.tanh_border).choose(near, far).with_sign_of(x)


def _erf(x: Lanes, p: Precision) -> Lanes:
    """Near 0 x times a polynomial in x²; further out 1 - e^q, q a polynomial that follows ln erfc.

    q in one number, or e^q rounded before it is taken from 1, would let the result fall here and there by a last bit.
    """
    size = at_most(x.size(), p.erf_most)
    near = fma(x, polynomial(x * x, p.erf_near), x)
    far = _one_minus_exp(*_erf_exponent(size, p), p)
    return size.less(p.erf_border).choose(near, far.with_sign_of(x))


def _erf_exponent(x: Lanes, p: Precision) -> tuple[Lanes, Lanes]:
    """The polynomial ``erf_far`` as high + low: its last two steps with what rounding takes from them."""
    rest = polynomial(x, p.erf_far[2:])
    product = x * rest
    slope = product + p.erf_far[1]
    slope_low = (p.erf_far[1] - slope) + product + fma(x, rest, -product)
    high = x * slope
    return high, fma(x, slope, -high) + fma(x, slope_low, p.erf_far[0])


def _one_minus_exp(high: Lanes, low: Lanes, p: Precision) -> Lanes:
    """1 - e^(high + low) for exponents below 0 that are far from where 2^k is denormal."""
    k, r = p.reduce_by_ln2(high)
    r = r + low
    power = p.power_of_two(k)
    return fma(-power, fma(r * r, polynomial(r, p.expm1), r), 1.0 - power)


OF_ONE: dict[str, Callable[[Lanes, Precision], Lanes]] = {
    "exp": _exp, "expm1": _expm1, "log": _log, "log1p": _log1p, "tanh": _tanh, "erf": _erf, "sin": sin, "cos": cos,
}  # fmt: skip

PRECISIONS = {"v16f32": SINGLE, "v16f64": DOUBLE}
INTEGERS = {"v16i8": "i8", "v16i32": "i32", "v16i64": "i64"}


@cache
def definition(name: str) -> str:
    """The LLVM text of a function that a NestCode names in ``support``; GraphError if there is none of that name."""
    if name == "chainrule.philox":
        return _philox_definition()
    _, function, lanes = f"{name}..".split(".")[:3]
    if function == "power" and lanes in INTEGERS:
        return _define(name, INTEGERS[lanes], 2, power)
    p = PRECISIONS.get(lanes)
    if p is not None and function in OF_ONE:
        return _define(name, p.element, 1, lambda x: OF_ONE[function](x, p))
    if p is not None and function == "fmod":
        return _define(name, p.element, 2, lambda a, b: fmod(a, b, p))
    if p is not None and function == "pow":
        return _define(name, p.element, 2, pow_double if p is DOUBLE else pow_single)
    raise GraphError(f"no function of the native backend is called {name!r}")


def _define(name: str, element: str, count: int, formula: Callable[..., Lanes]) -> str:
    w = Writer()
    w.label("start")
    arguments = [Lanes(w, element, f"%x{k}") for k in range(count)]
    result = formula(*arguments)
    w.do(f"ret {result.type} {result.operand}")
    return _function(name, result.type, [a.type for a in arguments], w)


def _philox_definition() -> str:
    w = Writer()
    w.label("start")
    words = [Lanes(w, "i32", f"%x{k}") for k in range(6)]
    pair = f"{{{words[0].type}, {words[0].type}}}"
    w.do(f"ret {pair} {philox(words)}")
    return _function("chainrule.philox", pair, [word.type for word in words], w)


def _function(name: str, result: str, types: list[str], w: Writer) -> str:
    parameters = ", ".join(f"{t} %x{k}" for k, t in enumerate(types))
    head = f"define internal {result} @{name}({parameters}) alwaysinline nounwind memory(none) {{"
    return "\n".join([head, *w.body, "}"]) + "\n"
