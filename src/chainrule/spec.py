"""What is known about a tensor before it has a value: shape and dtype."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np

from chainrule.errors import DTypeError

BOOL = np.dtype("bool")
INT32 = np.dtype("int32")
INT64 = np.dtype("int64")
UINT32 = np.dtype("uint32")
FLOAT32 = np.dtype("float32")
FLOAT64 = np.dtype("float64")

DTYPES = {d.name: d for d in (BOOL, np.dtype("uint8"), INT32, INT64, UINT32, FLOAT32, FLOAT64)}
"""Every element type a tensor can have, by name."""
_KNOWN = {d: d for d in DTYPES.values()}


def is_masked(value: object) -> bool:
    """Whether it is a masked array. Without asking NumPy for them, which takes 25 ms to load what makes them."""
    masked = sys.modules.get("numpy.ma")
    return masked is not None and isinstance(value, masked.MaskedArray)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and element type of a value."""

    shape: tuple[int, ...]
    dtype: np.dtype = FLOAT32

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def floating(self) -> bool:
        return self.dtype.kind == "f"

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join(map(str, self.shape))}]"


def as_dtype(dtype: object) -> np.dtype:
    """The dtype that a name, NumPy dtype or NumPy scalar type stands for; DTypeError if tensors cannot hold it."""
    if isinstance(dtype, np.dtype) and dtype in _KNOWN:  # NumPy makes a dtype's name anew each time, which is slow
        return _KNOWN[dtype]
    try:
        found = np.dtype(dtype).newbyteorder("=")  # type: ignore[call-overload]
    except TypeError:
        found = None
    if found is None or found.name not in DTYPES:
        raise DTypeError(f"dtype {dtype!r} is not one that tensors can have: use one of {', '.join(DTYPES)}")
    return DTYPES[found.name]


@cache
def promote(*dtypes: np.dtype) -> np.dtype:
    """The dtype in which values of these dtypes meet.

    NumPy's rule, with one difference: an integer never widens a float, so int64 with float32 gives float32 (NumPy
    gives float64). Widening would double the memory of a network because its labels are integers.
    """
    floats = [d for d in dtypes if d.kind == "f"]
    return as_dtype(np.result_type(*(floats or dtypes)))
