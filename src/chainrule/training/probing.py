"""Probing: in which updates of a run the layers are measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError
from chainrule.nn import Module

CHOICES = ("sampled", "every", None)

SHARE = 0.005
"""Of the time of the updates that samples may take: half of what is promised, as it is reckoned from shapes alone."""

OPERATIONS_A_SECOND = 2.5e11
"""What two cores do; on slower ones updates take longer and could be measured more often than they are."""

SECONDS_AN_UPDATE = 2e-5
"""What the smallest update takes."""

PROBED, BESIDE, A_LAYER = 0.2, 2.5e-4, 5e-5
"""What a measured update takes more: this share of one (its code and memory are not in the caches), seconds, and
seconds a layer. With 784-256-128-10 and 128 rows 0.4 to 0.7 ms were seen."""

BUILDING = 0.1
"""Seconds a layer until compiled probes are ready where no machine code is kept: they may take as much as samples."""

BY_REFERENCE, A_LAYER_BY_REFERENCE = 8.0, 1e-3
"""What the reference takes to measure one: so many updates, and seconds a layer. With 784-256-128-10 and 128 rows 7 to
9 ms were seen."""


@dataclass(frozen=True)
class ProbeRate:
    """Every so many updates are measured; 0: none."""

    every: int
    compiled: bool = True
    """Whether the step is compiled with probes; else the reference measures beside it."""
    epoch: int = 0
    """Updates of one; 0 if nobody knows."""

    @property
    def all(self) -> bool:
        return self.every == 1

    def due(self, step: int, last: bool, final: bool) -> bool:
        """Whether the update after ``step`` others is measured. last: of its epoch; final: of the run."""
        if not self.every:
            return False
        since = step % self.every
        # The last of an epoch too, unless one shortly before it has told the same: at most one in between.
        return final or since == 0 or (last and 2 * since >= self.every > 2 * (since - self.epoch))


def checked_probes(given: Any) -> str | None:
    """ArgumentError unless it is one of the choices."""
    if given not in CHOICES or isinstance(given, bool):
        raise ArgumentError(f"probes is 'sampled', 'every' or None, got {given!r}")
    return given


def rate_of(probes: str | None, net: Module, x: np.ndarray, epochs: int, epoch: int) -> ProbeRate:
    """How often a run measures. x: a batch; epochs: planned; epoch: updates of one, 0 if nobody knows.

    Reckoned from shapes, so that a resumed run measures the same updates.
    """
    if probes is None:
        return ProbeRate(0)
    if probes == "every":
        return ProbeRate(1)
    weights = sum(p.size for p in net.parameters())
    layers = sum(p.ndim > 1 for p in net.parameters())
    seconds = SECONDS_AN_UPDATE + 6 * max(len(x), 1) * weights / OPERATIONS_A_SECOND
    compiled = BUILDING * layers <= SHARE * epochs * epoch * seconds
    extra = PROBED * seconds + BESIDE + A_LAYER * layers
    if not compiled:
        extra = BY_REFERENCE * seconds + A_LAYER_BY_REFERENCE * layers
    every = math.ceil(extra / (SHARE * seconds))
    # Short epochs have one more measurement between two.
    return ProbeRate(2 * every if epoch < every else every, compiled, epoch)
