"""NumPy's own threads: at rest while it works for a moment between steps of machine code."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PREFIXES, SUFFIXES = ("scipy_openblas", "openblas"), ("64_", "")
"""Of the names of OpenBLAS's functions, which differ from build to build."""


@contextmanager
def one_numpy_thread() -> Iterator[None]:
    """A block in which NumPy's matrix products use this thread alone, if its BLAS is an OpenBLAS.

    The threads of an OpenBLAS look for more work for 25 ms after a product, on the cores that the threads of machine
    code need.
    """
    found = _openblas()
    if found is None:
        yield
        return
    count, limit = found
    before = count()
    limit(1)
    try:
        yield
    finally:
        limit(before)


@functools.cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], Any]] | None:
    """(how many threads it uses, what changes that)"""
    spec = importlib.util.find_spec("numpy._core._multiarray_umath")
    if spec is None or spec.origin is None:
        return None
    library = ctypes.CDLL(spec.origin)  # open already; names are looked up in what it depends on, too
    for prefix in PREFIXES:
        for suffix in SUFFIXES:
            names = (f"{prefix}_get_num_threads{suffix}", f"{prefix}_set_num_threads{suffix}")
            if all(hasattr(library, name) for name in names):
                return library[names[0]], library[names[1]]
    return None
