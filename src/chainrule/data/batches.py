"""The order of rows in an epoch and their division into batches: pure functions of seed, epoch and size."""

import warnings

import numpy as np

from chainrule.data.checks import Array, require_integer
from chainrule.errors import ChainruleWarning

# Keeps the epochs' orders apart from the split's choice of rows under the same seed.
_ORDER_STREAM = 0x6F72646572


def permutation(rows: int, seed: int, epoch: int) -> Array:
    """The order in which an epoch visits `rows` rows: int64[rows], each row once.

    A pure function of its arguments, so that a resumed run visits the rows an unbroken one would. The generator is
    Philox (Salmon et al. 2011, counter-based), keyed by seed and epoch through NumPy's SeedSequence.
    """
    require_integer(rows, "rows", 1)
    require_integer(seed, "seed", 0)
    require_integer(epoch, "epoch", 0)
    key = np.random.SeedSequence([int(seed), int(epoch), _ORDER_STREAM])
    return np.random.Generator(np.random.Philox(key)).permutation(rows).astype(np.int64, copy=False)


def batch_slices(rows: int, batch_size: int, drop_last: bool = False) -> list[slice]:
    """The batches of an epoch as slices of its order. The last one is smaller where `batch_size` does not divide
    `rows`; it is kept unless `drop_last` (and then only if another batch remains)."""
    require_integer(rows, "rows", 1)
    require_integer(batch_size, "batch_size", 1)
    if batch_size > rows:
        warnings.warn(
            ChainruleWarning(f"batch_size {batch_size:,} is more than the {rows:,} rows: each epoch is one batch"),
            stacklevel=2,
        )
        return [slice(0, rows)]
    stop = rows - rows % batch_size if drop_last else rows
    return [slice(start, min(start + batch_size, rows)) for start in range(0, stop, batch_size)]
