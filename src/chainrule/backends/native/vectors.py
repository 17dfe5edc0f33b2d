"""How LLVM spells the element types: vectors of 16 lanes, constants, what memory holds."""

from __future__ import annotations

import math
import struct

import numpy as np

LANES = 16
"""Logical lanes of every vector on every machine; LLVM splits them where registers are narrower."""

_NAMES = {
    "bool": "i1", "uint8": "i8", "int32": "i32", "int64": "i64", "uint32": "i32", "float32": "float",
    "float64": "double",
}  # fmt: skip
ELEMENTS = {np.dtype(name): element for name, element in _NAMES.items()}  # a dtype's name takes NumPy microseconds
SUFFIXES = {"i1": "i1", "i8": "i8", "i32": "i32", "i64": "i64", "float": "f32", "double": "f64"}
BYTES = {"i8": 1, "i32": 4, "i64": 8, "float": 4, "double": 8}
POSITIONS = "<16 x i64>"
MASK = "<16 x i1>"
LANE_NUMBERS = f"<{', '.join(f'i64 {k}' for k in range(LANES))}>"
SMALL_LANE_NUMBERS = LANE_NUMBERS.replace("i64", "i32")
ALL_LANES = "splat (i1 true)"


def element(dtype: np.dtype) -> str:
    """The type of one lane."""
    return ELEMENTS[dtype]


def stored(dtype: np.dtype) -> str:
    """The type of one element in memory: a bool is a byte."""
    return "i8" if dtype.kind == "b" else ELEMENTS[dtype]


def vector(dtype: np.dtype) -> str:
    return f"<{LANES} x {ELEMENTS[dtype]}>"


def suffix(element_type: str) -> str:
    """How intrinsics name a vector of this element type: ``v16f32``."""
    return f"v{LANES}{SUFFIXES[element_type]}"


def hexadecimal(value: float) -> str:
    """A float or double constant, exact. A float's is written as the double of the same value."""
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def literal(dtype: np.dtype, value: float | int | bool) -> str:
    """One element's constant."""
    if dtype.kind == "f":
        return hexadecimal(float(np.asarray(value, dtype)))
    if dtype.kind == "b":
        return "true" if value else "false"
    return str(int(value))


def splat(dtype: np.dtype, value: float | int | bool) -> str:
    """The operand that holds ``value`` in every lane."""
    return f"splat ({element(dtype)} {literal(dtype, value)})"


def start_value(how: str, dtype: np.dtype) -> float | int | bool:
    """What an accumulation holds before its first value."""
    if how in ("sum", "any"):
        return 0 if how == "sum" else False
    if how == "all":
        return True
    if dtype.kind == "f":
        return -math.inf if how == "maximum" else math.inf
    if dtype.kind == "b":
        return how == "minimum"
    limits = np.iinfo(dtype)
    return limits.min if how == "maximum" else limits.max
