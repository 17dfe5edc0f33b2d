"""How shapes stretch to meet, and how cotangents shrink back."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import DTypeError, ShapeError
from chainrule.graph import OPERATIONS, Tensor, as_array
from chainrule.spec import FLOAT32, INT64, TensorSpec, promote


def meet(name: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape to which all ``shapes`` stretch, by NumPy's rule; ShapeError naming the axis that does not fit."""
    if all(s == shapes[0] for s in shapes):
        return shapes[0]
    rank = max(map(len, shapes))
    result = []
    for axis in range(-rank, 0):
        sizes = {s[axis] for s in shapes if len(s) >= -axis and s[axis] != 1}
        if len(sizes) > 1:
            listed = " and ".join(str(list(s)) for s in shapes)
            raise ShapeError(
                f"{name}: shapes {listed} do not fit: axis {axis} has sizes "
                f"{' and '.join(map(str, sorted(sizes)))}, and neither is 1"
            )
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def unbroadcast(dy: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sum a cotangent over the axes along which a value of ``shape`` was stretched."""
    if dy.shape == shape:
        return dy
    extra = dy.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and dy.shape[i + extra] != 1)
    summed = OPERATIONS["sum"](dy, axes) if axes else dy
    return summed if summed.shape == shape else OPERATIONS["reshape"](summed, shape)


def as_tensor(x: Any, dtype: np.dtype | None = None) -> Tensor:
    """``x`` as a tensor: a Tensor unchanged, a number or array as a constant."""
    if isinstance(x, Tensor):
        return x
    array = as_array(x, dtype)
    return Tensor(TensorSpec(array.shape, array.dtype), array, constant=True)


def as_tensors(name: str, values: tuple) -> tuple[Tensor, ...]:
    """``values`` as tensors of one dtype.

    Python and NumPy scalars are weak: they take the dtype of the tensors they meet (NumPy widens float32 for an
    ``np.float64``), except that a float scalar makes integers float32, and that an integer which their dtype cannot
    hold makes them int64 (NumPy raises OverflowError).
    """
    for v in values:
        if v is None or isinstance(v, str):
            raise DTypeError(f"{name}: got {v!r} where a number or a tensor is needed")
    strong = [v.dtype for v in values if isinstance(v, (Tensor, np.ndarray))]
    weak = [v for v in values if not isinstance(v, (Tensor, np.ndarray))]
    converted = [as_array(v) for v in weak]
    if strong:
        dtype = promote(*(as_tensor_dtype(d) for d in strong))
        if dtype.kind != "f" and any(a.dtype.kind == "f" for a in converted):
            dtype = FLOAT32
        elif dtype.kind != "f" and not all(_fits(a, dtype) for a in converted):
            dtype = INT64
    else:
        dtype = promote(*(a.dtype for a in converted))
    return tuple(cast(as_tensor(v, dtype) if not isinstance(v, Tensor) else v, dtype) for v in values)


def _fits(numbers: np.ndarray, dtype: np.dtype) -> bool:
    if dtype.kind == "b":
        return numbers.dtype.kind == "b"
    limits = np.iinfo(dtype)
    return not numbers.size or bool(limits.min <= numbers.min() and numbers.max() <= limits.max)


def as_tensor_dtype(dtype: np.dtype) -> np.dtype:
    return as_array(np.empty(0, dtype)).dtype


def cast(x: Tensor, dtype: np.dtype) -> Tensor:
    """``x`` in ``dtype``; itself if it is that already."""
    return x if x.dtype == dtype else OPERATIONS["astype"](x, dtype)


def floated(x: Any) -> Tensor:
    """``x`` as a floating-point tensor; integers and booleans become float32."""
    found = as_tensor(x)
    return found if found.spec.floating else cast(found, FLOAT32)


def normalised(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """``axis`` (None: all; an int; or several) as sorted non-negative ints; ShapeError if out of range or repeated."""
    if axis is None:
        return tuple(range(ndim))
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    for a in axes:
        if not -ndim <= a < ndim:
            raise ShapeError(f"{name}: axis {a} is out of range for a tensor of {ndim} axes")
    found = sorted(int(a) % ndim for a in axes)
    if len(set(found)) != len(found):
        raise ShapeError(f"{name}: an axis is named twice in {axes}")
    return tuple(found)
