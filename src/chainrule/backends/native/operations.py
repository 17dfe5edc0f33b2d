"""Each scalar operation of the closed vocabulary as LLVM instructions on 16 lanes. No fast-math flag anywhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from chainrule.backends.native.vectors import LANES, MASK, element, splat, suffix, vector
from chainrule.backends.native.writer import Writer
from chainrule.errors import GraphError
from chainrule.kernel.scalar import COMPARISONS, FUNCTIONS

PREDICATES = {
    "equal": "eq",
    "not_equal": "ne",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
}
LOGIC = {"logical_and": "and", "logical_or": "or", "logical_xor": "xor"}
WORDS = "<16 x i32>"
OWN_FUNCTIONS = ("exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "erf")
ROUNDINGS = {"floor": "floor", "ceil": "ceil", "round": "roundeven"}


def operation(w: Writer, name: str, dtype: np.dtype, given: np.dtype, operands: list[str]) -> str:
    """The operand of ``name`` applied to ``operands``.

    dtype, given: of the result and of the arguments (of the last one, for ``where``).
    """
    if name in COMPARISONS:
        return _comparison(w, name, given, *operands)
    if name in LOGIC:
        return w.value(f"{LOGIC[name]} {MASK} {operands[0]}, {operands[1]}")
    if name == "logical_not":
        return w.value(f"xor {MASK} {operands[0]}, splat (i1 true)")
    if name in ("isfinite", "isnan"):
        return _classify(w, name, given, *operands)
    if name == "where":
        return _select(w, given, *operands)
    if name == "cast":
        return cast(w, given, dtype, *operands)
    if name in ("philox0", "philox1"):
        pair = w.call(f"{{{WORDS}, {WORDS}}}", "chainrule.philox", *((WORDS, o) for o in operands))
        return w.value(f"extractvalue {{{WORDS}, {WORDS}}} {pair}, {name[-1]}")
    if name in ("maximum", "minimum"):
        return extreme(w, name, dtype, *operands)
    if name in FUNCTIONS:
        return _function(w, name, dtype, *operands)
    return _arithmetic(w, name, dtype, *operands)


def join(w: Writer, how: str, dtype: np.dtype, so_far: str, value: str) -> str:
    """One step of an accumulation."""
    if how in ("all", "any"):
        return w.value(f"{'and' if how == 'all' else 'or'} {MASK} {so_far}, {value}")
    if how == "sum":
        return _arithmetic(w, "add", dtype, so_far, value)
    return extreme(w, how, dtype, so_far, value)


def fused_step(w: Writer, dtype: np.dtype, so_far: str, a: str, b: str) -> str:
    """so_far + a * b, rounded once: the same bits as in two steps where the product is exact."""
    t = vector(dtype)
    return w.call(t, f"llvm.fma.{suffix(element(dtype))}", (t, a), (t, b), (t, so_far))


def _unsupported(name: str, dtype: np.dtype) -> GraphError:
    return GraphError(f"scalar operation {name!r} has no meaning for {dtype.name}: cast its arguments first")


def _arithmetic(w: Writer, name: str, dtype: np.dtype, a: str, b: str) -> str:
    if name == "floor_divide":
        return _divide_and_remain(w, dtype, a, b)[0]
    if name == "remainder":
        return _divide_and_remain(w, dtype, a, b)[1]
    if name == "pow":
        return _pow(w, dtype, a, b)
    spelling = {
        "f": {"add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv"},
        "b": {"add": "or", "multiply": "and"},
    }.get(dtype.kind, {"add": "add", "subtract": "sub", "multiply": "mul"})
    if name not in spelling:
        raise _unsupported(name, dtype)
    return w.value(f"{spelling[name]} {vector(dtype)} {a}, {b}")


def extreme(w: Writer, name: str, dtype: np.dtype, a: str, b: str) -> str:
    """maximum or minimum; NaN if either is NaN. Of two zeros of different sign either may come back."""
    t, largest = vector(dtype), name == "maximum"
    if dtype.kind == "b":
        return w.value(f"{'or' if largest else 'and'} {t} {a}, {b}")
    if dtype.kind != "f":
        kind = ("u" if dtype.kind == "u" else "s") + ("max" if largest else "min")
        return w.call(t, f"llvm.{kind}.{suffix(element(dtype))}", (t, a), (t, b))
    if _number_constant(b):
        a, b = b, a
    # One compare and select is one machine instruction, which gives b where either is NaN.
    better = w.value(f"fcmp {'ogt' if largest else 'olt'} {t} {a}, {b}")
    result = w.value(f"select {MASK} {better}, {t} {a}, {t} {b}")
    if _number_constant(a):
        return result
    nan = w.value(f"fcmp uno {t} {a}, {a}")
    return w.value(f"select {MASK} {nan}, {t} {a}, {t} {result}")


def _number_constant(operand: str) -> bool:
    return operand.startswith("splat") and "0x7FF8" not in operand


def _comparison(w: Writer, name: str, given: np.dtype, a: str, b: str) -> str:
    p = PREDICATES[name]
    if given.kind == "f":
        return w.value(f"fcmp {'u' if p == 'ne' else 'o'}{p} {vector(given)} {a}, {b}")
    sign = "" if p in ("eq", "ne") else ("s" if given.kind == "i" else "u")
    return w.value(f"icmp {sign}{p} {vector(given)} {a}, {b}")


def _classify(w: Writer, name: str, given: np.dtype, x: str) -> str:
    t = vector(given)
    if given.kind != "f":
        return f"splat (i1 {'true' if name == 'isfinite' else 'false'})"
    if name == "isnan":
        return w.value(f"fcmp uno {t} {x}, {x}")
    size = w.call(t, f"llvm.fabs.{suffix(element(given))}", (t, x))
    return w.value(f"fcmp olt {t} {size}, splat ({element(given)} 0x7FF0000000000000)")


def _select(w: Writer, dtype: np.dtype, condition: str, a: str, b: str) -> str:
    return w.value(f"select {MASK} {condition}, {vector(dtype)} {a}, {vector(dtype)} {b}")


def _function(w: Writer, name: str, dtype: np.dtype, x: str) -> str:
    t, kind = vector(dtype), dtype.kind
    if name in OWN_FUNCTIONS and kind == "f":
        return w.call(t, f"chainrule.{name}.{suffix(element(dtype))}", (t, x))
    if name == "sqrt" and kind == "f":
        return w.call(t, f"llvm.sqrt.{suffix(element(dtype))}", (t, x))
    if name in ROUNDINGS and kind != "b":
        return w.call(t, f"llvm.{ROUNDINGS[name]}.{suffix(element(dtype))}", (t, x)) if kind == "f" else x
    by_name: dict[str, Callable[[Writer, np.dtype, str], str]] = {"negative": _negative, "abs": _abs, "sign": _sign}
    if name not in by_name or kind == "b":
        raise _unsupported(name, dtype)
    return by_name[name](w, dtype, x)


def _negative(w: Writer, dtype: np.dtype, x: str) -> str:
    if dtype.kind == "f":
        return w.value(f"fneg {vector(dtype)} {x}")
    return w.value(f"sub {vector(dtype)} zeroinitializer, {x}")


def _abs(w: Writer, dtype: np.dtype, x: str) -> str:
    t, s = vector(dtype), suffix(element(dtype))
    if dtype.kind == "f":
        return w.call(t, f"llvm.fabs.{s}", (t, x))
    return x if dtype.kind == "u" else w.call(t, f"llvm.abs.{s}", (t, x), ("i1", "false"))


def _sign(w: Writer, dtype: np.dtype, x: str) -> str:
    """-1, 0 or 1; NaN for NaN."""
    zero, one = splat(dtype, 0), splat(dtype, 1)
    above = _comparison(w, "greater", dtype, x, zero)
    if dtype.kind == "u":
        return _select(w, dtype, above, one, zero)
    below = _comparison(w, "less", dtype, x, zero)
    flat = zero
    if dtype.kind == "f":
        flat = _select(w, dtype, w.value(f"fcmp uno {vector(dtype)} {x}, {x}"), x, zero)
    return _select(w, dtype, above, one, _select(w, dtype, below, splat(dtype, -1), flat))


def _divide_and_remain(w: Writer, dtype: np.dtype, a: str, b: str) -> tuple[str, str]:
    """floor(a / b), and what remains, with the sign of b, as NumPy has them."""
    if dtype.kind == "f":
        return _floored_floats(w, dtype, a, b)
    if dtype.kind == "u":
        return _unsigned_division(w, dtype, a, b)
    if dtype.kind == "i":
        return _floored_integers(w, dtype, a, b)
    raise _unsupported("floor_divide", dtype)


def _unsigned_division(w: Writer, dtype: np.dtype, a: str, b: str) -> tuple[str, str]:
    """Division by 0 gives 0 and 0."""
    t, zero = vector(dtype), splat(dtype, 0)
    by_zero = w.value(f"icmp eq {t} {b}, {zero}")
    divisor = _select(w, dtype, by_zero, splat(dtype, 1), b)
    quotient = w.value(f"udiv {t} {a}, {divisor}")
    rest = w.value(f"sub {t} {a}, {w.value(f'mul {t} {quotient}, {divisor}')}")
    return _select(w, dtype, by_zero, zero, quotient), _select(w, dtype, by_zero, zero, rest)


def _floored_integers(w: Writer, dtype: np.dtype, a: str, b: str) -> tuple[str, str]:
    """Division by 0 gives 0 and 0; the least integer divided by -1 gives itself and 0. Neither may reach ``sdiv``."""
    t, zero, one = vector(dtype), splat(dtype, 0), splat(dtype, 1)
    by_zero = w.value(f"icmp eq {t} {b}, {zero}")
    by_minus_one = w.value(f"icmp eq {t} {b}, {splat(dtype, -1)}")
    divisor = _select(w, dtype, w.value(f"or {MASK} {by_zero}, {by_minus_one}"), one, b)
    quotient = w.value(f"sdiv {t} {a}, {divisor}")
    rest = w.value(f"sub {t} {a}, {w.value(f'mul {t} {quotient}, {divisor}')}")
    signs_differ = w.value(f"icmp slt {t} {w.value(f'xor {t} {rest}, {divisor}')}, {zero}")
    low = w.value(f"and {MASK} {w.value(f'icmp ne {t} {rest}, {zero}')}, {signs_differ}")
    floored = _select(w, dtype, low, w.value(f"sub {t} {quotient}, {one}"), quotient)
    rest = _select(w, dtype, low, w.value(f"add {t} {rest}, {divisor}"), rest)
    floored = _select(w, dtype, by_minus_one, w.value(f"sub {t} {zero}, {a}"), floored)
    return _select(w, dtype, by_zero, zero, floored), _select(w, dtype, by_zero, zero, rest)


def _floored_floats(w: Writer, dtype: np.dtype, a: str, b: str) -> tuple[str, str]:
    """From C's fmod, which is exact: moved to the sign of b, and the quotient mended where rounding left it off."""
    t, e, zero = vector(dtype), element(dtype), splat(dtype, 0.0)
    s = suffix(e)
    rest = w.call(t, f"chainrule.fmod.{s}", (t, a), (t, b))
    quotient = w.value(f"fdiv {t} {w.value(f'fsub {t} {a}, {rest}')}, {b}")
    rests = w.value(f"fcmp une {t} {rest}, {zero}")
    below = w.value(f"fcmp olt {t} {rest}, {zero}")
    low = w.value(f"xor {MASK} {below}, {w.value(f'fcmp olt {t} {b}, {zero}')}")
    low = w.value(f"and {MASK} {low}, {rests}")
    signed_zero = w.call(t, f"llvm.copysign.{s}", (t, zero), (t, b))
    moved = _select(w, dtype, low, w.value(f"fadd {t} {rest}, {b}"), rest)
    quotient = _select(w, dtype, low, w.value(f"fsub {t} {quotient}, {splat(dtype, 1.0)}"), quotient)
    floored = w.call(t, f"llvm.floor.{s}", (t, quotient))
    off = w.value(f"fcmp ogt {t} {w.value(f'fsub {t} {quotient}, {floored}')}, {splat(dtype, 0.5)}")
    floored = _select(w, dtype, off, w.value(f"fadd {t} {floored}, {splat(dtype, 1.0)}"), floored)
    ratio = w.value(f"fdiv {t} {a}, {b}")
    none = w.value(f"fcmp oeq {t} {quotient}, {zero}")
    floored = _select(w, dtype, none, w.call(t, f"llvm.copysign.{s}", (t, zero), (t, ratio)), floored)
    by_zero = w.value(f"fcmp oeq {t} {b}, {zero}")
    return _select(w, dtype, by_zero, ratio, floored), _select(w, dtype, rests, moved, signed_zero)


def _pow(w: Writer, dtype: np.dtype, a: str, b: str) -> str:
    t = vector(dtype)
    if dtype.kind == "b":
        raise _unsupported("pow", dtype)
    if dtype.kind != "f":
        return w.call(t, f"chainrule.power.{suffix(element(dtype))}", (t, a), (t, b))
    # NumPy, too, takes these exponents apart from the rest.
    if b == splat(dtype, 1.0):
        return a
    if b == splat(dtype, 2.0):
        return w.value(f"fmul {t} {a}, {a}")
    if b == splat(dtype, -1.0):
        return w.value(f"fdiv {t} {splat(dtype, 1.0)}, {a}")
    if b == splat(dtype, 0.5):
        return w.call(t, f"llvm.sqrt.{suffix(element(dtype))}", (t, a))
    return w.call(t, f"chainrule.pow.{suffix(element(dtype))}", (t, a), (t, b))


def cast(w: Writer, given: np.dtype, dtype: np.dtype, x: str) -> str:
    """As NumPy's astype. A float outside the range of an integer gives its nearest end, NaN gives 0."""
    if given == dtype:
        return x
    source, target = vector(given), vector(dtype)
    if dtype.kind == "b":
        unequal = "fcmp une" if given.kind == "f" else "icmp ne"
        return w.value(f"{unequal} {source} {x}, zeroinitializer")
    if given.kind == "f" and dtype.kind != "f":
        way = "fptosi" if dtype.kind == "i" else "fptoui"
        return w.call(target, f"llvm.{way}.sat.{suffix(element(dtype))}.{suffix(element(given))}", (source, x))
    if given.kind == "b" and dtype.kind == "f":  # one instruction; a conversion takes five
        return w.value(f"select {MASK} {x}, {target} {splat(dtype, 1)}, {target} {splat(dtype, 0)}")
    instruction = _conversion(given, dtype)
    return w.value(f"{instruction} {source} {x} to {target}") if instruction else x


def _conversion(given: np.dtype, dtype: np.dtype) -> str | None:
    """The instruction that turns one number type into another; None if the bits stay."""
    if dtype.kind == "f":
        if given.kind == "f":
            return "fpext" if dtype.itemsize > given.itemsize else "fptrunc"
        return "sitofp" if given.kind == "i" else "uitofp"
    if given.kind == "b" or dtype.itemsize > given.itemsize:
        return "sext" if given.kind == "i" else "zext"
    return "trunc" if dtype.itemsize < given.itemsize else None


def tree(w: Writer, how: str, dtype: np.dtype, lanes: str) -> str:
    """All lanes joined, in every lane: 0 with 8, 1 with 9, ...; then 0 with 4, ...; 0 with 2; 0 with 1."""
    t = vector(dtype)
    for step in (8, 4, 2, 1):
        # Lanes that are not read again stay what they were.
        order = ", ".join(f"i32 {k + step if k < step else k}" for k in range(LANES))
        other = w.value(f"shufflevector {t} {lanes}, {t} poison, <{LANES} x i32> <{order}>")
        lanes = join(w, how, dtype, lanes, other)
    return w.value(f"shufflevector {t} {lanes}, {t} poison, <{LANES} x i32> zeroinitializer")
