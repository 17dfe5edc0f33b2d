"""Memory between two pages that may be neither read nor written: what leaves an array there ends the process."""

import ctypes
import mmap

import numpy as np
import pytest

PAGE = mmap.PAGESIZE

needs_mprotect = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None) if hasattr(mmap, "PROT_READ") else object(), "mprotect"), reason="no mprotect"
)

SIZES = (*range(68), *(n + d for n in (128, 256, 512, 1024) for d in (-1, 0, 1)))
"""From nothing to a few vectors, and around powers of two."""


class Guarded:
    """So many bytes, in whole pages between two guards."""

    def __init__(self, size: int) -> None:
        inside = -(-max(size, 1) // PAGE) * PAGE
        self.map = mmap.mmap(-1, inside + 2 * PAGE)
        self.first = ctypes.addressof(ctypes.c_char.from_buffer(self.map)) + PAGE
        self.end = self.first + inside
        libc = ctypes.CDLL(None, use_errno=True)
        for address in (self.first - PAGE, self.end):
            assert libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), 0) == 0

    def array(self, n: int, dtype: np.dtype, at_end: bool) -> np.ndarray:
        """n elements whose last byte is the last between the guards, or whose first is the first."""
        start = self.end - n * dtype.itemsize if at_end else self.first
        return np.frombuffer((ctypes.c_char * (n * dtype.itemsize)).from_address(start), dtype)
