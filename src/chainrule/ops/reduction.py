"""Operations that join elements along axes: sums, means, extremes, and what is normalised by them."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import ShapeError
from chainrule.graph import Draw, Primitive, Tensor, operation
from chainrule.ops.broadcasting import as_tensor, cast, floated, normalised
from chainrule.ops.elementwise import equal, exp, sqrt
from chainrule.ops.movement import broadcast_to, concat, cut, flip, permute_dims, reshape, shaped
from chainrule.spec import BOOL, INT64, TensorSpec


def reduction(
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
    result: str = "float",
    domain: tuple[float, float] = (-math.inf, math.inf),
    distinct: bool = False,
    needs_elements: bool = False,
    lower: Any = None,
    **defaults: Any,
) -> Primitive:
    """Declare a reduction over any axes, called as ``name(x, axis=None, keepdims=False)``.

    evaluate: (xp, x, *, axes, keepdims, **parameters); axes is a sorted tuple.
    pullback: (dy, y, x, axes, **parameters) with dy and y as if keepdims had been true, so that they broadcast
              against x.
    result:   "float", "sum" (booleans and integers become int64), "same", or "bool".
    needs_elements: whether reducing over no elements is an error.
    """

    def kept(x: TensorSpec, axes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(1 if a in axes else n for a, n in enumerate(x.shape))

    def shape(x: TensorSpec, *, axes: tuple[int, ...], keepdims: bool, **_: Any) -> TensorSpec:
        if needs_elements and builtins.any(x.shape[a] == 0 for a in axes):
            raise ShapeError(f"{name}: {x} has no elements along axes {axes}")
        sizes = kept(x, axes) if keepdims else tuple(n for a, n in enumerate(x.shape) if a not in axes)
        return TensorSpec(sizes, BOOL if result == "bool" else x.dtype)

    def arguments(x: Any, axis: Any = None, keepdims: bool = False, **parameters: Any) -> tuple[tuple, dict]:
        x = floated(x) if result == "float" else as_tensor(x)
        x = cast(x, BOOL) if result == "bool" else x
        x = summable(x) if result == "sum" else x
        unknown = parameters.keys() - defaults.keys()
        if unknown:
            raise TypeError(f"{name}() has no argument {sorted(unknown)}")
        axes = normalised(name, axis, x.ndim)
        return (x,), {"axes": axes, "keepdims": bool(keepdims), **defaults, **parameters}

    def fitted_pullback(dy: Tensor, y: Tensor, x: Tensor, axes: tuple, keepdims: bool, **parameters: Any) -> tuple:
        if pullback is None:
            return (None,)
        wide = kept(x.spec, axes)
        dx = pullback(shaped(dy, wide), shaped(y, wide), x, axes, **parameters)
        return (dx if dx.shape == x.shape else broadcast_to(dx, x.shape),)

    def draw(point: Draw) -> tuple[tuple, dict]:
        shape = point.shape()
        if needs_elements:
            shape = tuple(builtins.max(n, 1) for n in shape)
        x = point.real(shape, *domain, distinct=distinct)
        return (x,), {"axes": point.axes(x.ndim), "keepdims": point.flag(), **defaults}

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
        lower=lower,
    )


def summable(x: Any) -> Tensor:
    """``x`` in a dtype that its sums fit in: int64 for booleans and integers, as NumPy, its own for floats."""
    found = as_tensor(x)
    return found if found.spec.floating else cast(found, INT64)


def count(x: Tensor, axes: tuple[int, ...]) -> int:
    """How many elements each result is made of."""
    return math.prod(x.shape[a] for a in axes)


sum = reduction(
    "sum",
    "y = Σ x",
    written="sum({0}, {axes})",
    rule=("{dy}",),
    result="sum",
    evaluate=lambda xp, x, *, axes, keepdims: xp.sum(x, axis=axes, keepdims=keepdims, dtype=x.dtype),
    pullback=lambda dy, y, x, axes: dy,
    why=("every term gets the sum's error",),
)
mean = reduction(
    "mean",
    "y = 1/n Σ x",
    written="mean({0}, {axes})",
    rule=("{dy} / {n}",),
    terms=lambda x, axes, keepdims: {"n": count(x, axes), "counted": "the terms of the mean"},
    needs_elements=True,
    evaluate=lambda xp, x, *, axes, keepdims: xp.sum(x, axis=axes, keepdims=keepdims) / count(x, axes),
    pullback=lambda dy, y, x, axes: dy / count(x, axes),
    why=("every term gets the mean's error over n",),
)
max = reduction(
    "max",
    "y = the largest x",
    written="max({0}, {axes})",
    rule=("{dy} * share({0} == {y})",),
    result="same",
    distinct=True,
    needs_elements=True,
    evaluate=lambda xp, x, *, axes, keepdims: xp.max(x, axis=axes, keepdims=keepdims),
    pullback=lambda dy, y, x, axes: _to_winners(dy, equal(x, y), axes),
    convention="Ties share equally, as torch.amax.",
    why=("the error goes to the largest",),
)
min = reduction(
    "min",
    "y = the smallest x",
    written="min({0}, {axes})",
    rule=("{dy} * share({0} == {y})",),
    result="same",
    distinct=True,
    needs_elements=True,
    evaluate=lambda xp, x, *, axes, keepdims: xp.min(x, axis=axes, keepdims=keepdims),
    pullback=lambda dy, y, x, axes: _to_winners(dy, equal(x, y), axes),
    convention="Ties share equally, as torch.amin.",
    why=("the error goes to the smallest",),
)


def _to_winners(dy: Tensor, wins: Tensor, axes: tuple[int, ...]) -> Tensor:
    won = cast(wins, dy.dtype)
    return dy * (won / sum(won, axes, keepdims=True))


def _variance(xp: Any, x: Any, *, axes: tuple, keepdims: bool, correction: float) -> Any:
    apart = x - xp.mean(x, axis=axes, keepdims=True)
    n = math.prod(x.shape[a] for a in axes)
    return xp.sum(apart * apart, axis=axes, keepdims=keepdims) / _freedom(n, correction)


def _freedom(n: int, correction: float) -> float:
    return n - correction if n > correction else math.nan


var = reduction(
    "var",
    "y = Σ (x - mean)² / (n - correction)",
    written="var({0}, {axes})",
    rule=("{dy} * 2 / {n} * ({0} - mean({0}))",),
    why=("2/n times how far x is from the mean",),
    terms=lambda x, axes, keepdims, correction: {"n": _freedom(count(x, axes), correction)},
    needs_elements=True,
    correction=0.0,
    evaluate=_variance,
    pullback=lambda dy, y, x, axes, correction: (
        dy * (2.0 / _freedom(count(x, axes), correction)) * (x - mean(x, axes, keepdims=True))
    ),
    meaning="correction=0 by default, as NumPy; PyTorch's default is 1. NaN where n does not exceed it.",
)


@operation
def std(x: Any, axis: Any = None, keepdims: bool = False, correction: float = 0.0) -> Tensor:
    """Standard deviation: the root of ``var``. Its derivative is infinite where all elements are equal."""
    return sqrt(var(x, axis, keepdims, correction=correction))


def _log_sum_exp(xp: Any, x: Any, *, axes: tuple, keepdims: bool) -> Any:
    top = xp.max(x, axis=axes, keepdims=True)
    top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
    total = xp.log(xp.sum(xp.exp(x - top), axis=axes, keepdims=True)) + top
    return total if keepdims else xp.reshape(total, tuple(n for a, n in enumerate(x.shape) if a not in axes))


logsumexp = reduction(
    "logsumexp",
    "y = ln Σ e^x",
    written="logsumexp({0}, {axes})",
    rule=("{dy} * exp({0} - {y})",),
    needs_elements=True,
    domain=(-30, 30),
    evaluate=_log_sum_exp,
    pullback=lambda dy, y, x, axes: dy * exp(x - y),
    meaning="The largest x is taken out first, so that nothing overflows.",
    why=("softmax of the inputs",),
)
all = reduction(
    "all",
    "y = every x is true",
    result="bool",
    pullback=None,
    evaluate=lambda xp, x, *, axes, keepdims: xp.all(x, axis=axes, keepdims=keepdims),
)
any = reduction(
    "any",
    "y = some x is true",
    result="bool",
    pullback=None,
    evaluate=lambda xp, x, *, axes, keepdims: xp.any(x, axis=axes, keepdims=keepdims),
)


@operation
def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The product of the elements along axes.

    Multiplies neighbours pairwise, so that derivatives of every order are right, also where factors are zero.
    """
    x = summable(x)
    axes = normalised("prod", axis, x.ndim)
    rest = tuple(a for a in range(x.ndim) if a not in axes)
    shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape)) if keepdims else tuple(x.shape[a] for a in rest)
    x = reshape(permute_dims(x, rest + axes), (*(x.shape[a] for a in rest), count(x, axes)))
    last = x.ndim - 1
    while x.shape[last] > 1:
        n = x.shape[last]
        pairs = cut(x, last, 0, n // 2) * cut(x, last, n // 2, n // 2 * 2)
        x = concat([pairs, cut(x, last, n - 1, n)], last) if n % 2 else pairs
    if x.shape[last] == 0:
        x = as_tensor(np.ones((*x.shape[:last], 1), x.dtype))
    return reshape(x, shape)


# ------------------------------------------------------------------------------------------------ along one axis


def along(
    name: str,
    formula: str,
    *,
    evaluate: Callable,
    pullback: Callable,
    convert: Callable[[Any], Tensor] = floated,
    **more: Any,
) -> Primitive:
    """Declare an operation of x along one axis, of x's shape: (xp, x, *, axis), pullback (dy, y, x, axis).

    convert: makes a tensor of the right dtype from what the user passes.
    """

    def arguments(x: Any, axis: int = -1) -> tuple[tuple, dict]:
        x = convert(x)
        if x.ndim == 0:
            raise ShapeError(f"{name}: a 0-d tensor has no axis")
        return (x,), {"axis": normalised(name, axis, x.ndim)[0]}

    def draw(point: Draw) -> tuple[tuple, dict]:
        x = point.real(point.shape(1), -6, 6)
        return (x,), {"axis": int(point.random.integers(x.ndim))}

    return Primitive(name, formula, lambda x, *, axis: x, evaluate, pullback, arguments, draw=draw, **more)


def _softmax(xp: Any, x: Any, *, axis: int) -> Any:
    if x.shape[axis] == 0:
        return x
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


def _log_softmax(xp: Any, x: Any, *, axis: int) -> Any:
    if x.shape[axis] == 0:
        return x
    shifted = x - xp.max(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


softmax = along(
    "softmax",
    "y = e^x / Σ e^x",
    rule=("{y} * ({dy} - sum_last({dy} * {y}))",),
    evaluate=_softmax,
    pullback=lambda dy, y, x, axis: (y * (dy - sum(dy * y, axis, keepdims=True)),),
    why=("y times (error minus its mean under y)",),
)
log_softmax = along(
    "log_softmax",
    "y = x - ln Σ e^x",
    rule=("{dy} - exp({y}) * sum_last({dy})",),
    evaluate=_log_softmax,
    pullback=lambda dy, y, x, axis: (dy - exp(y) * sum(dy, axis, keepdims=True),),
    why=("error minus softmax times the sum of the errors",),
)
cumsum: Primitive = along(
    "cumsum",
    "y_i = x_1 + … + x_i",
    rule=("flip(cumsum(flip({dy})))",),
    convert=summable,
    evaluate=lambda xp, x, *, axis: xp.cumulative_sum(x, axis=axis, dtype=x.dtype),
    pullback=lambda dy, y, x, axis: (flip(cumsum(flip(dy, axis), axis), axis),),
    why=("the errors of all later sums added up",),
)


def extreme(name: str, what: str) -> Primitive:
    """Declare the position of an extreme: int64, which no gradient crosses."""

    def arguments(x: Any, axis: int | None = None, keepdims: bool = False) -> tuple[tuple, dict]:
        x = as_tensor(x)
        if axis is None:
            x, axis = reshape(x, (-1,)), 0
        return (x,), {"axis": normalised(name, axis, x.ndim)[0], "keepdims": bool(keepdims)}

    def shape(x: TensorSpec, *, axis: int, keepdims: bool) -> TensorSpec:
        if x.shape[axis] == 0:
            raise ShapeError(f"{name}: {x} has no elements along axis {axis}")
        middle = (1,) if keepdims else ()
        return TensorSpec((*x.shape[:axis], *middle, *x.shape[axis + 1 :]), INT64)

    return Primitive(
        name,
        f"y = position of the {what} x along an axis",
        shape,
        evaluate=lambda xp, x, *, axis, keepdims: getattr(xp, name)(x, axis=axis, keepdims=keepdims),
        pullback=lambda dy, y, x, axis, keepdims: (None,),
        arguments=arguments,
        meaning="The first of several equal ones. With axis=None a position in the flattened x.",
    )


argmax = extreme("argmax", "largest")
argmin = extreme("argmin", "smallest")
