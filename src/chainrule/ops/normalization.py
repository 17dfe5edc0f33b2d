"""Normalisation over features and over the batch."""

from __future__ import annotations

import math
from typing import Any

from chainrule.errors import ShapeError
from chainrule.graph import Draw, Tensor
from chainrule.ops.declare import primitive
from chainrule.ops.elementwise import sqrt
from chainrule.ops.movement import reshape
from chainrule.ops.reduction import mean, sum, var
from chainrule.spec import TensorSpec


def _layer_norm(xp: Any, x: Any, weight: Any, bias: Any, *, eps: float = 1e-5) -> Any:
    axes = tuple(range(x.ndim - weight.ndim, x.ndim))
    apart = x - xp.mean(x, axis=axes, keepdims=True)
    return apart / xp.sqrt(xp.mean(apart * apart, axis=axes, keepdims=True) + eps) * weight + bias


def _layer_norm_shape(x: TensorSpec, weight: TensorSpec, bias: TensorSpec, *, eps: float) -> TensorSpec:
    if not weight.shape or x.shape[-weight.ndim :] != weight.shape or bias.shape != weight.shape:
        raise ShapeError(
            f"layer_norm: the last axes of x ({x}) must be those of weight ({weight}) and bias ({bias}): "
            "set normalized_shape to the shape of what the layer receives"
        )
    return x


def _layer_norm_pullback(dy: Tensor, y: Tensor, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple:
    axes = tuple(range(x.ndim - weight.ndim, x.ndim))
    rows = tuple(range(x.ndim - weight.ndim))
    scale = 1.0 / sqrt(var(x, axes, keepdims=True) + eps)
    normal = (x - mean(x, axes, keepdims=True)) * scale
    error = dy * weight
    dx = scale * (error - mean(error, axes, keepdims=True) - normal * mean(error * normal, axes, keepdims=True))
    return dx, sum(dy * normal, rows), sum(dy, rows)


def _draw_layer_norm(point: Draw) -> tuple[tuple, dict]:
    features = tuple(max(n, 1) for n in point.shape(1, 2))
    x = point.real((*point.shape(0, 2), *features), -2, 2)
    return (x, point.real(features, -2, 2), point.real(features, -2, 2)), {"eps": 0.1}


layer_norm = primitive(
    "layer_norm",
    "y = (x - mean) / √(var + eps) · w + b",
    written="layer_norm({inputs})",
    rule=("normed_back({dy} * {1}, {0})", "sum_rows({dy} * normalised({0}))", "sum_rows({dy})"),
    equations=("", "", "BP3"),
    shape=_layer_norm_shape,
    evaluate=_layer_norm,
    pullback=_layer_norm_pullback,
    draw=_draw_layer_norm,
    meaning="Mean and variance over the last axes, those of w (Ba, Kiros & Hinton 2016, equation 4).",
    why=("error minus its mean and its part along y, over the deviation", "error x normalised input", "error, summed"),
)


def _channel_axes(x: Any) -> tuple[int, ...]:
    return tuple(a for a in range(x.ndim) if a != 1)


def _along_channels(x: Tensor, values: Tensor) -> Tensor:
    return reshape(values, (1, x.shape[1]) + (1,) * (x.ndim - 2))


def _batch_norm(xp: Any, x: Any, weight: Any, bias: Any, *, eps: float = 1e-5) -> tuple:
    axes = tuple(a for a in range(x.ndim) if a != 1)
    wide = (1, x.shape[1]) + (1,) * (x.ndim - 2)
    middle = xp.mean(x, axis=axes, keepdims=True)
    apart = x - middle
    variance = xp.mean(apart * apart, axis=axes, keepdims=True)
    y = apart / xp.sqrt(variance + eps) * xp.reshape(weight, wide) + xp.reshape(bias, wide)
    return y, xp.reshape(middle, (x.shape[1],)), xp.reshape(variance, (x.shape[1],))


def _batch_norm_shape(x: TensorSpec, weight: TensorSpec, bias: TensorSpec, *, eps: float) -> tuple:
    if x.ndim < 2 or weight.shape != (x.shape[1],) or bias.shape != weight.shape:
        raise ShapeError(
            f"batch_norm: axis 1 of x ({x}) must have one entry of weight ({weight}) and bias ({bias}): "
            "set num_features to the number of channels that the layer receives"
        )
    return x, TensorSpec((x.shape[1],), x.dtype), TensorSpec((x.shape[1],), x.dtype)


def _batch_norm_pullback(dys: tuple, ys: tuple, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple:
    axes = _channel_axes(x)
    n = math.prod(x.shape[a] for a in axes)
    dy, dmean, dvar = dys
    apart = x - _along_channels(x, ys[1])
    dx = dweight = dbias = None
    if dy is not None:
        scale = 1.0 / sqrt(_along_channels(x, ys[2]) + eps)
        normal = apart * scale
        error = dy * _along_channels(x, weight)
        dx = scale * (error - mean(error, axes, keepdims=True) - normal * mean(error * normal, axes, keepdims=True))
        dweight, dbias = sum(dy * normal, axes), sum(dy, axes)
    if dmean is not None:
        through_mean = (apart * 0.0) + _along_channels(x, dmean) / n
        dx = through_mean if dx is None else dx + through_mean
    if dvar is not None:
        through_var = apart * (_along_channels(x, dvar) * (2.0 / n))
        dx = through_var if dx is None else dx + through_var
    return dx, dweight, dbias


def _draw_batch_norm(point: Draw) -> tuple[tuple, dict]:
    channels = max(point.size(1), 1)
    x = point.real((max(point.size(2), 2), channels, *point.shape(0, 1)), -2, 2)
    if x.size == 0:
        x = point.real((3, channels), -2, 2)
    return (x, point.real((channels,), -2, 2), point.real((channels,), -2, 2)), {"eps": 0.1}


batch_norm = primitive(
    "batch_norm",
    "y = (x - mean) / √(var + eps) · w + b",
    written="batch_norm({inputs})",
    rule=("normed_back({dy} * {1}, {0})", "sum_rows({dy} * normalised({0}))", "sum_rows({dy})"),
    equations=("", "", "BP3"),
    shape=_batch_norm_shape,
    evaluate=_batch_norm,
    pullback=_batch_norm_pullback,
    draw=_draw_batch_norm,
    outputs=3,
    meaning="Mean and variance over all axes but 1, which are the second and third output (Ioffe & Szegedy 2015, "
    "algorithm 1). The variance divides by n.",
    why=("error minus its mean and its part along y, over the deviation", "error x normalised input", "error, summed"),
)
