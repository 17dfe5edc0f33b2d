"""Contraction: a matrix product that was written as a sum of products."""

from __future__ import annotations

import math

from chainrule.graph import PRIMITIVES, Graph, Node, Tensor, apply
from chainrule.rewrite.pattern import made_by, reshaped, settled


def contract(graph: Graph) -> Graph:
    """Σ_k a[i, k] b[k, j] -> matmul(a, b), when both i and j have an axis of their own.

    The terms are added in another order, and no product of all three axes is ever made.
    """
    return settled(graph, _contracted)


def _contracted(node: Node, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    product = made_by(inputs[0], "multiply") if node.primitive.name == "sum" else None
    if product is None or inputs[0].size == 0:
        return None
    shape = inputs[0].shape
    a, b = (reshaped(x, (1,) * (len(shape) - x.ndim) + x.shape) for x in product.inputs)
    summed = set(node.parameters["axes"])
    long = [k for k, n in enumerate(shape) if n != 1]
    both = [k for k in long if a.shape[k] == b.shape[k]]
    rows, columns = ([k for k in long if k not in both and x.shape[k] != 1] for x in (a, b))
    inner, batch = [k for k in both if k in summed], [k for k in both if k not in summed]
    if not rows or not columns or not inner or summed & {*rows, *columns}:
        return None
    left, right = _stack(a, batch, rows, inner), _stack(b, batch, inner, columns)
    y = apply(PRIMITIVES["matmul"], (left, right), {})
    order = batch + rows + columns
    y = reshaped(y, tuple(shape[k] for k in order))
    if order != sorted(order):
        y = apply(PRIMITIVES["permute_dims"], (y,), {"axes": tuple(order.index(k) for k in sorted(order))})
    return (reshaped(y, node.specs[0].shape),)


def _stack(x: Tensor, batch: list[int], rows: list[int], columns: list[int]) -> Tensor:
    """``x`` as matrices [*batch, rows, columns], each side the product of its axes."""
    ones = [k for k in range(x.ndim) if k not in {*batch, *rows, *columns}]
    axes = (*batch, *rows, *columns, *ones)
    if axes != tuple(range(x.ndim)):
        x = apply(PRIMITIVES["permute_dims"], (x,), {"axes": axes})
    sizes = [x.shape[: len(batch)], x.shape[len(batch) : len(batch) + len(rows)]]
    rest = x.shape[len(batch) + len(rows) :]
    return reshaped(x, (*sizes[0], math.prod(sizes[1]), math.prod(rest)))
