"""When to stop early: after how many epochs without a better score."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from chainrule.errors import ArgumentError


@dataclass(frozen=True)
class EarlyStopping:
    """Stop after ``patience`` epochs in which ``monitor`` did not improve by more than ``min_delta``.

    monitor: a name of the history, such as "validation_loss" (smaller is better) or "validation_accuracy" (larger is);
    None: the validation loss, or the training loss where there is no validation.
    """

    patience: int = 5
    min_delta: float = 0.0
    monitor: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.patience, bool) or not isinstance(self.patience, int) or self.patience < 1:
            raise ArgumentError(f"EarlyStopping: patience is a number of epochs of at least 1, got {self.patience!r}")
        if not isinstance(self.min_delta, (int, float)) or not 0 <= self.min_delta < math.inf:
            raise ArgumentError(f"EarlyStopping: min_delta is a finite number of at least 0, got {self.min_delta!r}")


def refuse_unmeasured(monitor: str | None, measured: Collection[str]) -> None:
    """ArgumentError for a monitor that is none of the names of the history."""
    if monitor is not None and monitor not in measured:
        raise ArgumentError(f"nothing called {monitor!r} is measured: monitor one of {', '.join(measured)}")


LARGER_IS_BETTER = ("accuracy", "f1", "r2", "top")


def score_of(metrics: dict[str, float], monitor: str | None) -> tuple[str, float]:
    """(what is monitored, its value as a score of which smaller is better)."""
    name = monitor or ("validation_loss" if "validation_loss" in metrics else "loss")
    refuse_unmeasured(name, metrics)
    larger = name.removeprefix("validation_").startswith(LARGER_IS_BETTER)
    return name, -metrics[name] if larger else metrics[name]


@dataclass(frozen=True)
class Best:
    """The best score so far, where it was, and how many epochs have passed without a better one."""

    score: float = math.inf
    epoch: int = 0
    step: int = 0
    waited: int = 0

    def after(self, score: float, epoch: int, step: int, min_delta: float) -> Best:
        """What is best once an epoch has this score."""
        if score < self.score - min_delta or (self.epoch == 0 and not math.isnan(score)):
            return Best(score, epoch, step, 0)
        return Best(self.score, self.epoch, self.step, self.waited + 1)

    def to_dict(self) -> dict[str, Any]:
        return {"score": None if math.isinf(self.score) else self.score, "epoch": self.epoch, "step": self.step,
                "waited": self.waited}  # fmt: skip

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Best:
        score = math.inf if plain["score"] is None else plain["score"]
        return cls(score, plain["epoch"], plain["step"], plain["waited"])
