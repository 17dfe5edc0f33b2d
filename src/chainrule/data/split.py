"""Splitting rows into a training and a validation part: deterministic by seed, stratified by class."""

import numpy as np

from chainrule.data.checks import Array, require_integer, shown
from chainrule.errors import ArgumentError, DataError

_SPLIT_STREAM = 0x73706C6974


def split_rows(rows: int, fraction: float, seed: int, labels: Array | None = None) -> tuple[Array, Array]:
    """(training rows, validation rows), both ascending int64; together each row once.

    fraction  the share of rows for validation, between 0 and 1.
    labels    int64[rows]: then each class is divided in the same proportion; a class of one row stays in training.
    A part that would be empty is refused.
    """
    require_integer(seed, "seed", 0)
    if isinstance(fraction, bool) or not isinstance(fraction, float | int) or not 0 < fraction < 1:
        raise ArgumentError(f"validation is {shown(fraction)}; as a share of the rows it must be between 0 and 1")
    wanted = round(rows * fraction)
    if wanted == 0 or wanted == rows:
        part = "validation" if wanted == 0 else "training"
        raise DataError(
            f"{rows:,} rows split at validation={fraction:g} leave the {part} part empty; "
            "change the share, add rows, or pass validation=None"
        )
    shuffled = np.random.Generator(np.random.Philox(np.random.SeedSequence([int(seed), _SPLIT_STREAM]))).permutation(
        rows
    )
    chosen = shuffled[:wanted] if labels is None else _stratified(shuffled, labels, fraction, wanted)
    held = np.zeros(rows, dtype=bool)
    held[chosen] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _stratified(shuffled: Array, labels: Array, fraction: float, wanted: int) -> Array:
    """`wanted` of the shuffled rows, each class in proportion by largest remainder."""
    _, which = np.unique(labels, return_inverse=True)
    sizes = np.bincount(which)
    # A class never gives its last row away: a network cannot learn what only validation has.
    most = sizes - 1
    share = sizes * fraction
    taken = np.minimum(np.floor(share).astype(np.int64), most)
    by_remainder = np.argsort(-(share - np.floor(share)), kind="stable")
    while taken.sum() < wanted:
        roomy = [c for c in by_remainder if taken[c] < most[c]]
        if not roomy:
            break
        taken[roomy[: wanted - int(taken.sum())]] += 1
    if taken.sum() == 0:
        return shuffled[:wanted]  # every class has one row: nothing to stratify
    in_order = which[shuffled]
    grouped = np.argsort(in_order, kind="stable")
    starts = np.cumsum(sizes) - sizes
    return np.concatenate([shuffled[grouped[s : s + t]] for s, t in zip(starts, taken, strict=True)])
