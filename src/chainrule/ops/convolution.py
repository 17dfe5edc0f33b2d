"""Convolution of images: a matrix product with the windows of the input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError, ShapeError
from chainrule.graph import Draw, Tensor
from chainrule.ops.broadcasting import as_tensors
from chainrule.ops.declare import primitive
from chainrule.ops.linear_algebra import matmul
from chainrule.ops.movement import matrix_transpose, permute_dims, reshape
from chainrule.ops.namespace import OPS
from chainrule.ops.reduction import sum
from chainrule.ops.windows import window_counts, windows_add
from chainrule.spec import TensorSpec

Pair = tuple[int, int]


def pair(name: str, argument: str, value: Any, least: int) -> Pair:
    """A number for both axes, or a pair (down, across); ArgumentError below ``least``."""
    given = (value, value) if isinstance(value, (int, np.integer)) else value
    if isinstance(given, (tuple, list)) and len(given) == 2:
        down, across = given
        if all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= least for n in given):
            return int(down), int(across)
    raise ArgumentError(f"{name}: {argument} is a whole number of at least {least} or a pair of them, got {value!r}")


def margins(padding: Any, kernel: Pair, stride: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """Zeros (before, after) the rows and the columns. "same" keeps the size; an odd one goes after, as PyTorch."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        if stride != (1, 1):
            raise ArgumentError(f"conv2d: padding='same' keeps the size only with stride 1, got stride={stride}")
        totals = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        rows, columns = ((total // 2, total - total // 2) for total in totals)
        return rows, columns
    if isinstance(padding, str):
        raise ArgumentError(f"conv2d: padding is a number, a pair, 'same' or 'valid', got {padding!r}")
    down, across = pair("conv2d", "padding", padding, 0)
    return (down, down), (across, across)


def _arguments(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> tuple[tuple, dict]:
    inputs = as_tensors("conv2d", (x, weight) if bias is None else (x, weight, bias))
    if inputs[0].ndim != 4 or inputs[1].ndim != 4:
        raise ShapeError(
            f"conv2d: x [rows, channels, height, width] and weight [out, in / groups, height, width] have four axes, "
            f"got {inputs[0].spec} and {inputs[1].spec}: reshape grey images to [rows, 1, height, width]"
        )
    strides, dilations = pair("conv2d", "stride", stride, 1), pair("conv2d", "dilation", dilation, 1)
    if isinstance(groups, bool) or not isinstance(groups, (int, np.integer)) or groups < 1:
        raise ArgumentError(f"conv2d: groups is a whole number of at least 1, got {groups!r}")
    kernel = (inputs[1].shape[2], inputs[1].shape[3])
    padded = margins(padding, kernel, strides, dilations)
    return inputs, {"strides": strides, "padding": padded, "dilations": dilations, "groups": int(groups)}


def _shape(
    x: TensorSpec,
    weight: TensorSpec,
    bias: TensorSpec | None = None,
    *,
    strides: Pair,
    padding: tuple[Pair, Pair],
    dilations: Pair,
    groups: int,
) -> TensorSpec:
    channels, outputs = x.shape[1], weight.shape[0]
    if channels != weight.shape[1] * groups or outputs % groups:
        raise ShapeError(
            f"conv2d: x ({x}) has {channels} channels, but the weight ({weight}, [out, in / groups, height, width]) "
            f"takes {weight.shape[1] * groups} in {groups} groups: set in_channels to the channels of what the layer "
            "receives, and both channel counts to multiples of groups"
        )
    if bias is not None and bias.shape != (outputs,):
        raise ShapeError(f"conv2d: bias ({bias}) must have one entry for each of the {outputs} outputs")
    lengths = tuple(n + before + after for n, (before, after) in zip(x.shape[2:], padding, strict=True))
    counts = window_counts(lengths, weight.shape[2:], strides, dilations)
    if min(counts) < 1 or 0 in weight.shape[2:]:
        raise ShapeError(
            f"conv2d: a kernel of {list(weight.shape[2:])} with dilation {list(dilations)} does not fit into images of "
            f"{list(x.shape[2:])}, padded to {list(lengths)}: pad more, or use a smaller kernel"
        )
    return TensorSpec((x.shape[0], outputs, *counts), x.dtype)


def _columns(xp: Any, x: Any, kernel: Pair, strides: Pair, padding: tuple, dilations: Pair, groups: int) -> Any:
    """Windows as columns: [groups, in * kernel, rows * windows], so that lanes run along images and not kernels."""
    padded = xp.pad(x, ((0, 0), (0, 0), *padding)) if any(map(any, padding)) else x
    cut = xp.permute_dims(xp.windows(padded, kernel, strides, dilations), (1, 4, 5, 0, 2, 3))
    channels, _, _, rows, down, across = cut.shape
    return xp.reshape(cut, (groups, channels // groups * math.prod(kernel), rows * down * across))


def _conv2d(
    xp: Any,
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    strides: Pair,
    padding: tuple[Pair, Pair],
    dilations: Pair,
    groups: int,
) -> Any:
    outputs, _, *kernel = weight.shape
    columns = _columns(xp, x, tuple(kernel), strides, padding, dilations, groups)
    y = xp.matmul(xp.reshape(weight, (groups, outputs // groups, columns.shape[1])), columns)
    lengths = tuple(n + before + after for n, (before, after) in zip(x.shape[2:], padding, strict=True))
    counts = window_counts(lengths, tuple(kernel), strides, dilations)
    y = xp.permute_dims(xp.reshape(y, (outputs, x.shape[0], *counts)), (1, 0, 2, 3))
    return y if bias is None else y + xp.reshape(bias, (outputs, 1, 1))


def _pullback(
    dy: Tensor,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    strides: Pair,
    padding: tuple[Pair, Pair],
    dilations: Pair,
    groups: int,
) -> tuple:
    outputs, inputs, *kernel = weight.shape
    rows, _, *counts = y.shape
    columns = _columns(OPS, x, (kernel[0], kernel[1]), strides, padding, dilations, groups)
    errors = reshape(permute_dims(dy, (1, 0, 2, 3)), (groups, outputs // groups, rows * math.prod(counts)))
    dweight = reshape(matmul(errors, matrix_transpose(columns)), weight.shape)
    back = matmul(matrix_transpose(reshape(weight, (groups, outputs // groups, columns.shape[1]))), errors)
    cut = permute_dims(reshape(back, (groups * inputs, *kernel, rows, *counts)), (3, 0, 4, 5, 1, 2))
    lengths = tuple(n + before + after for n, (before, after) in zip(x.shape[2:], padding, strict=True))
    dx = windows_add(cut, lengths, strides, dilations)
    if lengths != x.shape[2:]:
        (top, _), (left, _) = padding
        dx = dx[:, :, top : top + x.shape[2], left : left + x.shape[3]]
    return (dx, dweight) if bias is None else (dx, dweight, sum(dy, (0, 2, 3)))


def _draw(point: Draw) -> tuple[tuple, dict]:
    groups, kernel = point.choice(1, 1, 2), (point.choice(1, 2, 3), point.choice(1, 2))
    strides, dilations = ((point.choice(1, 1, 2), point.choice(1, 2)) for _ in range(2))
    padding = tuple((point.choice(0, 1), point.choice(0, 1, 2)) for _ in range(2))
    inputs, outputs = groups * point.choice(1, 2), groups * point.choice(1, 2)
    lengths = [(k - 1) * d + 1 + point.choice(0, 1) for k, d in zip(kernel, dilations, strict=True)]
    x = point.real((point.choice(0, 1) if point.empty else point.choice(1, 2), inputs, *lengths), -2, 2)
    arrays = (x, point.real((outputs, inputs // groups, *kernel), -2, 2), point.real((outputs,), -2, 2))
    options = {"strides": strides, "padding": padding, "dilations": dilations, "groups": groups}
    return arrays[: point.choice(2, 3)], options


conv2d = primitive(
    "conv2d",
    "y[n, o, i, j] = Σ w[o, c, k, l] x[n, c, i s + k d, j s' + l d'] + b[o]",
    written="conv2d({inputs})",
    rule=("windows_add({1}.T @ {dy})", "{dy} @ windows({0}).T", "sum_rows({dy})"),
    equations=("BP2", "BP4", "BP3"),
    shape=_shape,
    evaluate=_conv2d,
    pullback=_pullback,
    arguments=_arguments,
    draw=_draw,
    meaning="x: [rows, in, height, width], weight: [out, in / groups, height, width], bias: [out] or None -> "
    "[rows, out, windows down, windows across]; called as conv2d(x, weight, bias=None, stride=1, padding=0, "
    'dilation=1, groups=1), padding a number, a pair, "same" or "valid", as PyTorch. Cross-correlation: the kernel is '
    "not mirrored (LeCun, Bottou, Bengio & Haffner 1998).",
    why=(
        "the error of each window sent back through the kernel, added up where windows overlap",
        "output error x input window, summed over all windows",
        "output error, summed over rows and windows",
    ),
)
