"""Stability: formulas that overflow or cancel, in the form that does not."""

from __future__ import annotations

from collections.abc import Callable

from chainrule.graph import PRIMITIVES, Graph, Node, Tensor, apply
from chainrule.ops import exp, expm1, log1p, log_softmax, logsumexp, multiply, negative, softmax, softplus, subtract
from chainrule.rewrite.pattern import fitted, made_by, number, reshaped, same, settled


def stabilise(graph: Graph) -> Graph:
    """log(softmax(x)) -> log_softmax(x), and the like, with the backward passes of the first three.

    Changes bits on purpose: equal in exact arithmetic, and finite where the original is 0/0 or infinite.
    """
    return settled(graph, _steadied)


def _steadied(node: Node, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    rule = RULES.get(node.primitive.name)
    found = rule(*inputs) if rule else None
    return None if found is None else (fitted(found, node.specs[0]),)


def _log(x: Tensor) -> Tensor | None:
    """log softmax -> log_softmax; log Σ e^x -> logsumexp(x); log(1 + x) -> log1p(x); log σ(x) -> -softplus(-x)."""
    if node := made_by(x, "softmax"):
        return log_softmax(node.inputs[0], node.parameters["axis"])
    if node := made_by(x, "sigmoid"):
        return negative(softplus(negative(node.inputs[0])))
    if terms := _sum_of_exponentials(x):
        return apply(PRIMITIVES["logsumexp"], (terms[1],), terms[0].parameters)
    if node := made_by(x, "add"):
        for one, rest in (node.inputs, node.inputs[::-1]):
            if number(one) == 1:
                return log1p(rest)
    return None


def _sum_of_exponentials(x: Tensor) -> tuple[Node, Tensor] | None:
    """(the sum, z) if ``x`` is Σ e^z over at least one element, and z is not taken from its largest already."""
    total = made_by(x, "sum")
    terms = made_by(total.inputs[0], "exp") if total else None
    if total is None or terms is None or total.inputs[0].size == 0:
        return None
    return None if _from_its_largest(terms.inputs[0]) else (total, terms.inputs[0])


def _from_its_largest(x: Tensor) -> bool:
    """Whether ``x`` is z - max(z), as log_softmax and logsumexp are made of: e^x never overflows."""
    shift = made_by(x, "subtract")
    if shift is None:
        return False
    top = shift.inputs[1]
    while top.node is not None and top.node.primitive.name in ("broadcast_to", "reshape", "where"):
        top = top.node.inputs[1 if top.node.primitive.name == "where" else 0]
    largest = made_by(top, "max")
    return largest is not None and same(largest.inputs[0], shift.inputs[0])


def _subtract(a: Tensor, b: Tensor) -> Tensor | None:
    """e^x - 1 -> expm1(x)."""
    node = made_by(a, "exp")
    return expm1(node.inputs[0]) if node and number(b) == 1 else None


def _add(a: Tensor, b: Tensor) -> Tensor | None:
    """e^x + -1 -> expm1(x)."""
    for x, one in ((a, b), (b, a)):
        node = made_by(x, "exp")
        if node and number(one) == -1:
            return expm1(node.inputs[0])
    return None


def _multiply(a: Tensor, b: Tensor) -> Tensor | None:
    """What the pullbacks of log and of softmax, sigmoid and Σ e^x make together, without the quotient 0/0 or ∞/∞."""
    for x, y in ((a, b), (b, a)):
        for rule in (_back_through_softmax, _back_through_sigmoid, _back_through_sum):
            found = rule(x, y)
            if found is not None:
                return found
    return None


def _back_through_softmax(x: Tensor, y: Tensor) -> Tensor | None:
    """y (d/y) -> d, and y (d/y - s) -> d - y s, for y = softmax(x), which is 0 only by underflow."""
    if not made_by(y, "softmax"):
        return None
    d = _over(x, y)
    if d is not None:
        return d
    node = made_by(x, "subtract")
    d = _over(node.inputs[0], y) if node else None
    return None if node is None or d is None else subtract(d, multiply(y, node.inputs[1]))


def _back_through_sigmoid(x: Tensor, y: Tensor) -> Tensor | None:
    """(d/σ) (σ (1 - σ)) -> d (1 - σ), for σ = sigmoid(x)."""
    node = made_by(y, "multiply")
    if node is None:
        return None
    for s, rest in (node.inputs, node.inputs[::-1]):
        d = _over(x, s) if made_by(s, "sigmoid") else None
        if d is not None:
            return multiply(d, rest)
    return None


def _back_through_sum(x: Tensor, y: Tensor) -> Tensor | None:
    """(d/s) e^x -> d softmax(x), for s = Σ e^x, over one axis; over several d e^(x - logsumexp(x))."""
    terms = made_by(y, "exp")
    if terms is None:
        return None
    while x.node is not None and x.node.primitive.name in ("broadcast_to", "reshape"):
        x = x.node.inputs[0]
    quotient = made_by(x, "divide")
    found = _sum_of_exponentials(quotient.inputs[1]) if quotient else None
    if quotient is None or found is None or not same(found[1], terms.inputs[0]):
        return None
    axes, z = found[0].parameters["axes"], terms.inputs[0]
    d, wide = quotient.inputs[0], tuple(1 if a in axes else n for a, n in enumerate(z.shape))
    if d.shape != quotient.specs[0].shape:
        return None
    part = softmax(z, axes[0]) if len(axes) == 1 else exp(subtract(z, logsumexp(z, axes, keepdims=True)))
    return multiply(reshaped(d, wide), part)


def _over(x: Tensor, y: Tensor) -> Tensor | None:
    """d if ``x`` is d / y and as large as d."""
    node = made_by(x, "divide")
    if node is None or not same(node.inputs[1], y) or node.inputs[0].shape != x.shape:
        return None
    return node.inputs[0]


RULES: dict[str, Callable[..., Tensor | None]] = {
    "log": _log,
    "subtract": _subtract,
    "add": _add,
    "multiply": _multiply,
}
