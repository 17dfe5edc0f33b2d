"""Checks of what a person hands in: a refusal names the thing, what was found, where, how often, and a remedy."""

import difflib
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError, DataError, DTypeError, ShapeError
from chainrule.spec import is_masked

Array = np.ndarray[Any, Any]

# Below this many bytes nobody is asked how much memory is free.
_SMALL = 64 * 2**20


def shown(value: object, limit: int = 60) -> str:
    """A value for a message: quoted, control and bidirectional characters escaped, never longer than `limit`."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def listed(values: Iterable[object], limit: int = 12) -> str:
    """Some values for a message, and how many more there are."""
    values = list(values)
    more = f", … ({len(values):,} in all)" if len(values) > limit else ""
    return ", ".join(shown(value) for value in values[:limit]) + more


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'digits'?`, or nothing when no known word is close."""
    by_lower = {name.lower(): name for name in known}
    match = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"; did you mean {shown(by_lower[match[0]])}?" if match else ""


def require_choice(value: object, name: str, choices: tuple[object, ...]) -> None:
    """Refuse an argument that is not one of `choices` (True is not 1 here)."""
    if any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices):
        return
    words = [choice for choice in choices if isinstance(choice, str)]
    hint = nearest(value, words) if isinstance(value, str) else ""
    raise ArgumentError(f"{name} is {shown(value)}; it can be {', '.join(repr(c) for c in choices)}{hint}")


def require_integer(value: object, name: str, least: int) -> int:
    """An integer argument of at least `least`; True, 2.5 and '3' are refused."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise ArgumentError(f"{name} is {shown(value)} ({type(value).__name__}); it must be an integer >= {least}")
    if value < least:
        raise ArgumentError(f"{name} is {value}; it must be an integer >= {least}")
    return int(value)


def require_memory(needed: int, what: str) -> None:
    """Refuse before allocating what the machine cannot hold. Where the system does not tell, nothing is refused."""
    if needed < _SMALL:
        return
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return
    if needed > total:
        raise DataError(
            f"{what} needs {needed / 2**30:.1f} GiB of memory; this machine has {total / 2**30:.1f} GiB. "
            "Use fewer rows or columns"
        )


def array_of(value: Any, name: str) -> Array:
    """The NumPy array behind arrays, lists, and tensors of other libraries; nothing is copied when it need not be.

    Refused by name: object, complex, date, structured and extended-precision elements, masked values, sparse matrices,
    ragged lists. Texts and truth values pass (labels may be either); `require_numbers` refuses them for inputs.
    """
    if is_masked(value):
        return _unmasked(value, name)
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise DTypeError(f"{name} is a sparse matrix ({type(value).__name__}); pass {name}.toarray()")
    array = np.asarray(value) if isinstance(value, np.ndarray) else _converted(value, name)
    _require_plain(array, name)
    if array.ndim == 0:
        raise ShapeError(f"{name} is a single value ({shown(value)}); it needs one entry a row")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def require_numbers(array: Array, name: str) -> None:
    """Refuse texts where numbers are needed."""
    if array.dtype.kind in "US":
        raise DTypeError(
            f"{name} holds text ({array.dtype}; first {shown(array.flat[0].item())}); inputs are numbers: "
            f"convert with {name}.astype(float), or pass a dataframe, whose text columns become one-hot"
        )


def require_rows(array: Array, name: str) -> None:
    """Refuse an array without rows or with rows of nothing."""
    if array.shape[0] == 0:
        raise DataError(f"{name} is empty: its shape is {array.shape}; there is nothing to learn from")
    if array.size == 0:
        raise ShapeError(f"{name} has {array.shape[0]} rows but no columns: its shape is {array.shape}")


def require_same_rows(x: Array, y: Array, names: tuple[str, str] = ("x", "y")) -> None:
    """Refuse inputs and targets of different length."""
    if len(x) != len(y):
        raise ShapeError(
            f"{names[0]} has {len(x):,} rows and {names[1]} has {len(y):,} "
            f"(shapes {x.shape} and {y.shape}); each row needs its target"
        )


def require_finite(array: Array, name: str, remedy: str = "") -> None:
    """Refuse NaN and infinity: how many, in how many columns, and where first."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    bad = ~np.isfinite(array)
    found = [
        f"{count:,} {word}" for word, count in (("NaN", np.isnan(array).sum()), ("Inf", np.isinf(array).sum())) if count
    ]
    columns = f" in {int(bad.reshape(len(array), -1).any(axis=0).sum()):,} columns" if array.ndim > 1 else ""
    raise DataError(
        f"{name} has {' and '.join(found)}{columns} (first: {position(bad)})"
        + (remedy or "; remove these rows or replace the values")
    )


def position(bad: Array) -> str:
    """Where the first True is, in words: `row 3, column 5` (both count from 0), or `row 3, at (1, 2)`."""
    row, *inner = (int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
    if not inner:
        return f"row {row}"
    return f"row {row}, column {inner[0]}" if len(inner) == 1 else f"row {row}, at {tuple(inner)}"


def as_floats(array: Array, name: str, dtype: str = "float32") -> Array:
    """The numbers as `dtype`; NaN and infinity are refused, and so is a finite number that this type cannot hold."""
    require_finite(array, name)
    with np.errstate(over="ignore"):
        cast = array.astype(dtype, copy=False)
    if array.dtype != cast.dtype and not np.isfinite(cast).all():
        bad = ~np.isfinite(cast)
        value = array.flat[int(np.argmax(bad))]
        raise DataError(
            f"{name} has {int(bad.sum()):,} values too large for {dtype} (first: {value} at {position(bad)}; "
            "the largest "
            f"is {np.finfo(dtype).max:.3g}); rescale them, for example with standardise=True"
        )
    return cast


def _unmasked(value: "np.ma.MaskedArray[Any, Any]", name: str) -> Array:
    mask = np.ma.getmaskarray(value)
    if mask.any():
        raise DataError(
            f"{name} is a masked array with {int(mask.sum()):,} masked values (first: {position(mask)}); "
            f"fill them with {name}.filled(...) or drop these rows"
        )
    return array_of(value.data, name)


def _converted(value: Any, name: str) -> Array:
    """A list, or another library's tensor (through `.detach()` and `.numpy()`), as an array."""
    if hasattr(value, "numpy") and callable(value.numpy):
        try:
            value = value.detach().cpu() if hasattr(value, "detach") and hasattr(value, "cpu") else value
            return np.asarray(value.numpy())
        except (TypeError, RuntimeError, ValueError) as error:
            raise DTypeError(f"{name}: {type(value).__name__}.numpy() failed: {error}") from error
    if isinstance(value, str | bytes) or not (hasattr(value, "__len__") or hasattr(value, "__array__")):
        raise DTypeError(f"{name} is {shown(value)} ({type(value).__name__}); pass an array or a list of rows")
    if isinstance(value, set | frozenset | dict):
        raise DTypeError(f"{name} is a {type(value).__name__}, which has no order of rows; pass a list or an array")
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name} is ragged: {_ragged(value) or error}; every row needs the same length") from error


def _ragged(value: Any) -> str:
    lengths = [len(row) if hasattr(row, "__len__") else None for row in value]
    for row, length in enumerate(lengths):
        if length != lengths[0]:
            had = "is a single value" if length is None else f"has {length} values"
            return f"row {row} {had}, row 0 " + (
                "is a single value" if lengths[0] is None else f"has {lengths[0]} values"
            )
    return ""


def _require_plain(array: Array, name: str) -> None:
    kind, remedy = array.dtype.kind, ""
    if array.dtype.names:
        found, remedy = "is a structured array", f"pass its fields as columns of a dataframe, or {name}['field']"
    elif kind == "O":
        found = f"holds Python objects (first {shown(array.flat[0])})" if array.size else "holds Python objects"
        remedy = f"convert with {name}.astype(float), or {name}.astype(str) for labels"
    elif kind == "c":
        found, remedy = "is complex", f"pass {name}.real and {name}.imag as columns"
    elif kind in "mM":
        found, remedy = "holds dates or durations", "turn them into numbers, for example days since the first"
    elif kind == "V":
        found, remedy = "holds raw bytes", f"read it with the type it was written with: {name}.view(...)"
    elif kind == "f" and array.dtype.itemsize > 8:
        found, remedy = "has extended precision", f'convert with {name}.astype("float64")'
    elif kind == "f" and array.dtype.itemsize == 1:
        found, remedy = "has 8-bit floats", f'convert with {name}.astype("float32")'
    else:
        return
    raise DTypeError(f"{name} {found} (dtype {array.dtype}); {remedy}")
