"""Sliding windows over the last axes, and the sum that puts windows back where they were cut out."""

from __future__ import annotations

from typing import Any

from chainrule.errors import ShapeError
from chainrule.graph import Draw, Primitive
from chainrule.ops.broadcasting import as_tensor
from chainrule.spec import TensorSpec


def window_counts(
    sizes: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> tuple[int, ...]:
    """How many windows of ``kernel`` positions fit into axes of ``sizes``; below 1 where none does."""
    return tuple((n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True))


def _windows_shape(x: TensorSpec, *, sizes: tuple, strides: tuple, dilations: tuple) -> TensorSpec:
    axes = len(sizes)
    if not len(strides) == len(dilations) == axes <= x.ndim or min((*sizes, *strides, *dilations), default=1) < 1:
        raise ShapeError(
            f"windows: sizes {list(sizes)}, strides {list(strides)} and dilations {list(dilations)} must be numbers of "
            f"at least 1, one for each of the last axes of x ({x})"
        )
    lead = x.shape[: x.ndim - axes]
    counts = window_counts(x.shape[x.ndim - axes :], sizes, strides, dilations)
    if min(counts, default=1) < 1:
        reach = [(k - 1) * d + 1 for k, d in zip(sizes, dilations, strict=True)]
        raise ShapeError(f"windows: a window reaches over {reach} positions, and x ({x}) has fewer: pad it first")
    return TensorSpec((*lead, *counts, *sizes), x.dtype)


def _windows_add_shape(y: TensorSpec, *, shape: tuple, strides: tuple, dilations: tuple) -> TensorSpec:
    axes = len(shape)
    kernel = y.shape[y.ndim - axes :]
    if y.ndim < 2 * axes or y.shape[y.ndim - 2 * axes : y.ndim - axes] != window_counts(
        shape, kernel, strides, dilations
    ):
        raise ShapeError(f"windows_add: {y} are not the windows of axes of {list(shape)}")
    return TensorSpec((*y.shape[: y.ndim - 2 * axes], *shape), y.dtype)


def _windows_arguments(x: Any, sizes: Any, strides: Any = None, dilations: Any = None) -> tuple[tuple, dict]:
    sizes = tuple(map(int, sizes))
    ones = (1,) * len(sizes)
    steps, gaps = (ones if given is None else tuple(map(int, given)) for given in (strides, dilations))
    return (as_tensor(x),), {"sizes": sizes, "strides": steps, "dilations": gaps}


def _windows_add_arguments(y: Any, shape: Any, strides: Any, dilations: Any) -> tuple[tuple, dict]:
    given = {"shape": shape, "strides": strides, "dilations": dilations}
    return (as_tensor(y),), {name: tuple(map(int, numbers)) for name, numbers in given.items()}


def _drawn_windows(point: Draw) -> tuple[tuple, tuple, dict]:
    """(leading axes, the axes that windows slide over, sizes, strides and dilations)."""
    axes = point.choice(1, 2)
    sizes, strides, dilations = (tuple(point.choice(*options) for _ in range(axes)) for options in _OPTIONS)
    lengths = tuple((k - 1) * d + 1 + point.choice(0, 0, 1, 4) for k, d in zip(sizes, dilations, strict=True))
    lead = point.shape(0, 1)
    return lead, lengths, {"sizes": sizes, "strides": strides, "dilations": dilations}


_OPTIONS = ((1, 1, 2, 3), (1, 1, 2, 3), (1, 1, 2))


def _draw_windows(point: Draw) -> tuple[tuple, dict]:
    lead, lengths, parameters = _drawn_windows(point)
    return (point.real((*lead, *lengths)),), parameters


def _draw_windows_add(point: Draw) -> tuple[tuple, dict]:
    lead, lengths, p = _drawn_windows(point)
    counts = window_counts(lengths, p["sizes"], p["strides"], p["dilations"])
    y = point.real((*lead, *counts, *p["sizes"]))
    return (y,), {"shape": lengths, "strides": p["strides"], "dilations": p["dilations"]}


windows: Primitive = Primitive(
    "windows",
    "y[…, i, j, k, l] = x[…, i s + k d, j s' + l d']",
    rule=("windows_add({dy})",),
    shape=_windows_shape,
    evaluate=lambda xp, x, *, sizes, strides, dilations: xp.windows(x, sizes, strides, dilations),
    pullback=lambda dy, y, x, sizes, strides, dilations: (
        windows_add(dy, x.shape[x.ndim - len(sizes) :], strides, dilations),
    ),
    arguments=_windows_arguments,
    draw=_draw_windows,
    meaning="Every window of sizes (k, …) over the last axes, strides (s, …) apart, its positions dilations (d, …) "
    "apart: [..., h, w] -> [..., windows down, windows across, k, l].",
    why=("the errors of all windows that an element is in, added up",),
)
windows_add: Primitive = Primitive(
    "windows_add",
    "y = 0, then y[…, i s + k d, j s' + l d'] += x[…, i, j, k, l]",
    rule=("windows({dy})",),
    shape=_windows_add_shape,
    evaluate=lambda xp, y, *, shape, strides, dilations: xp.windows_add(y, shape, strides, dilations),
    pullback=lambda dz, z, y, shape, strides, dilations: (
        windows(dz, y.shape[y.ndim - len(shape) :], strides, dilations),
    ),
    arguments=_windows_add_arguments,
    draw=_draw_windows_add,
    meaning="Windows put back where `windows` cuts them out of axes of the given shape; where they overlap they add.",
    why=("the error of the place that it was added to",),
)
