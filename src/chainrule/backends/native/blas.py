"""OpenBLAS: a copy of our own from its wheel, set to one thread, known to machine code by the names of its routines."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

from chainrule.errors import MissingDependencyError

SYMBOLS = {"chainrule_sgemm": "scipy_cblas_sgemm64_", "chainrule_dgemm": "scipy_cblas_dgemm64_"}
"""The name that machine code uses -> the name in the library (64-bit sizes)."""


class Blas(NamedTuple):
    """A loaded OpenBLAS. kernel: the processor family whose routines run; addresses: routine name -> address."""

    version: str
    kernel: str
    addresses: dict[str, int]


@functools.cache
def blas() -> Blas:
    """Load OpenBLAS, once a process.

    It is another file than NumPy's, opened with names of its own, so NumPy keeps its threads. Our copy makes none:
    the threads are ours, and each calls it on blocks of its own.

    MissingDependencyError: the wheel is not installed.
    """
    library = _opened(_library_path())
    library.scipy_openblas_get_config64_.restype = ctypes.c_char_p
    library.scipy_openblas_get_corename64_.restype = ctypes.c_char_p
    library.scipy_openblas_set_num_threads64_(1)
    addresses = {name: ctypes.cast(library[routine], ctypes.c_void_p).value or 0 for name, routine in SYMBOLS.items()}
    return Blas(
        library.scipy_openblas_get_config64_().decode().strip(),
        library.scipy_openblas_get_corename64_().decode(),
        addresses,
    )


def _library_path() -> Path:
    # The package is found, not imported: importing it takes longer than opening the library.
    spec = importlib.util.find_spec("scipy_openblas64")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(
            "the native backend needs OpenBLAS, but the package scipy-openblas64 is not installed. Run: pip install "
            "'scipy-openblas64>=0.3.29', or use backend='reference'."
        )
    folder = Path(spec.submodule_search_locations[0]) / "lib"
    found = sorted(p for p in folder.glob("*openblas64*") if p.suffix in (".so", ".dylib", ".dll"))
    if not found:
        raise MissingDependencyError(
            f"the package scipy-openblas64 has no shared library in {str(folder)!r}. Install it anew: pip install "
            "--force-reinstall 'scipy-openblas64>=0.3.29', or use backend='reference'."
        )
    return found[0]


def _opened(path: Path) -> ctypes.CDLL:
    # OpenBLAS starts its threads while it is being opened, so the number has to be known before.
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        return ctypes.CDLL(str(path))
    finally:
        if before is None:
            del os.environ["OPENBLAS_NUM_THREADS"]
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = before
