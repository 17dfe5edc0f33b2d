"""Where the code of matrix products lies: for each dtype a table of addresses, which that code reads itself."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import numpy as np

PLACES = 32
"""Of a table: enough for every way and tile."""


@functools.cache
def places_of(dtype: str) -> np.ndarray:
    """The table of a dtype, one for the process; 0 where a function was not needed yet."""
    return np.zeros(PLACES, np.int64)


def fill(places: Iterable[tuple[str, str, int]], addresses: Mapping[str, int]) -> None:
    """places: (dtype, function, its place)."""
    for dtype, name, place in places:
        places_of(dtype)[place] = addresses[name]
