"""Attention: each query reads a mean of the values, weighted by how well it meets their keys."""

from __future__ import annotations

import math
from typing import Any

from chainrule.errors import ArgumentError, ShapeError
from chainrule.graph import Draw, Tensor
from chainrule.ops.broadcasting import as_tensor, as_tensors, cast, meet, unbroadcast
from chainrule.ops.declare import primitive
from chainrule.ops.linear_algebra import matmul
from chainrule.ops.movement import matrix_transpose
from chainrule.ops.namespace import OPS
from chainrule.ops.reduction import sum
from chainrule.spec import BOOL, TensorSpec

FORBIDDEN = -1e30
"""A score in place of minus infinity: its exponential is 0 beside any other, and never infinity minus infinity."""


def _arguments(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> tuple[tuple, dict]:
    inputs = as_tensors("scaled_dot_product_attention", (query, key, value))
    if min(x.ndim for x in inputs) < 2:
        listed = ", ".join(str(x.spec) for x in inputs)
        raise ShapeError(
            f"scaled_dot_product_attention: query, key and value are [..., positions, features], got {listed}"
        )
    factor = 1.0 / math.sqrt(max(inputs[0].shape[-1], 1)) if scale is None else float(scale)
    if attn_mask is not None:
        if is_causal:
            raise ArgumentError("scaled_dot_product_attention: pass attn_mask or is_causal=True, not both")
        mask = as_tensor(attn_mask)
        inputs = (*inputs, mask if mask.dtype == BOOL else cast(mask, inputs[0].dtype))
    return inputs, {"causal": bool(is_causal), "scale": factor}


def _shape(
    q: TensorSpec, k: TensorSpec, v: TensorSpec, mask: TensorSpec | None = None, *, causal: bool, scale: float
) -> TensorSpec:
    name = "scaled_dot_product_attention"
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            f"{name}: query ({q}) and key ({k}) must have as many features, and key and value ({v}) as many positions"
        )
    if k.shape[-2] == 0:
        raise ShapeError(f"{name}: key ({k}) has no positions to attend to")
    lead = meet(name, q.shape[:-2], k.shape[:-2], v.shape[:-2])
    scores = (*meet(name, q.shape[:-2], k.shape[:-2]), q.shape[-2], k.shape[-2])
    if mask is not None and meet(f"{name}: attn_mask", scores, mask.shape) != scores:
        raise ShapeError(f"{name}: attn_mask ({mask}) must fit the scores, {list(scores)}, without stretching them")
    return TensorSpec((*lead, q.shape[-2], v.shape[-1]), q.dtype)


def _weights(xp: Any, q: Any, k: Any, mask: Any, causal: bool, scale: float) -> Any:
    """softmax(q kᵀ scale + mask) over the positions that may be read; 0 in a row that may read none."""
    scores = xp.matmul(q, xp.matrix_transpose(k)) * scale
    allowed = mask
    if causal:
        allowed = xp.reshape(xp.arange(q.shape[-2]), (q.shape[-2], 1)) >= xp.arange(k.shape[-2])
    elif mask is not None and mask.dtype != BOOL:
        allowed, scores = xp.not_equal(mask, -math.inf), scores + mask
    if allowed is not None:
        scores = xp.where(allowed, scores, xp.full_like(scores, FORBIDDEN))
    e = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
    weights = e / xp.sum(e, axis=-1, keepdims=True)
    return weights if allowed is None else xp.where(allowed, weights, xp.zeros_like(weights))


def _attention(xp: Any, q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool, scale: float) -> Any:
    return xp.matmul(_weights(xp, q, k, mask, causal, scale), v)


def _pullback(
    dy: Tensor, y: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool, scale: float
) -> tuple:
    weights = _weights(OPS, q, k, mask, causal, scale)
    dv = matmul(matrix_transpose(weights), dy)
    errors = unbroadcast(matmul(dy, matrix_transpose(v)), weights.shape)
    dscores = weights * (errors - sum(errors * weights, -1, keepdims=True))
    dq = matmul(dscores, k) * scale
    dk = matmul(matrix_transpose(dscores), q) * scale
    pulled = tuple(unbroadcast(d, x.shape) for d, x in ((dq, q), (dk, k), (dv, v)))
    if mask is None:
        return pulled
    return (*pulled, unbroadcast(dscores, mask.shape) if mask.spec.floating else None)


def _draw(point: Draw) -> tuple[tuple, dict]:
    features, places, outputs = point.choice(1, 2, 3), point.choice(1, 2, 3), point.choice(1, 2)
    queries, lead = point.size(), point.shape(0, 1)
    q, k, v = (
        point.real((*shape, *last), -2, 2)
        for shape, last in (
            (lead, (queries, features)),
            (point.part_of(lead), (places, features)),
            (lead, (places, outputs)),
        )
    )
    kind = point.choice("none", "causal", "bool", "float")
    masks = {"bool": point.booleans((queries, places)), "float": point.real((1, places), -2, 2)}
    arrays = (q, k, v, masks[kind]) if kind in masks else (q, k, v)
    return arrays, {"causal": kind == "causal", "scale": point.choice(0.5, 1.0)}


scaled_dot_product_attention = primitive(
    "scaled_dot_product_attention",
    "y = softmax(q kᵀ · scale + mask) v",
    written="attention({inputs})",
    rule=(
        "d_scores({dy}) @ {1} * {scale}",
        "d_scores({dy}).T @ {0} * {scale}",
        "weights({0}, {1}).T @ {dy}",
        "d_scores({dy})",
    ),
    shape=_shape,
    evaluate=_attention,
    pullback=_pullback,
    arguments=_arguments,
    draw=_draw,
    meaning="q: [..., L, E], k: [..., S, E], v: [..., S, V] -> [..., L, V]; called as scaled_dot_product_attention("
    "query, key, value, attn_mask=None, is_causal=False, scale=None), scale None being 1/√E. attn_mask: [..., L, S], "
    "true where a query may read, or numbers added to the scores; is_causal: query i reads keys up to i. A query that "
    "may read nothing gets 0 (Vaswani et al. 2017, equation 1).",
    why=(
        "the error of the scores sent back through the keys: weight x (error minus its mean under the weights)",
        "the error of the scores x query, summed over queries",
        "weight x error, summed over queries",
        "the error of the scores",
    ),
)
