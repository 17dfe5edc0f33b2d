"""Pooling of images: the largest or the mean of each window."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError, ShapeError
from chainrule.graph import Draw, Primitive, Tensor
from chainrule.ops.broadcasting import floated
from chainrule.ops.convolution import Pair, pair
from chainrule.ops.elementwise import equal, isnan, logical_or, where
from chainrule.ops.movement import broadcast_to, permute_dims, reshape
from chainrule.ops.namespace import OPS
from chainrule.ops.reduction import min
from chainrule.ops.windows import window_counts, windows_add
from chainrule.spec import TensorSpec


def _cut(xp: Any, x: Any, kernel: Pair, strides: Pair, padding: Pair, outside: float) -> Any:
    """[kernel down, kernel across, ..., windows down, windows across]: reductions then run along images."""
    (down, across), lead = padding, x.ndim - 2
    margins = (*((0, 0),) * lead, (down, down), (across, across))
    wide = xp.pad(x, margins, constant_values=outside) if any(padding) else x
    return xp.permute_dims(xp.windows(wide, kernel, strides, (1, 1)), (lead + 2, lead + 3, *range(lead + 2)))


def _put_back(errors: Tensor, x: Tensor, strides: Pair, padding: Pair) -> Tensor:
    """The cotangent of x from those of its windows, which are laid out as by ``_cut``."""
    (down, across), (height, width) = padding, x.shape[-2:]
    cut = permute_dims(errors, (*range(2, errors.ndim), 0, 1))
    dx = windows_add(cut, (height + 2 * down, width + 2 * across), strides, (1, 1))
    return dx[..., down : down + height, across : across + width] if any(padding) else dx


def pooling(
    name: str, formula: str, *, evaluate: Callable, pullback: Callable, distinct: bool = False, **more: Any
) -> Primitive:
    """Declare a pooling, called as ``name(x, kernel_size, stride=None, padding=0)``, x: [..., h, w]."""

    def arguments(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0) -> tuple[tuple, dict]:
        x, kernel = floated(x), pair(name, "kernel_size", kernel_size, 1)
        strides, padded = (
            kernel if stride is None else pair(name, "stride", stride, 1),
            pair(name, "padding", padding, 0),
        )
        if any(2 * p > k for p, k in zip(padded, kernel, strict=True)):
            raise ArgumentError(f"{name}: padding {padded} is more than half of the window {kernel}: use less padding")
        return (x,), {"kernel": kernel, "strides": strides, "padding": padded}

    def shape(x: TensorSpec, *, kernel: Pair, strides: Pair, padding: Pair) -> TensorSpec:
        if x.ndim < 2:
            raise ShapeError(f"{name}: x is [..., height, width], got {x}")
        lengths = tuple(n + 2 * p for n, p in zip(x.shape[-2:], padding, strict=True))
        counts = window_counts(lengths, kernel, strides, (1, 1))
        if np.min(counts) < 1:
            raise ShapeError(
                f"{name}: windows of {list(kernel)} do not fit into images of {list(x.shape[-2:])}, padded to "
                f"{list(lengths)}: use smaller windows or fewer poolings"
            )
        return TensorSpec((*x.shape[:-2], *counts), x.dtype)

    def draw(point: Draw) -> tuple[tuple, dict]:
        kernel = (point.choice(1, 2, 3), point.choice(1, 2, 3))
        padding = tuple(int(point.random.integers(k // 2 + 1)) for k in kernel)
        lengths = (k + point.choice(0, 0, 2) for k in kernel)
        x = point.real((*point.shape(0, 1), *lengths), distinct=distinct)
        return (x,), {"kernel": kernel, "strides": (point.choice(1, 2), point.choice(1, 2, 3)), "padding": padding}

    return Primitive(name, formula, shape, evaluate, pullback, arguments, draw=draw, **more)


def _max_pool2d(xp: Any, x: Any, *, kernel: Pair, strides: Pair, padding: Pair) -> Any:
    return xp.max(_cut(xp, x, kernel, strides, padding, -math.inf), axis=(0, 1))


def _max_pool2d_pullback(dy: Tensor, y: Tensor, x: Tensor, kernel: Pair, strides: Pair, padding: Pair) -> tuple:
    cut = _cut(OPS, x, kernel, strides, padding, -math.inf)
    count = math.prod(kernel)
    order = reshape(np.arange(count, dtype=x.dtype), (*kernel, *(1,) * x.ndim))
    hits = logical_or(equal(cut, y), isnan(cut))
    first = min(where(hits, order, np.asarray(count, x.dtype)), (0, 1))
    return (_put_back(where(equal(order, first), dy, np.zeros((), dy.dtype)), x, strides, padding),)


max_pool2d = pooling(
    "max_pool2d",
    "y[…, i, j] = the largest x[…, i s + k, j s' + l]",
    written="max_pool2d({0}, {kernel})",
    rule=("put_back({dy}, argmax({0}))",),
    distinct=True,
    evaluate=_max_pool2d,
    pullback=_max_pool2d_pullback,
    meaning="x: [..., height, width]; the windows are kernel_size large and stride apart, by default side by side. "
    "Padding never wins. NaN where a window holds one.",
    convention="Of equal elements the first one, row by row, gets the error, as in PyTorch.",
    why=("the error goes to the largest of the window",),
)


def _avg_pool2d(xp: Any, x: Any, *, kernel: Pair, strides: Pair, padding: Pair) -> Any:
    return xp.sum(_cut(xp, x, kernel, strides, padding, 0.0), axis=(0, 1)) / math.prod(kernel)


def _avg_pool2d_pullback(dy: Tensor, y: Tensor, x: Tensor, kernel: Pair, strides: Pair, padding: Pair) -> tuple:
    return (_put_back(broadcast_to(dy / math.prod(kernel), (*kernel, *dy.shape)), x, strides, padding),)


avg_pool2d = pooling(
    "avg_pool2d",
    "y[…, i, j] = 1/n Σ x[…, i s + k, j s' + l]",
    written="avg_pool2d({0}, {kernel})",
    rule=("spread({dy}) / {n}",),
    terms=lambda x, kernel, strides, padding: {"n": math.prod(kernel), "counted": "the elements of a window"},
    evaluate=_avg_pool2d,
    pullback=_avg_pool2d_pullback,
    meaning="x: [..., height, width]; the windows are kernel_size large and stride apart, by default side by side. "
    "The zeros of the padding are counted, as in PyTorch.",
    why=("every element of the window gets the mean's error over their number",),
)
