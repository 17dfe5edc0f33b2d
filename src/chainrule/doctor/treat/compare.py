"""Compare: what replays over seeds prove of a treatment."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

MARGIN = 0.05
"""Share of what a constant prediction leaves open that a treatment must gain to count at all."""

SIGNIFICANT = 0.05
"""Largest share of the divisions of all results in two groups that may gain as much: 1 of 20 for three seeds each."""

FEWEST, MOST = 3, 6
"""Seeds that a proof needs, and after which no more are added at first."""

LATER = (12, 24)
"""Seeds to which it comes where nothing else is left to try: a fault of one seed in four shows in as many."""

STRICT = 0.02
"""Largest p beyond MOST seeds: whoever looks more often must ask for more."""


@dataclass(frozen=True)
class Comparison:
    """Scores with and without a treatment, by seed. p: of an exact permutation test of "the treated are no better"."""

    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def effect(self) -> float:
        """Mean gain in score."""
        return float(np.mean(self.after) - np.mean(self.before))

    @cached_property
    def p(self) -> float:
        """Of up to MOST seeds by all divisions in two groups; of more, where these are too many, seed by seed."""
        if len(self.before) == len(self.after) > MOST:
            return paired_p(self.before, self.after)
        return permutation_p(self.before, self.after)

    @property
    def proven(self) -> bool:
        enough = len(self.before) >= FEWEST and len(self.after) >= FEWEST
        limit = SIGNIFICANT if len(self.after) <= MOST else STRICT
        return enough and self.effect >= MARGIN and self.p <= limit + 1e-9

    @property
    def worse(self) -> bool:
        return self.effect <= -MARGIN

    @property
    def open(self) -> bool:
        """Whether another seed could still prove it: the effect is there and the seeds are too few."""
        n = min(len(self.before), len(self.after))
        if self.proven or self.effect < MARGIN or n >= MOST:
            return False
        # At best every further pair is divided as it should be.
        best = Comparison(
            (*self.before, *[min(self.before)] * (MOST - n)), (*self.after, *[max(self.after)] * (MOST - n))
        )
        return best.proven


def paired_p(before: Sequence[float], after: Sequence[float]) -> float:
    """Share of all exchanges of treated and untreated within seeds whose gain is at least the one observed.

    Exact (Fisher 1935, section 21): for n seeds there are 2^n, counted as pairs of halves.
    """
    gains = np.array(after, np.float64) - np.array(before, np.float64)
    observed = float(gains.sum())
    half = len(gains) // 2
    first, second = (_signed_sums(part) for part in (gains[:half], gains[half:]))
    second.sort()
    least = observed - 1e-9 * max(1.0, abs(observed))
    return float((len(second) - np.searchsorted(second, least - first)).sum()) / 2.0 ** len(gains)


def _signed_sums(values: np.ndarray) -> np.ndarray:
    """The sums of the values under all choices of their signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def permutation_p(before: Sequence[float], after: Sequence[float]) -> float:
    """Share of all divisions of the results, in groups of these sizes, whose gain is at least the one observed.

    Exact (Fisher 1935; Good 2005, section 3.2): for n results each there are C(2n, n) divisions.
    """
    everything = np.array([*after, *before], np.float64)
    size, observed = len(after), float(np.sum(after))
    if not size or not len(before):
        return 1.0
    sums = [float(everything[list(chosen)].sum()) for chosen in itertools.combinations(range(len(everything)), size)]
    return sum(s >= observed - 1e-9 * max(1.0, abs(observed)) for s in sums) / math.comb(len(everything), size)
