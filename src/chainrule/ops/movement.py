"""Operations that move elements and change none: shapes, order, cutting and joining."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError, ShapeError
from chainrule.graph import Draw, Primitive, Tensor, operation, zeros_like
from chainrule.ops.broadcasting import as_tensor, as_tensors, meet, normalised, unbroadcast
from chainrule.spec import TensorSpec


def _dims(name: str, shape: tuple) -> tuple[int, ...]:
    given = shape[0] if len(shape) == 1 and not isinstance(shape[0], (int, np.integer)) else shape
    dims = tuple(int(n) for n in given)
    if any(n < -1 for n in dims) or dims.count(-1) > 1:
        raise ShapeError(f"{name}: {dims} is not a shape: sizes are at least 0, and one may be -1")
    return dims


def _reshape_arguments(x: Any, *shape: Any) -> tuple[tuple, dict]:
    x, dims = as_tensor(x), _dims("reshape", shape)
    if -1 in dims:
        rest = math.prod(n for n in dims if n != -1)
        if rest == 0 or x.size % rest:
            raise ShapeError(f"reshape: {x.spec} of {x.size} elements does not fit {dims}: -1 cannot be worked out")
        dims = tuple(x.size // rest if n == -1 else n for n in dims)
    return (x,), {"shape": dims}


def _reshape_shape(x: TensorSpec, *, shape: tuple[int, ...]) -> TensorSpec:
    if math.prod(shape) != x.size:
        raise ShapeError(f"reshape: {x} has {x.size} elements, {list(shape)} needs {math.prod(shape)}")
    return TensorSpec(shape, x.dtype)


def _draw_reshape(point: Draw) -> tuple[tuple, dict]:
    x = point.real(point.shape())
    shapes = [(x.size,), (1, x.size), (x.size, 1), x.shape[::-1], (1, *x.shape)]
    return (x,), {"shape": point.choice(*shapes)}


reshape: Primitive = Primitive(
    "reshape",
    "y = the elements of x in another shape, the last axis fastest",
    written="reshape({0}, {shape})",
    rule=("reshape({dy}, {before})",),
    terms=lambda x, shape: {"before": x.shape},
    shape=_reshape_shape,
    evaluate=lambda xp, x, *, shape: xp.reshape(x, shape),
    pullback=lambda dy, y, x, shape: (reshape(dy, x.shape),),
    arguments=_reshape_arguments,
    draw=_draw_reshape,
    why=("the error in the input's shape",),
)


def shaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``x`` in ``shape``; itself if it has that already, so that rules add no idle nodes."""
    return x if x.shape == shape else reshape(x, shape)


def _permutation(name: str, axes: Any, ndim: int) -> tuple[int, ...]:
    given = tuple(int(a) for a in axes)
    found = tuple(a % ndim if -ndim <= a < ndim else a for a in given)
    if sorted(found) != list(range(ndim)):
        raise ShapeError(f"{name}: axes {given} are not an order of the {ndim} axes")
    return found


def _permute_arguments(x: Any, *axes: Any) -> tuple[tuple, dict]:
    x = as_tensor(x)
    given = axes[0] if len(axes) == 1 and not isinstance(axes[0], (int, np.integer)) else axes
    return (x,), {"axes": _permutation("permute_dims", given, x.ndim)}


def _draw_permutation(point: Draw) -> tuple[tuple, dict]:
    x = point.real(point.shape())
    return (x,), {"axes": tuple(int(a) for a in point.random.permutation(x.ndim))}


permute_dims: Primitive = Primitive(
    "permute_dims",
    "y[i_p(0), i_p(1), …] = x[i_0, i_1, …]",
    written="transpose({0}, {axes})",
    rule=("transpose({dy}, {back})",),
    why=("the error with its axes back in their order",),
    terms=lambda x, axes: {"back": tuple(int(i) for i in np.argsort(axes))},
    shape=lambda x, *, axes: TensorSpec(tuple(x.shape[a] for a in axes), x.dtype),
    evaluate=lambda xp, x, *, axes: xp.permute_dims(x, axes),
    pullback=lambda dy, y, x, axes: (permute_dims(dy, tuple(int(i) for i in np.argsort(axes))),),
    arguments=_permute_arguments,
    draw=_draw_permutation,
    meaning="Axes in another order; a transpose.",
)


@operation
def matrix_transpose(x: Any) -> Tensor:
    """Swap the last two axes."""
    x = as_tensor(x)
    if x.ndim < 2:
        raise ShapeError(f"matrix_transpose: needs at least two axes, got {x.spec}")
    return permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _broadcast_arguments(x: Any, shape: Any) -> tuple[tuple, dict]:
    x, dims = as_tensor(x), _dims("broadcast_to", (shape,) if isinstance(shape, int) else tuple(shape))
    if meet("broadcast_to", x.shape, dims) != dims:
        raise ShapeError(f"broadcast_to: {x.spec} does not stretch to {list(dims)}")
    return (x,), {"shape": dims}


def _draw_broadcast(point: Draw) -> tuple[tuple, dict]:
    shape = point.shape()
    return (point.real(point.part_of(shape)),), {"shape": shape}


broadcast_to = Primitive(
    "broadcast_to",
    "y = x, repeated along axes of size 1 and new leading axes",
    written="broadcast({0}, {shape})",
    rule=("sum_copies({dy})",),
    shape=lambda x, *, shape: TensorSpec(shape, x.dtype),
    evaluate=lambda xp, x, *, shape: xp.broadcast_to(x, shape),
    pullback=lambda dy, y, x, shape: (unbroadcast(dy, x.shape),),
    arguments=_broadcast_arguments,
    draw=_draw_broadcast,
    why=("the errors of all copies added up",),
)


@operation
def expand_dims(x: Any, axis: int = 0) -> Tensor:
    """A new axis of size 1 at ``axis``."""
    x = as_tensor(x)
    (where,) = normalised("expand_dims", axis, x.ndim + 1)
    return reshape(x, (*x.shape[:where], 1, *x.shape[where:]))


@operation
def squeeze(x: Any, axis: Any = None) -> Tensor:
    """Without axes of size 1: all of them, or those named."""
    x = as_tensor(x)
    axes = [a for a in range(x.ndim) if x.shape[a] == 1] if axis is None else normalised("squeeze", axis, x.ndim)
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of {x.spec} has size {x.shape[a]}, not 1")
    return reshape(x, tuple(n for a, n in enumerate(x.shape) if a not in axes))


@operation
def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes ``start_dim`` to ``end_dim`` made one."""
    x = as_tensor(x)
    if x.ndim == 0:
        return reshape(x, (1,))
    (first,), (last,) = normalised("flatten", start_dim, x.ndim), normalised("flatten", end_dim, x.ndim)
    return reshape(x, (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


# ------------------------------------------------------------------------------------------------ joining and cutting


def _concat_arguments(tensors: Sequence[Any], axis: int = 0) -> tuple[tuple, dict]:
    if not tensors:
        raise ArgumentError("concat: got no tensors")
    found = as_tensors("concat", tuple(tensors))
    return found, {"axis": normalised("concat", axis, found[0].ndim)[0] if found[0].ndim else 0}


def _concat_shape(*specs: TensorSpec, axis: int) -> TensorSpec:
    first = specs[0]
    for s in specs:
        if s.ndim == 0:
            raise ShapeError("concat: 0-d tensors have no axis to join along: use stack()")
        if s.ndim != first.ndim or any(a != axis and s.shape[a] != n for a, n in enumerate(first.shape)):
            listed = ", ".join(map(str, specs))
            raise ShapeError(f"concat along axis {axis}: shapes may differ on that axis only, got {listed}")
    return TensorSpec((*first.shape[:axis], sum(s.shape[axis] for s in specs), *first.shape[axis + 1 :]), first.dtype)


def _concat_pullback(dy: Tensor, y: Tensor, *xs: Tensor, axis: int) -> tuple:
    ends = np.cumsum([x.shape[axis] for x in xs])
    return tuple(cut(dy, axis, int(e) - x.shape[axis], int(e)) for x, e in zip(xs, ends, strict=True))


def _draw_concat(point: Draw) -> tuple[tuple, dict]:
    shape = point.shape(1)
    axis = int(point.random.integers(len(shape)))
    sizes = [point.size() for _ in range(int(point.random.integers(1, 4)))]
    return tuple(point.real((*shape[:axis], n, *shape[axis + 1 :])) for n in sizes), {"axis": axis}


concat = Primitive(
    "concat",
    "y = x_1, x_2, … one after another along an axis",
    written="concat({inputs}, {axis})",
    rule=("part({dy}, {i})",),
    shape=_concat_shape,
    evaluate=lambda xp, *xs, axis: xp.concat(xs, axis=axis),
    pullback=_concat_pullback,
    arguments=_concat_arguments,
    draw=_draw_concat,
    why=("each input's part of the error",),
)


@operation
def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis."""
    return concat([expand_dims(x, axis) for x in tensors], axis)


def _slice_arguments(x: Any, starts: Any, stops: Any, steps: Any = None) -> tuple[tuple, dict]:
    x = as_tensor(x)
    steps = (1,) * x.ndim if steps is None else tuple(steps)
    return (x,), {"starts": tuple(starts), "stops": tuple(stops), "steps": steps}


def _slice_shape(x: TensorSpec, *, starts: tuple, stops: tuple, steps: tuple) -> TensorSpec:
    for n, start, stop, step in zip(x.shape, starts, stops, steps, strict=True):
        if not (0 <= start <= stop <= n and step >= 1):
            raise ShapeError(f"slice: [{start}:{stop}:{step}] is not inside an axis of {n}")
    return TensorSpec(tuple(-(-(b - a) // s) for a, b, s in zip(starts, stops, steps, strict=True)), x.dtype)


def _slice_pullback(dy: Tensor, y: Tensor, x: Tensor, starts: tuple, stops: tuple, steps: tuple) -> tuple:
    after = tuple(
        n - (a + (m - 1) * s + 1 if m else a) for n, a, m, s in zip(x.shape, starts, y.shape, steps, strict=True)
    )
    return (pad(dy, tuple(zip(starts, after, strict=True)), tuple(s - 1 for s in steps)),)


def _draw_slice(point: Draw) -> tuple[tuple, dict]:
    x = point.real(point.shape())
    starts = tuple(int(point.random.integers(n + 1)) for n in x.shape)
    stops = tuple(int(point.random.integers(a, n + 1)) for a, n in zip(starts, x.shape, strict=True))
    return (x,), {"starts": starts, "stops": stops, "steps": tuple(point.choice(1, 2, 3) for _ in x.shape)}


slice_ = Primitive(
    "slice",
    "y = x[start:stop:step] on every axis",
    written="cut({0}, {starts}, {stops})",
    rule=("put_back({dy}, {starts})",),
    shape=_slice_shape,
    evaluate=lambda xp, x, *, starts, stops, steps: x[tuple(map(slice, starts, stops, steps))],
    pullback=_slice_pullback,
    arguments=_slice_arguments,
    draw=_draw_slice,
    meaning="Steps are positive; flip first for a negative one.",
    why=("the error put back where it was cut out, 0 elsewhere",),
)


def cut(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    """x[start:stop] along one axis."""
    starts = tuple(start if a == axis else 0 for a in range(x.ndim))
    return slice_(x, starts, tuple(stop if a == axis else n for a, n in enumerate(x.shape)))


def _pad_arguments(x: Any, padding: Any, interior: Any = None, value: float = 0.0) -> tuple[tuple, dict]:
    x = as_tensor(x)
    if isinstance(padding, (int, np.integer)):
        padding = ((padding, padding),) * x.ndim
    pairs = tuple((int(a), int(b)) for a, b in padding)
    if len(pairs) != x.ndim or any(n < 0 for p in pairs for n in p):
        raise ShapeError(f"pad: {x.spec} needs {x.ndim} pairs (before, after) of numbers >= 0, got {padding}")
    interior = (0,) * x.ndim if interior is None else tuple(interior)
    return (x,), {"padding": pairs, "interior": interior, "value": value}


def _pad_shape(x: TensorSpec, *, padding: tuple, interior: tuple, value: float) -> TensorSpec:
    sizes = (n + max(n - 1, 0) * i + a + b for n, i, (a, b) in zip(x.shape, interior, padding, strict=True))
    return TensorSpec(tuple(sizes), x.dtype)


def _padded(xp: Any, x: Any, *, padding: tuple, interior: tuple, value: float) -> Any:
    if not any(interior):
        return xp.pad(x, padding, constant_values=value) if padding else x
    # An axis of n with i values between neighbours: append i to each row of a new axis, then drop the last i.
    for axis, i in enumerate(interior):
        if i and x.shape[axis] > 1:
            n = x.shape[axis]
            split_up = xp.reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
            wide = xp.pad(split_up, [(0, i if a == axis + 1 else 0) for a in range(x.ndim + 1)], constant_values=value)
            joined = xp.reshape(wide, (*x.shape[:axis], n * (i + 1), *x.shape[axis + 1 :]))
            x = joined[(slice(None),) * axis + (slice(0, n * (i + 1) - i),)]
    return xp.pad(x, padding, constant_values=value)


def _pad_pullback(dy: Tensor, y: Tensor, x: Tensor, padding: tuple, interior: tuple, value: float) -> tuple:
    starts = tuple(a for a, _ in padding)
    steps = tuple(i + 1 for i in interior)
    stops = tuple(a + ((n - 1) * s + 1 if n else 0) for a, n, s in zip(starts, x.shape, steps, strict=True))
    return (slice_(dy, starts, stops, steps),)


def _draw_pad(point: Draw) -> tuple[tuple, dict]:
    x = point.real(point.shape())
    padding = tuple((int(point.random.integers(3)), int(point.random.integers(3))) for _ in x.shape)
    return (x,), {"padding": padding, "interior": tuple(point.choice(0, 0, 1, 2) for _ in x.shape), "value": 1.5}


pad = Primitive(
    "pad",
    "y = x with a value put before, after and between its elements",
    rule=("unpad({dy})",),
    why=("the error without the margins",),
    shape=_pad_shape,
    evaluate=_padded,
    pullback=_pad_pullback,
    arguments=_pad_arguments,
    draw=_draw_pad,
    meaning="padding: a pair (before, after) an axis, or one number for all; interior: how many between neighbours.",
)


def _flip_arguments(x: Any, axis: Any = None) -> tuple[tuple, dict]:
    x = as_tensor(x)
    return (x,), {"axes": normalised("flip", axis, x.ndim)}


def _draw_flip(point: Draw) -> tuple[tuple, dict]:
    x = point.real(point.shape())
    return (x,), {"axes": point.axes(x.ndim)}


flip: Primitive = Primitive(
    "flip",
    "y = x backwards along axes",
    rule=("flip({dy}, {axes})",),
    why=("the error backwards along the axes",),
    shape=lambda x, *, axes: x,
    evaluate=lambda xp, x, *, axes: xp.flip(x, axis=axes),
    pullback=lambda dy, y, x, axes: (flip(dy, axes),),
    arguments=_flip_arguments,
    draw=_draw_flip,
)


def _split_arguments(x: Any, sizes: Any, axis: int = 0) -> tuple[tuple, dict]:
    x = as_tensor(x)
    if x.ndim == 0:
        raise ShapeError("split: a 0-d tensor has no axis to cut")
    (where,) = normalised("split", axis, x.ndim)
    n = x.shape[where]
    if isinstance(sizes, (int, np.integer)):
        if sizes < 1:
            raise ArgumentError(f"split: the size of a part must be at least 1, got {sizes}")
        sizes = [min(sizes, n - i) for i in range(0, n, sizes)] or [0]
    sizes = tuple(int(s) for s in sizes)
    if sum(sizes) != n or min(sizes, default=0) < 0:
        raise ShapeError(f"split: parts of {list(sizes)} do not add up to axis {where} of {x.spec}")
    return (x,), {"sizes": sizes, "axis": where}


def _split(xp: Any, x: Any, *, sizes: tuple, axis: int) -> tuple:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return tuple(x[(slice(None),) * axis + (slice(e - s, e),)] for s, e in zip(sizes, ends, strict=True))


def _draw_split(point: Draw) -> tuple[tuple, dict]:
    x = point.real(point.shape(1))
    axis = int(point.random.integers(x.ndim))
    middle = int(point.random.integers(x.shape[axis] + 1))
    return (x,), {"sizes": (middle, x.shape[axis] - middle), "axis": axis}


split = Primitive(
    "split",
    "y_1, y_2, … = the parts of x along an axis",
    rule=("concat({dys}, {axis})",),
    why=("the errors of the parts, joined again",),
    shape=lambda x, *, sizes, axis: tuple(
        TensorSpec((*x.shape[:axis], s, *x.shape[axis + 1 :]), x.dtype) for s in sizes
    ),
    evaluate=_split,
    pullback=lambda dys, ys, x, sizes, axis: (
        concat([zeros_like(y) if dy is None else dy for dy, y in zip(dys, ys, strict=True)], axis),
    ),
    arguments=_split_arguments,
    draw=_draw_split,
    meaning="sizes: the sizes of the parts, or one number for parts of that size and a smaller last one, as PyTorch.",
    several=True,
)
