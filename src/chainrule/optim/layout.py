"""Where each parameter lies in the flat vectors that an update works on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LANES = 16
"""Each parameter starts at a multiple of this many elements, so that vectors never straddle two of them."""


def places(sizes: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """(where each parameter of these sizes begins, length of the whole vector)."""
    padded = [-(-n // LANES) * LANES for n in sizes]
    return tuple(int(o) for o in np.cumsum([0, *padded])[:-1]), sum(padded)
