"""Operations that act on each element alone: arithmetic, comparisons and the elementary functions."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.graph import Draw, Primitive, Tensor, operation
from chainrule.kernel import ARITY, Const, Scalar, op
from chainrule.ops.broadcasting import as_tensor, as_tensors, cast, floated, meet, unbroadcast
from chainrule.spec import BOOL, FLOAT64, INT64, TensorSpec, as_dtype


def elementwise(
    name: str,
    formula: str,
    *,
    evaluate: Callable,
    pullback: Callable | None,
    meaning: str = "",
    convention: str = "",
    why: tuple[str, ...] = (),
    rule: tuple[str, ...] = (),
    written: str = "",
    terms: Callable[..., dict[str, Any]] | None = None,
    domain: tuple[float, float] = (-math.inf, math.inf),
    kinks: tuple[float, ...] = (),
    ties: bool = False,
    result: str = "float",
    conditions: int = 0,
    lower: Any = None,
    **parameter_ranges: tuple[float, float],
) -> Primitive:
    """Declare an operation on elements: inputs broadcast, cotangents shrink back to their shapes.

    rule, written, terms: as in ``Primitive``.
    evaluate:   (xp, *inputs, **parameters) -> output; the names and defaults of parameters are read off it.
    pullback:   (dy, y, *inputs, **parameters) -> cotangents, written as if nothing was broadcast; None for an
                operation that no gradient crosses.
    domain, kinks, ties: where the tests may draw from, and where not.
    result:     "float" (integers become float32), "same" (promoted), "number" (booleans become int64) or "bool".
    conditions: how many leading inputs are booleans that are not promoted with the others.
    parameter_ranges: for each parameter, the range that tests draw it from.
    lower:      (output spec, *scalars, **parameters) -> scalar, in kernel operations; without it an operation that the
                kernel knows by the same name is that one, and any other lowers by the expansion of ``evaluate``.
    """
    if lower is None and name in ARITY:
        lower = lambda spec, *scalars: op(name, *scalars)  # noqa: E731  the name belongs to this declaration
    signature = list(inspect.signature(evaluate).parameters.values())[1:]
    labels = [p.name for p in signature if p.kind is p.POSITIONAL_OR_KEYWORD]
    defaults = {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}

    def shape(*specs: TensorSpec, **_: Any) -> TensorSpec:
        return TensorSpec(meet(name, *(s.shape for s in specs)), BOOL if result == "bool" else specs[-1].dtype)

    def arguments(*values: Any, **parameters: Any) -> tuple[tuple, dict]:
        if len(values) > len(labels):
            parameters = {**dict(zip(defaults, values[len(labels) :], strict=False)), **parameters}
            values = values[: len(labels)]
        if len(values) != len(labels) or not parameters.keys() <= defaults.keys():
            wanted = ", ".join([*labels, *(f"{k}={v}" for k, v in defaults.items())])
            given = ", ".join([*(type(v).__name__ for v in values), *parameters])
            raise TypeError(f"{name}({wanted}) was called with ({given})")
        tensors = as_tensors(name, values[conditions:])
        if result == "float":
            tensors = tuple(map(floated, tensors))
        if result == "number":
            tensors = tuple(cast(x, INT64) if x.dtype == BOOL else x for x in tensors)
        booleans = tuple(cast(as_tensor(v), BOOL) for v in values[:conditions])
        return booleans + tensors, {**defaults, **parameters}

    def fitted_pullback(dy: Tensor, y: Tensor, *inputs: Tensor, **parameters: Any) -> tuple:
        pulled = (None,) * len(inputs) if pullback is None else pullback(dy, y, *inputs, **parameters)
        return tuple(dx if dx is None else unbroadcast(dx, x.shape) for dx, x in zip(pulled, inputs, strict=True))

    def draw(point: Draw) -> tuple[tuple, dict]:
        whole = point.shape()
        shapes = [whole if i == 0 else point.part_of(whole) for i in range(len(labels))]
        arrays = [point.booleans(s) if i < conditions else point.real(s, *domain, kinks) for i, s in enumerate(shapes)]
        if ties:
            rung = (2 * point.scale if math.isinf(domain[0]) else domain[1] - domain[0]) / 20
            for odd, x in enumerate(arrays[-2:]):  # one on even rungs, one on odd, so that no two ever meet
                x[...] = (2 * np.floor(x / (2 * rung)) + odd + 0.5 * (x / rung % 1)) * rung
        parameters = {
            k: float(point.random.uniform(*parameter_ranges[k])) if k in parameter_ranges else v
            for k, v in defaults.items()
        }
        return tuple(arrays), parameters

    return Primitive(
        name,
        formula,
        shape,
        evaluate,
        fitted_pullback,
        arguments,
        draw=None if pullback is None else draw,
        meaning=meaning,
        convention=convention,
        why=why,
        rule=rule,
        written=written,
        terms=terms,
        elementwise=True,
        lower=lower,
    )


# ------------------------------------------------------------------------------------------------ arithmetic

add = elementwise(
    "add",
    "y = a + b",
    written="{0} + {1}",
    rule=("{dy}", "{dy}"),
    result="same",
    evaluate=lambda xp, a, b: xp.add(a, b),
    pullback=lambda dy, y, a, b: (dy, dy),
    why=("a sum passes its error on", "a sum passes its error on"),
)
subtract = elementwise(
    "subtract",
    "y = a - b",
    written="{0} - {1}",
    rule=("{dy}", "-{dy}"),
    result="number",
    evaluate=lambda xp, a, b: xp.subtract(a, b),
    pullback=lambda dy, y, a, b: (dy, -dy),
    why=("a difference passes its error on", "and its negative to what is taken away"),
)
multiply = elementwise(
    "multiply",
    "y = a b",
    written="{0} * {1}",
    rule=("{dy} * {1}", "{dy} * {0}"),
    result="same",
    evaluate=lambda xp, a, b: xp.multiply(a, b),
    pullback=lambda dy, y, a, b: (dy * b, dy * a),
    why=("error times the other factor", "error times the other factor"),
)
divide = elementwise(
    "divide",
    "y = a / b",
    written="{0} / {1}",
    rule=("{dy} / {1}", "-{dy} * {y} / {1}"),
    domain=(0.5, 2.0),
    evaluate=lambda xp, a, b: xp.divide(a, b),
    pullback=lambda dy, y, a, b: (dy / b, -dy * y / b),
    why=("error over the divisor", "local derivative of 1/b is -1/b^2"),
    meaning="Integers are divided as float32.",
)
negative = elementwise(
    "negative",
    "y = -x",
    written="-{0}",
    rule=("-{dy}",),
    result="number",
    evaluate=lambda xp, x: xp.negative(x),
    pullback=lambda dy, y, x: (-dy,),
    why=("the error with its sign turned",),
)
floor_divide = elementwise(
    "floor_divide",
    "y = floor(a / b)",
    result="number",
    evaluate=lambda xp, a, b: xp.floor_divide(a, b),
    pullback=None,
)
remainder = elementwise(
    "remainder",
    "y = a - b floor(a / b)",
    written="{0} % {1}",
    rule=("{dy}", "-{dy} * ({0} // {1})"),
    why=("a remainder passes its error on", "times the whole number of divisors taken away"),
    result="number",
    domain=(1.1, 1.9),
    evaluate=lambda xp, a, b: xp.remainder(a, b),
    pullback=lambda dy, y, a, b: (dy, -dy * floor_divide(a, b)),
    convention="The derivative of the floor is 0, also at its jumps.",
    ties=True,
)
_pow: Primitive = elementwise(
    "pow",
    "y = a^b",
    written="{0} ** {1}",
    rule=("{dy} * {1} * {0} ** ({1} - 1)", "{dy} * {y} * log({0})"),
    domain=(0.5, 2.0),
    evaluate=lambda xp, a, b: xp.pow(a, b),
    pullback=lambda dy, y, a, b: (dy * b * _pow(a, b - 1), dy * y * log(a)),
    why=("local derivative b a^(b-1)", "local derivative a^b ln a"),
)
power = elementwise(
    "power",
    "y = x^n",
    written="{0} ** {exponent}",
    rule=("{dy} * {exponent} * {0} ** {below}",),
    terms=lambda x, exponent: {"below": exponent - 1},
    domain=(0.5, 2.0),
    result="number",
    evaluate=lambda xp, x, *, exponent=2.0: xp.power(x, exponent),
    pullback=lambda dy, y, x, exponent: (dy * (exponent * pow(x, exponent - 1)) if exponent else dy * 0.0,),
    why=("local derivative n x^(n-1)",),
    exponent=(-3.0, 3.0),
    meaning="A power with a fixed exponent, so that a negative base has a derivative too.",
    lower=lambda spec, x, exponent: _lowered_power(x, exponent),
)


def _lowered_power(x: Scalar, exponent: float) -> Scalar:
    """x^n; small whole exponents by multiplication."""
    if exponent == int(exponent) and 1 <= exponent <= 4:
        product = x
        for _ in range(int(exponent) - 1):
            product = op("multiply", product, x)
        return product
    return op("pow", x, Const(x.dtype, x.dtype.type(exponent).item()))


@operation
def pow(a: Any, b: Any) -> Tensor:
    """a ** b. With a Python or NumPy number as exponent, a may be negative."""
    if isinstance(b, (int, float, np.integer, np.floating)) and not isinstance(b, bool):
        if b == 1:
            return as_tensor(a)
        if isinstance(b, (int, np.integer)) and (b >= 0 or as_tensor(a).spec.floating):
            return power(a, exponent=int(b))
        return power(floated(a), exponent=float(b))
    return _pow(a, b)


# ------------------------------------------------------------------------------------------------ comparisons


def comparison(name: str, sign: str) -> Primitive:
    """An operation that gives booleans, which no gradient crosses."""
    return elementwise(
        name,
        f"y = a {sign} b",
        result="bool",
        pullback=None,
        evaluate=lambda xp, a, b: getattr(xp, name)(a, b),
    )


equal = comparison("equal", "=")
not_equal = comparison("not_equal", "≠")
less = comparison("less", "<")
less_equal = comparison("less_equal", "≤")
greater = comparison("greater", ">")
greater_equal = comparison("greater_equal", "≥")


def logical(name: str, formula: str, arity: int) -> Primitive:
    """A boolean operation; anything but 0 counts as true."""
    two = lambda xp, a, b: getattr(xp, name)(a, b)  # noqa: E731  the signature says how many inputs there are
    one = lambda xp, x: getattr(xp, name)(x)  # noqa: E731
    return elementwise(name, formula, result="bool", pullback=None, evaluate=two if arity == 2 else one)


logical_and = logical("logical_and", "y = a and b", 2)
logical_or = logical("logical_or", "y = a or b", 2)
logical_xor = logical("logical_xor", "y = either a or b", 2)
logical_not = logical("logical_not", "y = not x", 1)
isfinite = logical("isfinite", "y = x is neither infinite nor NaN", 1)
isnan = logical("isnan", "y = x is NaN", 1)

where: Primitive = elementwise(
    "where",
    "y = a where the condition holds, else b",
    rule=("", "{dy} * {0}", "{dy} * (1 - {0})"),
    result="same",
    conditions=1,
    evaluate=lambda xp, condition, a, b: xp.where(condition, a, b),
    pullback=lambda dy, y, condition, a, b: (None, where(condition, dy, 0.0), where(condition, 0.0, dy)),
    why=("", "the error where the condition holds", "the error where it does not"),
    meaning="The branch that is not taken gets a cotangent of exactly 0; 0 times the infinite local derivative of "
    "something further down that branch is NaN all the same, so guard its argument with a where too.",
)

# ------------------------------------------------------------------------------------------------ elementary functions

exp = elementwise(
    "exp",
    "y = e^x",
    rule=("{dy} * {y}",),
    domain=(-5, 5),
    evaluate=lambda xp, x: xp.exp(x),
    pullback=lambda dy, y, x: (dy * y,),
    why=("e^x is its own derivative",),
)
expm1 = elementwise(
    "expm1",
    "y = e^x - 1",
    rule=("{dy} * ({y} + 1)",),
    why=("e^x is its own derivative",),
    domain=(-5, 5),
    evaluate=lambda xp, x: xp.expm1(x),
    pullback=lambda dy, y, x: (dy * (y + 1),),
)
log: Primitive = elementwise(
    "log",
    "y = ln x",
    rule=("{dy} / {0}",),
    domain=(0.3, 4),
    evaluate=lambda xp, x: xp.log(x),
    pullback=lambda dy, y, x: (dy / x,),
    why=("local derivative 1/x",),
)
log1p = elementwise(
    "log1p",
    "y = ln(1 + x)",
    rule=("{dy} / (1 + {0})",),
    why=("local derivative 1/(1 + x)",),
    domain=(-0.7, 4),
    evaluate=lambda xp, x: xp.log1p(x),
    pullback=lambda dy, y, x: (dy / (1 + x),),
)
sqrt = elementwise(
    "sqrt",
    "y = √x",
    rule=("{dy} / (2 * {y})",),
    why=("local derivative 1/(2 y)",),
    domain=(0.3, 4),
    evaluate=lambda xp, x: xp.sqrt(x),
    pullback=lambda dy, y, x: (dy * 0.5 / y,),
    convention="Infinite at 0, as in PyTorch.",
)
abs = elementwise(
    "abs",
    "y = |x|",
    rule=("{dy} * sign({0})",),
    kinks=(0.0,),
    result="same",
    evaluate=lambda xp, x: xp.abs(x),
    pullback=lambda dy, y, x: (dy * sign(x),),
    convention="0 at x = 0.",
    why=("the error with the sign of x",),
)
sign: Primitive = elementwise(
    "sign",
    "y = -1, 0 or 1, as x is negative, zero or positive",
    result="number",
    evaluate=lambda xp, x: xp.sign(x),
    pullback=None,
)
floor = elementwise(
    "floor",
    "y = largest integer ≤ x",
    result="number",
    pullback=None,
    evaluate=lambda xp, x: xp.floor(x),
)
ceil = elementwise(
    "ceil",
    "y = smallest integer ≥ x",
    result="number",
    pullback=None,
    evaluate=lambda xp, x: xp.ceil(x),
)
round = elementwise(
    "round",
    "y = nearest integer to x, halves to even",
    result="number",
    pullback=None,
    evaluate=lambda xp, x: xp.round(x),
)
sin = elementwise(
    "sin",
    "y = sin x",
    rule=("{dy} * cos({0})",),
    why=("the derivative of sin is cos",),
    domain=(-7, 7),
    evaluate=lambda xp, x: xp.sin(x),
    pullback=lambda dy, y, x: (dy * cos(x),),
)
cos: Primitive = elementwise(
    "cos",
    "y = cos x",
    rule=("-{dy} * sin({0})",),
    why=("the derivative of cos is -sin",),
    domain=(-7, 7),
    evaluate=lambda xp, x: xp.cos(x),
    pullback=lambda dy, y, x: (-dy * sin(x),),
)
tanh = elementwise(
    "tanh",
    "y = tanh x",
    rule=("{dy} * (1 - {y} ** 2)",),
    domain=(-4, 4),
    evaluate=lambda xp, x: xp.tanh(x),
    pullback=lambda dy, y, x: (dy * (1 - y * y),),
    why=("local derivative 1 - tanh^2",),
)
erf = elementwise(
    "erf",
    "y = 2/√π ∫₀ˣ e^(-t²) dt",
    rule=("{dy} * 2 / sqrt(pi) * exp(-{0} ** 2)",),
    why=("local derivative 2/√π e^(-x^2)",),
    domain=(-3, 3),
    evaluate=lambda xp, x: xp.erf(x),
    pullback=lambda dy, y, x: (dy * ((2 / math.sqrt(math.pi)) * exp(-x * x)),),
)
maximum = elementwise(
    "maximum",
    "y = the larger of a and b",
    rule=("{dy} * ({0} > {1})", "{dy} * ({1} > {0})"),
    why=("the error goes to the larger", "the error goes to the larger"),
    result="same",
    ties=True,
    evaluate=lambda xp, a, b: xp.maximum(a, b),
    pullback=lambda dy, y, a, b: _to_winner(dy, a, b, greater(a, b)),
    convention="At a tie each gets half.",
)
minimum = elementwise(
    "minimum",
    "y = the smaller of a and b",
    rule=("{dy} * ({0} < {1})", "{dy} * ({1} < {0})"),
    why=("the error goes to the smaller", "the error goes to the smaller"),
    result="same",
    ties=True,
    evaluate=lambda xp, a, b: xp.minimum(a, b),
    pullback=lambda dy, y, a, b: _to_winner(dy, a, b, less(a, b)),
    convention="At a tie each gets half.",
)


def _to_winner(dy: Tensor, a: Tensor, b: Tensor, a_wins: Tensor) -> tuple[Tensor, Tensor]:
    half = where(equal(a, b), dy * 0.5, 0.0)
    return where(a_wins, dy, half), where(logical_or(a_wins, equal(a, b)), half, dy)


clip = elementwise(
    "clip",
    "y = x, but at least min and at most max",
    rule=("{dy} * inside({0}, {min}, {max})",),
    why=("local derivative 1 inside the limits, else 0",),
    result="number",
    kinks=(-0.75, 0.5),
    evaluate=lambda xp, x, *, min=None, max=None: xp.clip(x, min, max),
    pullback=lambda dy, y, x, min, max: (where(_within(x, min, max), dy, 0.0),),
    convention="1 at both limits, as in PyTorch.",
    meaning="min, max: numbers, or None for no limit.",
    min=(-0.75, -0.75),
    max=(0.5, 0.5),
    lower=lambda spec, x, min, max: _lowered_clip(x, min, max),
)


def _lowered_clip(x: Scalar, low: float | None, high: float | None) -> Scalar:
    for name, limit in (("maximum", low), ("minimum", high)):
        if limit is not None:
            x = op(name, x, Const(x.dtype, x.dtype.type(limit).item()))
    return x


def _within(x: Tensor, low: float | None, high: float | None) -> Tensor | bool:
    above = True if low is None else greater_equal(x, low)
    below = True if high is None else less_equal(x, high)
    return logical_and(above, below)


@operation
def square(x: Any) -> Tensor:
    """x ** 2."""
    return power(x, exponent=2)


def _cast(xp: Any, x: Any, *, dtype: np.dtype) -> Any:
    return xp.astype(x, dtype)


astype = Primitive(
    "astype",
    "y = x in another dtype",
    written="astype({0}, {dtype})",
    rule=("{dy}",),
    why=("the error in the input's dtype",),
    shape=lambda x, *, dtype: TensorSpec(x.shape, dtype),
    evaluate=_cast,
    pullback=lambda dy, y, x, dtype: (cast(dy, x.dtype),),
    arguments=lambda x, dtype: ((as_tensor(x),), {"dtype": as_dtype(dtype)}),
    draw=lambda point: ((point.real(point.shape()),), {"dtype": FLOAT64}),
    meaning="A float gets the cotangent in its own dtype; nothing flows into integers.",
    lower=lambda spec, x, dtype: x if x.dtype == dtype else op("cast", x, dtype=dtype),
    elementwise=True,
)
