"""Algebra: the same value with less work.

Every rule says whether it is exact (the same bits for every input) and, if not, what differs. x * 0 -> 0 and x - x -> 0
are no rules: they would hide NaN and infinity.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from chainrule.graph import Graph, Node, Tensor, apply
from chainrule.ops import divide, multiply, sqrt
from chainrule.rewrite.pattern import fitted, made_by, number, reshaped, same, settled


def simplify(graph: Graph) -> Graph:
    """x * 1 -> x, and the other rules of this file, until none applies."""
    return settled(graph, _simplified)


def _simplified(node: Node, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    found = _before_broadcast(node, inputs) if node.primitive.elementwise else None
    rule = RULES.get(node.primitive.name)
    if found is None and rule is not None:
        found = rule(node, *inputs)
    return None if found is None else (fitted(found, node.specs[0]),)


def _before_broadcast(node: Node, inputs: tuple[Tensor, ...]) -> Tensor | None:
    """f(broadcast(x), y) -> f(x, y), broadcast afterwards if y does not stretch it. Exact."""
    narrow = tuple(stretched.inputs[0] if (stretched := made_by(x, "broadcast_to")) else x for x in inputs)
    if all(a is b for a, b in zip(narrow, inputs, strict=True)):
        return None
    return fitted(apply(node.primitive, narrow, node.parameters), node.specs[0])


# ------------------------------------------------------------------------------------------------ numbers


def _add(node: Node, a: Tensor, b: Tensor) -> Tensor | None:
    """x + 0 -> x. Exact but for the sign of zero: -0.0 + 0.0 is 0.0, and stays -0.0 here."""
    if number(b) == 0:
        return a
    return b if number(a) == 0 else None


def _subtract(node: Node, a: Tensor, b: Tensor) -> Tensor | None:
    """x - 0 -> x. Exact but for x - -0.0 at x = -0.0."""
    return a if number(b) == 0 else None


def _multiply(node: Node, a: Tensor, b: Tensor) -> Tensor | None:
    """x * 1 -> x. Exact."""
    if number(b) == 1:
        return a
    return b if number(a) == 1 else None


def _divide(node: Node, a: Tensor, b: Tensor) -> Tensor | None:
    """x / 1 -> x; x / 2^k -> x * 2^-k. Exact: both round the same real number. Other divisors stay."""
    divisor = number(b)
    if divisor is None or not np.isfinite(divisor) or divisor == 0:
        return None
    if divisor == 1:
        return a
    if abs(math.frexp(divisor)[0]) != 0.5 or not _normal(1 / divisor) or not _normal(divisor):
        return None
    return multiply(a, np.asarray(1 / divisor, b.dtype))


def _normal(value: np.floating) -> bool:
    limits = np.finfo(value.dtype)
    return bool(limits.smallest_normal <= abs(value) <= limits.max)


def _negative(node: Node, x: Tensor) -> Tensor | None:
    """--x -> x. Exact."""
    inner = made_by(x, "negative")
    return inner.inputs[0] if inner else None


def _power(node: Node, x: Tensor) -> Tensor | None:
    """x^1 -> x, exact. x^2 -> x * x, x^-1 -> 1 / x: correctly rounded, where the power is within an ulp.

    x^0.5 -> √x: likewise, but NaN at -infinity (the power is infinite) and -0.0 at -0.0 (the power is 0.0).
    """
    exponent = node.parameters["exponent"]
    if exponent == 1:
        return x
    if exponent == 2:
        return multiply(x, x)
    if exponent == 0.5 and x.spec.floating:
        return sqrt(x)
    return divide(np.ones((), x.dtype), x) if exponent == -1 and x.spec.floating else None


def _where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor | None:
    """where(true, a, b) -> a; where(c, a, a) -> a. Exact."""
    chosen = number(condition)
    if same(a, b):
        return a
    return None if chosen is None else (a if chosen else b)


def _same_dtype(node: Node, x: Tensor) -> Tensor | None:
    """astype(x, dtype of x) -> x. Exact."""
    return x if node.parameters["dtype"] == x.dtype else None


def _itself(node: Node, x: Tensor) -> Tensor:
    """identity(x) -> x. Exact."""
    return x


# ------------------------------------------------------------------------------------------------ moving elements


def _reshape(node: Node, x: Tensor) -> Tensor | None:
    """reshape(reshape(x)) -> reshape(x); to the same shape -> x. Exact."""
    if x.shape == node.parameters["shape"]:
        return x
    inner = made_by(x, "reshape")
    return reshaped(inner.inputs[0], node.parameters["shape"]) if inner else None


def _permute(node: Node, x: Tensor) -> Tensor | None:
    """permute(permute(x)) -> permute(x); in the same order -> x. Exact."""
    axes = node.parameters["axes"]
    if axes == tuple(range(x.ndim)):
        return x
    inner = made_by(x, "permute_dims")
    if inner is None:
        return None
    return apply(node.primitive, inner.inputs, {"axes": tuple(inner.parameters["axes"][a] for a in axes)})


def _broadcast(node: Node, x: Tensor) -> Tensor | None:
    """broadcast(broadcast(x)) -> broadcast(x); to the same shape -> x. Exact."""
    if x.shape == node.parameters["shape"]:
        return x
    inner = made_by(x, "broadcast_to")
    return inner.inputs[0] if inner else None


def _slice(node: Node, x: Tensor) -> Tensor | None:
    """x[:] -> x. Exact."""
    p = node.parameters
    whole = all(a == 0 for a in p["starts"]) and tuple(p["stops"]) == x.shape and all(s == 1 for s in p["steps"])
    return x if whole else None


def _pad(node: Node, x: Tensor) -> Tensor | None:
    """A pad of nothing -> x. Exact."""
    return x if node.specs[0] == x.spec else None


def _reduce(node: Node, x: Tensor) -> Tensor | None:
    """Σ, max, min over axes of size 1 -> reshape; the other axes stay. Exact but for Σ of one -0.0, which is 0.0."""
    axes = node.parameters["axes"]
    long = tuple(a for a in axes if x.shape[a] != 1)
    if long == axes and axes:
        return None
    rest = apply(node.primitive, (x,), {**node.parameters, "axes": long, "keepdims": True}) if long else x
    return reshaped(rest, node.specs[0].shape)


RULES: dict[str, Callable[..., Tensor | None]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "negative": _negative,
    "power": _power,
    "where": _where,
    "astype": _same_dtype,
    "identity": _itself,
    "reshape": _reshape,
    "permute_dims": _permute,
    "broadcast_to": _broadcast,
    "slice": _slice,
    "pad": _pad,
    "sum": _reduce,
    "max": _reduce,
    "min": _reduce,
}
