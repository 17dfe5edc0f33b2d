"""Reading and adding at positions: integer indices, gather, scatter-add, sort, one-hot."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError, DataError, DTypeError, ShapeError
from chainrule.graph import Draw, Primitive, Tensor, operation
from chainrule.ops.broadcasting import as_tensor, cast, meet, normalised
from chainrule.ops.elementwise import equal, greater_equal, less, logical_and, where
from chainrule.ops.movement import broadcast_to, flip, permute_dims, reshape, slice_
from chainrule.spec import FLOAT32, INT64, TensorSpec, as_dtype


def _checked_rows(indices: Any, n: int, name: str) -> Any:
    """Eager only: every index inside [0, n), or an error with the first one that is not."""
    if isinstance(indices, np.ndarray) and indices.size and (indices.min() < 0 or indices.max() >= n):
        bad = np.argwhere((indices < 0) | (indices >= n))
        first = tuple(int(i) for i in bad[0])
        raise DataError(
            f"{name}: index {indices[first]} at position {list(first)} is outside an axis of {n} "
            f"({len(bad)} of {indices.size} are)"
        )
    return indices


def _integer(name: str, indices: Any) -> Tensor:
    found = as_tensor(indices)
    if found.size == 0 and found.array is not None and not isinstance(indices, Tensor):
        found = cast(found, INT64)
    if found.dtype.kind not in "iu":
        raise DTypeError(f"{name}: indices must be integers, got {found.spec}")
    return cast(found, INT64)


def _gather_arguments(x: Any, indices: Any) -> tuple[tuple, dict]:
    x = as_tensor(x)
    if x.ndim == 0:
        raise ShapeError("gather: a 0-d tensor has no rows")
    return (x, _integer("gather", indices)), {}


def _draw_gather(point: Draw) -> tuple[tuple, dict]:
    x = point.real((point.size(1) or 1, *point.shape(0, 2)))
    return (x, point.integers(point.shape(0, 2), 0, x.shape[0])), {}


gather = Primitive(
    "gather",
    "y[i, …] = x[index[i], …]",
    written="{0}[{1}]",
    rule=("add_rows({1}, {dy})", ""),
    shape=lambda x, i: TensorSpec(i.shape + x.shape[1:], x.dtype),
    evaluate=lambda xp, x, i: xp.take(x, _checked_rows(i, x.shape[0], "gather"), axis=0),
    pullback=lambda dy, y, x, i: (scatter_add(i, dy, rows=x.shape[0]), None),
    arguments=_gather_arguments,
    draw=_draw_gather,
    meaning="Rows of x at non-negative positions, in any shape of positions.",
    why=("the errors of all readers added up in the row that they read",),
)


def _scatter_arguments(indices: Any, updates: Any, rows: int) -> tuple[tuple, dict]:
    return (_integer("scatter_add", indices), as_tensor(updates)), {"rows": int(rows)}


def _scatter_shape(i: TensorSpec, updates: TensorSpec, *, rows: int) -> TensorSpec:
    if updates.shape[: i.ndim] != i.shape:
        raise ShapeError(f"scatter_add: updates {updates} must begin with the indices' shape {list(i.shape)}")
    return TensorSpec((rows, *updates.shape[i.ndim :]), updates.dtype)


def _scatter(xp: Any, i: Any, updates: Any, *, rows: int) -> Any:
    flat, rest = math.prod(i.shape), updates.shape[i.ndim :]
    return xp.scatter_add(
        (rows, *rest), _checked_rows(xp.reshape(i, (flat,)), rows, "scatter_add"), xp.reshape(updates, (flat, *rest))
    )


def _draw_scatter(point: Draw) -> tuple[tuple, dict]:
    rows, shape = point.size(1) or 1, point.shape(0, 2)
    return (point.integers(shape, 0, rows), point.real((*shape, *point.shape(0, 1)))), {"rows": rows}


scatter_add: Primitive = Primitive(
    "scatter_add",
    "y = 0, then y[index[i], …] += u[i, …]",
    written="add_rows({0}, {1})",
    rule=("", "{dy}[{0}]"),
    shape=_scatter_shape,
    evaluate=_scatter,
    pullback=lambda dy, y, i, updates, rows: (None, gather(dy, i)),
    arguments=_scatter_arguments,
    draw=_draw_scatter,
    meaning="Additions to one row happen in the order of the updates, so that the sum's bits are always the same.",
    why=("", "the error of the row it was added to"),
)


@operation
def wrapped(indices: Any, n: int) -> Tensor:
    """Indices into an axis of n with negative ones counted from the end."""
    i = _integer("index", indices)
    if i.array is not None and i.size and i.array.min() >= 0:
        return i
    return where(less(i, 0), i + n, i)


@operation
def take(x: Any, indices: Any, axis: int = 0) -> Tensor:
    """Entries of x at integer ``indices`` along ``axis``; negative ones count from the end."""
    x = as_tensor(x)
    (a,) = normalised("take", axis, x.ndim)
    i = wrapped(indices, x.shape[a])
    rows = gather(permute_dims(x, (a, *(k for k in range(x.ndim) if k != a))), i)
    return permute_dims(rows, (*range(i.ndim, i.ndim + a), *range(i.ndim), *range(i.ndim + a, rows.ndim)))


@operation
def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Tensor:
    """y[…, k, …] = x[…, index[…, k, …], …]: one position an entry, along one axis."""
    x, i = as_tensor(x), _integer("take_along_axis", indices)
    (a,) = normalised("take_along_axis", axis, x.ndim)
    if i.ndim != x.ndim:
        raise ShapeError(f"take_along_axis: indices {i.spec} must have the {x.ndim} axes of {x.spec}")
    shape = meet("take_along_axis", (*x.shape[:a], 1, *x.shape[a + 1 :]), i.shape)
    return gather(reshape(x, (-1,)) if x.size else reshape(x, (0,)), _flat_positions(i, x.shape, a, shape))


def _flat_positions(i: Tensor, whole: tuple[int, ...], axis: int, shape: tuple[int, ...]) -> Tensor:
    strides = [math.prod(whole[k + 1 :]) for k in range(len(whole))]
    base = np.zeros((1,) * len(whole), np.int64)
    for k, n in enumerate(shape):
        if k != axis:
            base = base + np.arange(n).reshape((-1,) + (1,) * (len(whole) - k - 1)) * strides[k]
    n = whole[axis]
    flat = wrapped(i, n) * strides[axis] + base
    if i.array is not None:
        return flat
    # A traced index is not known yet: one outside its own axis must not land in the next row.
    return where(logical_and(less(i, n), greater_equal(i, -n)), flat, -1)


@operation
def one_hot(indices: Any, num_classes: int, dtype: Any = FLOAT32) -> Tensor:
    """1 at the position that an index names and 0 elsewhere: [...] -> [..., num_classes]."""
    i = _integer("one_hot", indices)
    return cast(equal(reshape(i, (*i.shape, 1)), np.arange(num_classes)), as_dtype(dtype))


# ------------------------------------------------------------------------------------------------ sort


def _sort_arguments(x: Any, axis: int = -1, descending: bool = False) -> tuple[tuple, dict]:
    x = as_tensor(x)
    if x.ndim == 0:
        raise ShapeError("sort: a 0-d tensor has no axis")
    return (x,), {"axis": normalised("sort", axis, x.ndim)[0], "descending": bool(descending)}


def _sort(xp: Any, x: Any, *, axis: int, descending: bool) -> tuple:
    if descending:
        order = xp.flip(xp.argsort(xp.flip(x, axis=axis), axis=axis, stable=True), axis=axis)
        order = x.shape[axis] - 1 - order
    else:
        order = xp.argsort(x, axis=axis, stable=True)
    return xp.take_along_axis(x, order, axis=axis), order


def _sort_pullback(dys: tuple, ys: tuple, x: Tensor, axis: int, descending: bool) -> tuple:
    if dys[0] is None:
        return (None,)
    positions = _flat_positions(ys[1], x.shape, axis, x.shape)
    return (reshape(scatter_add(positions, dys[0], rows=x.size), x.shape),)


def _draw_sort(point: Draw) -> tuple[tuple, dict]:
    x = point.real(point.shape(1), distinct=True)
    return (x,), {"axis": int(point.random.integers(x.ndim)), "descending": point.flag()}


sort = Primitive(
    "sort",
    "y = x in order along an axis, and the positions that each came from",
    rule=("unsort({dy})",),
    shape=lambda x, *, axis, descending: (x, TensorSpec(x.shape, INT64)),
    evaluate=_sort,
    pullback=_sort_pullback,
    arguments=_sort_arguments,
    draw=_draw_sort,
    convention="Equal elements keep their order (a stable sort).",
    why=("each error back to the position that its value came from",),
    several=True,
)


@operation
def argsort(x: Any, axis: int = -1, descending: bool = False) -> Tensor:
    """Positions that put x in order along an axis."""
    return sort(x, axis, descending)[1]


# ------------------------------------------------------------------------------------------------ x[...]


@operation
def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index]: integers, slices, None, ..., integer arrays; boolean arrays when eager. NumPy's rules."""
    entries = index if isinstance(index, tuple) else (index,)
    entries = _with_ellipsis(x, entries)
    if any(_is_boolean(e) for e in entries):
        entries = _positions_for_booleans(x, entries)
    if any(isinstance(e, (Tensor, np.ndarray, list)) for e in entries):
        # NumPy's rule: beside arrays a number counts as one more array, which decides where their axes go.
        entries = tuple(
            _within(x, entries, k) if isinstance(e, (int, np.integer)) else e for k, e in enumerate(entries)
        )
    cuts: list[tuple[int, int, int]] = []
    flips: list[int] = []
    shape: list[int] = []
    arrays: list[tuple[int, Tensor]] = []
    adjacent, last_array = True, -1
    axis = 0
    for place, entry in enumerate(entries):
        if entry is None:
            shape.append(1)
            continue
        n = x.shape[axis]
        if isinstance(entry, slice):
            a, b, s = entry.indices(n)
            if s < 0:
                count = max(0, -(-(a - b) // -s))
                a, b, s = n - 1 - a, n - 1 - a + count * -s, -s
                b = min(b, n) if count else a
                flips.append(axis)
            cuts.append((a, max(a, b), s))
            shape.append(-(-(max(a, b) - a) // s))
        elif isinstance(entry, (int, np.integer)):
            if not -n <= entry < n:
                raise ShapeError(f"index {entry} is outside axis {axis} of {x.spec}")
            cuts.append((int(entry) % n, int(entry) % n + 1, 1))
        else:
            cuts.append((0, n, 1))
            adjacent = adjacent and (not arrays or place == last_array + 1)
            arrays.append((len(shape), wrapped(entry, n)))
            last_array = place
            shape.append(n)
        axis += 1
    if flips:
        x = flip(x, tuple(flips))
    if cuts != [(0, n, 1) for n in x.shape]:
        x = slice_(x, *zip(*cuts, strict=True))
    x = reshape(x, tuple(shape)) if tuple(shape) != x.shape else x
    return _at_arrays(x, arrays, adjacent) if arrays else x


def _within(x: Tensor, entries: tuple, place: int) -> np.ndarray:
    """The number at ``place`` of an index as an array, inside its axis."""
    axis = sum(e is not None for e in entries[:place])
    if not -x.shape[axis] <= entries[place] < x.shape[axis]:
        raise ShapeError(f"index {entries[place]} is outside axis {axis} of {x.spec}")
    return np.asarray(entries[place], np.int64)


def _with_ellipsis(x: Tensor, entries: tuple) -> tuple:
    used = 0
    for e in entries:
        if _is_boolean(e):
            used += as_tensor(e).ndim
        elif e is not None and e is not Ellipsis:
            used += 1
    dots = [i for i, e in enumerate(entries) if e is Ellipsis]
    if used > x.ndim or len(dots) > 1:
        raise ShapeError(
            f"too many indices for {x.spec}: {used} and {len(dots)} ellipses"
            if used <= x.ndim
            else f"too many indices for {x.spec}: got {used}"
        )
    whole = (slice(None),) * (x.ndim - used)
    at = dots[0] if dots else len(entries)
    return (*entries[:at], *whole, *entries[at + 1 :])


def _is_boolean(entry: Any) -> bool:
    if isinstance(entry, bool):
        raise ArgumentError("a bare True or False is not an index: use where() to choose")
    if isinstance(entry, (Tensor, np.ndarray)):
        if entry.dtype.kind == "b" and entry.ndim == 0:
            raise ArgumentError("a single True or False is not an index: use where() to choose")
        return entry.dtype.kind == "b"
    return isinstance(entry, list) and bool(entry) and isinstance(entry[0], bool)


def _positions_for_booleans(x: Tensor, entries: tuple) -> tuple:
    expanded: list[Any] = []
    axis = 0
    for e in entries:
        if _is_boolean(e):
            mask = as_tensor(e)
            held = mask.value("boolean indexing (a result whose size depends on data)")
            if held.shape != x.shape[axis : axis + mask.ndim]:
                raise ShapeError(f"a boolean index of shape {list(held.shape)} does not fit {x.spec} at axis {axis}")
            expanded.extend(np.nonzero(held))
            axis += mask.ndim
        else:
            expanded.append(e)
            axis += e is not None
    return tuple(expanded)


def _at_arrays(x: Tensor, arrays: list[tuple[int, Tensor]], adjacent: bool) -> Tensor:
    """Advanced indexing with the positions of several axes, which move together."""
    axes = [a for a, _ in arrays]
    shape = meet("index", *(i.shape for _, i in arrays))
    flat: Any = 0
    for k, (a, i) in enumerate(arrays):
        flat = flat + i * math.prod(x.shape[b] for b in axes[k + 1 :])
        if i.array is not None:
            _checked_rows(i.array, x.shape[a], f"index of axis {a}")
    rest = [a for a in range(x.ndim) if a not in axes]
    merged = permute_dims(x, (*axes, *rest))
    rows = math.prod(x.shape[a] for a in axes)
    merged = reshape(merged, (rows, *(x.shape[a] for a in rest)))
    result = gather(merged, broadcast_to(flat, shape))
    if not adjacent or axes[0] == 0:
        return result
    before = len([a for a in rest if a < axes[0]])
    k = len(shape)
    return permute_dims(result, (*range(k, k + before), *range(k), *range(k + before, result.ndim)))
