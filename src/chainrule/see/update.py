"""The update of one number by term: what this gradient, older batches, decay, penalties and clipping did."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MOMENTUM = ("momentum_buffer", "exp_avg")
"""Slots of an optimizer that hold older gradients themselves, and not their sizes."""


@dataclass(frozen=True)
class Update:
    """before + Σ terms = after. Terms: "this gradient", and where there is such "penalty", "clipping", "older batches",
    "decay".

    Each term is what the optimizer's own update would have been without it, taken from what it was, one after another;
    so they add up for every optimizer. Squares of gradients that divide a step stay what they were.
    """

    optimizer: str
    learning_rate: float
    before: float
    after: float
    terms: dict[str, float]

    @property
    def change(self) -> float:
        return sum(self.terms.values())

    @property
    def move(self) -> str:
        """Who moved it from where to where, in words."""
        return f"{self.optimizer}, learning rate {self.learning_rate:g}: {self.before:.6g} -> {self.after:.6g}"

    @property
    def causes(self) -> str:
        """The terms in words."""
        return ", ".join(f"{name} {value:+.3g}" for name, value in self.terms.items())

    def __str__(self) -> str:
        return f"{self.move}, by {self.causes}"

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "change": self.change}


@dataclass(frozen=True, eq=False)
class Stepping:
    """What an update depends on besides weight and gradient.

    moments: slot -> parameter's name -> array, before the update; None: the first one. step: updates made before it.
    """

    optimizer: Any
    moments: Mapping[str, Mapping[str, np.ndarray]] | None = None
    learning_rate: float | None = None
    clip_norm: float | None = None
    clip_value: float | None = None
    step: int = 0


def update_of(
    stepping: Stepping, name: str, index: tuple[int, ...], weight: float, gradients: Mapping[str, np.ndarray],
    penalised: float,
) -> Update:  # fmt: skip
    """What the optimizer makes of one entry. penalised: the part of its gradient that a penalty of the step made."""
    optimizer = stepping.optimizer
    rate = optimizer.lr if stepping.learning_rate is None else stepping.learning_rate
    gradient = float(gradients[name][index])
    clipped = _clipped(gradient, gradients, stepping)
    state = _state(stepping, name, index, weight)
    fresh = {slot: np.zeros(1) if slot in MOMENTUM else a for slot, a in state.items()}

    def moved(used: Any, taken: float, given: Mapping[str, np.ndarray]) -> float:
        parameter = np.array([weight])
        after, _ = used.stepped(parameter, np.array([taken]), given, stepping.step + 1, rate)
        return float(after[0] - weight)

    plain = optimizer
    if getattr(optimizer, "weight_decay", 0):
        plain = dataclasses.replace(optimizer, weight_decay=0.0)
    # From the bare step on, one cause more each time, so that the differences add up to the whole.
    before = moved(plain, gradient - penalised, fresh)
    terms = {"this gradient": before}
    ladder = [
        ("penalty", penalised != 0, plain, gradient, fresh),
        ("clipping", clipped != gradient, plain, clipped, fresh),
        ("decay", plain is not optimizer, optimizer, clipped, fresh),
        ("older batches", any(fresh[slot] != a for slot, a in state.items()), optimizer, clipped, state),
    ]
    for cause, acts, used, taken, given in ladder:
        value = moved(used, taken, given) if acts else before
        if value != before:
            terms[cause] = value - before
        before = value
    return Update(type(optimizer).__name__, float(rate), weight, weight + before, terms)


def _clipped(gradient: float, gradients: Mapping[str, np.ndarray], stepping: Stepping) -> float:
    """The entry after clipping by value, then by the norm of all gradients."""
    limit, most = stepping.clip_value, stepping.clip_norm
    bent = gradient if limit is None else min(max(gradient, -limit), limit)
    if most is None:
        return bent
    whole = (g if limit is None else np.clip(g, -limit, limit) for g in gradients.values())
    total = sum(float(np.square(g, dtype=np.float64).sum()) for g in whole)
    return bent * min(most / (total**0.5 + 1e-6), 1.0)


def _state(stepping: Stepping, name: str, index: tuple[int, ...], weight: float) -> dict[str, np.ndarray]:
    if stepping.moments is None:
        return stepping.optimizer.initial(np.array([weight]))
    return {slot: np.array([arrays[name][index]], np.float64) for slot, arrays in stepping.moments.items()}
