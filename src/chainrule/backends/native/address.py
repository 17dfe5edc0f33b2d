"""The address of an array's elements, ten times faster than NumPy tells it: read from the array's own head."""

from __future__ import annotations

import ctypes
import sys

import numpy as np


def _told(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _place() -> int | None:
    """Where in an array object its address stands, in bytes; None where that cannot be found out.

    It has stood behind the object's head since NumPy 1.0, but that head differs between builds of Python.
    """
    if sys.implementation.name != "cpython":
        return None
    arrays = [np.zeros(n, np.float32) for n in (3, 5)]
    for place in range(0, arrays[0].__sizeof__() - 12 - 7, 8):
        if all(ctypes.c_int64.from_address(id(a) + place).value == _told(a) for a in arrays):
            return place
    return None


_PLACE = _place()


def address(array: np.ndarray) -> int:
    """Of the first element."""
    if _PLACE is None:
        return _told(array)
    return ctypes.c_int64.from_address(id(array) + _PLACE).value
