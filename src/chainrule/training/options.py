"""Options: what a step does beside loss, gradient and update."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError
from chainrule.optim import Clip


@dataclass(frozen=True)
class StepOptions:
    """What a step does beside loss, gradient and update."""

    clip: Clip = field(default_factory=Clip)
    l1: float = 0.0
    l2: float = 0.0


def checked_options(clip_norm: Any, clip_value: Any, l1: Any, l2: Any) -> StepOptions:
    """The options of a step; ArgumentError for a number out of its range."""
    for name, value in (("l1", l1), ("l2", l2)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value) or value < 0:
            raise ArgumentError(f"{name} must be a finite number of at least 0, got {value!r}")
    return StepOptions(Clip(norm=clip_norm, value=clip_value), float(l1), float(l2))
