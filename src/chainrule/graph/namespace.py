"""The array namespace of the reference: NumPy, and the few functions that the array API standard lacks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_erf = np.frompyfunc(math.erf, 1, 1)


class NumpyNamespace:
    """NumPy under the names of the array API standard, plus this project's closed extension of it."""

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        setattr(self, name, function)
        return function

    @staticmethod
    def erf(x: np.ndarray) -> np.ndarray:
        """The error function, by the C library: exact to an ulp of float64, one element at a time."""
        return np.asarray(_erf(np.asarray(x, np.float64)), np.float64).astype(np.asarray(x).dtype)

    @staticmethod
    def scatter_add(shape: tuple[int, ...], indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        """Zeros of ``shape``, with ``updates[k]`` added at row ``indices[k]`` of the first axis, in order of k."""
        result = np.zeros(shape, np.asarray(updates).dtype)
        np.add.at(result, indices, updates)
        return result

    @staticmethod
    def windows(x: np.ndarray, sizes: tuple, strides: tuple, dilations: tuple) -> np.ndarray:
        """y[..., i, j, k, l] = x[..., i s + k d, j s' + l d'], over as many of the last axes as there are sizes."""
        axes = tuple(range(x.ndim - len(sizes), x.ndim))
        reach = tuple((k - 1) * d + 1 for k, d in zip(sizes, dilations, strict=True))
        every = np.lib.stride_tricks.sliding_window_view(x, reach, axes)
        steps: tuple[Any, ...] = tuple(slice(None, None, step) for step in (*strides, *dilations))
        return every[(..., *steps)].copy()

    @staticmethod
    def windows_add(y: np.ndarray, shape: tuple, strides: tuple, dilations: tuple) -> np.ndarray:
        """Zeros of ``shape`` on the last axes, with the windows ``y`` added where ``windows`` cuts them out."""
        axes = len(shape)
        counts, sizes = y.shape[y.ndim - 2 * axes : y.ndim - axes], y.shape[y.ndim - axes :]
        result = np.zeros((*y.shape[: y.ndim - 2 * axes], *shape), y.dtype)
        for offset in np.ndindex(*sizes):
            first = tuple(k * d for k, d in zip(offset, dilations, strict=True))
            places: tuple[Any, ...] = tuple(
                slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(first, counts, strides, strict=True)
            )
            part: tuple[Any, ...] = (..., *offset)
            result[(..., *places)] += y[part]
        return result

    @staticmethod
    def power(x: np.ndarray, y: Any) -> np.ndarray:
        return np.power(x, y)

    @staticmethod
    def counter_bits(counters: tuple, key: tuple) -> np.ndarray:
        """Philox-4x32-10: four counter words and two key words (uint32 arrays) -> uint32[2, ...], two random words.

        Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.
        """
        c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in np.broadcast_arrays(*counters))
        k0, k1 = (np.asarray(k, np.uint64) for k in key)
        low, word = np.uint64(0xFFFFFFFF), np.uint64(32)
        for _ in range(10):
            a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
            c0, c1, c2, c3 = (b >> word) ^ c1 ^ k0, b & low, (a >> word) ^ c3 ^ k1, a & low
            k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
        return np.stack([c0, c1]).astype(np.uint32)


NUMPY = NumpyNamespace()
