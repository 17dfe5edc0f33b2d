"""Learning-rate schedules: pure functions of how often they were stepped."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any

from chainrule.errors import ArgumentError
from chainrule.optim.arguments import Choice, Flag, NonNegative, Number, Numbers, Positive, Share, declared

Every = Annotated[str, Choice(("epoch", "step"))]
Count = Annotated[int, Number(at_least=1, whole=True)]
CountFromZero = Annotated[int, Number(at_least=0, whole=True)]
PositiveShare = Annotated[float, Number(above=0, at_most=1)]
Milestones = Annotated[tuple[int, ...], Numbers(Number(at_least=1, whole=True))]


@declared
class LearningRateSchedule(ABC):
    """How the learning rate changes while training goes on.

    every: what it counts, "epoch" or "step" (one update of the weights).

    Use: ``state = schedule.initial()`` once; ``schedule.rate(base, count, state)`` is the learning rate at any time;
    after each epoch or step ``count`` grows by 1 and, if there is a metric to go by, ``state = schedule.observe(state,
    metric)``. Only ReduceLROnPlateau has a state; the others' is empty and need not be passed.
    """

    _: KW_ONLY
    every: Every = "epoch"

    def initial(self) -> dict[str, float]:
        """The state before training: finite numbers by name, for the checkpoint."""
        return {}

    def observe(self, state: Mapping[str, float], metric: float) -> dict[str, float]:
        """The state after an epoch (or step) that ended with ``metric``."""
        return dict(state)

    @abstractmethod
    def rate(self, base: float, count: int, state: Mapping[str, float] | None = None) -> float:
        """The learning rate after ``count`` epochs (or steps).

        base:  the optimizer's own learning rate.
        count: how many have ended: 0 during the first. PyTorch's number of calls of ``scheduler.step()``.
        """


@declared
class ConstantLR(LearningRateSchedule):
    """base * factor for the first total_iters counts, then base. With factor=1 the rate never changes.

    Source: PyTorch's class of that name.

    >>> [round(ConstantLR(factor=0.5, total_iters=2).rate(0.1, count), 4) for count in range(4)]
    [0.05, 0.05, 0.1, 0.1]
    """

    factor: PositiveShare = 1.0 / 3
    total_iters: Count = 5

    def rate(self, base: float, count: int, state: Mapping[str, float] | None = None) -> float:
        return base * self.factor if count < self.total_iters else base


@declared
class StepLR(LearningRateSchedule):
    """base * gamma ^ floor(count / step_size): a fall by the factor gamma after each step_size counts.

    >>> [round(StepLR(step_size=2).rate(0.1, count), 4) for count in range(5)]
    [0.1, 0.1, 0.01, 0.01, 0.001]
    """

    step_size: Count
    gamma: Positive = 0.1

    def rate(self, base: float, count: int, state: Mapping[str, float] | None = None) -> float:
        return base * self.gamma ** (count // self.step_size)


@declared
class MultiStepLR(LearningRateSchedule):
    """base * gamma ^ (number of milestones reached). milestones: counts in ascending order, from 1.

    >>> [round(MultiStepLR(milestones=[1, 3], gamma=0.5).rate(0.1, count), 4) for count in range(5)]
    [0.1, 0.05, 0.05, 0.025, 0.025]
    """

    milestones: Milestones
    gamma: Positive = 0.1

    def rate(self, base: float, count: int, state: Mapping[str, float] | None = None) -> float:
        return base * self.gamma ** bisect_right(self.milestones, count)


@declared
class ExponentialLR(LearningRateSchedule):
    """base * gamma ^ count.

    >>> [round(ExponentialLR(gamma=0.5).rate(0.1, count), 4) for count in range(4)]
    [0.1, 0.05, 0.025, 0.0125]
    """

    gamma: Positive

    def rate(self, base: float, count: int, state: Mapping[str, float] | None = None) -> float:
        return base * self.gamma**count


@declared
class CosineAnnealingLR(LearningRateSchedule):
    """eta_min + (base - eta_min) (1 + cos(π count / T_max)) / 2: half a cosine wave from base down to eta_min.

    After T_max counts it rises again, as in PyTorch: give T_max the length of the training.
    Source: Loshchilov & Hutter 2017 (arXiv:1608.03983), eq. 5, without restarts.

    >>> [round(CosineAnnealingLR(T_max=4).rate(0.1, count), 4) for count in range(5)]
    [0.1, 0.0854, 0.05, 0.0146, 0.0]
    """

    T_max: Count
    eta_min: NonNegative = 0.0

    def rate(self, base: float, count: int, state: Mapping[str, float] | None = None) -> float:
        return self.eta_min + (base - self.eta_min) * (1.0 + math.cos(math.pi * count / self.T_max)) / 2.0


@declared
class LinearLR(LearningRateSchedule):
    """Warm-up: base times a factor that goes in a straight line from start_factor to end_factor in total_iters counts.

    Source: Goyal et al. 2017 (arXiv:1706.02677), section 2.2 (gradual warm-up); names and defaults are PyTorch's.

    >>> [round(LinearLR(start_factor=0.25, total_iters=3).rate(0.1, count), 4) for count in range(5)]
    [0.025, 0.05, 0.075, 0.1, 0.1]
    """

    start_factor: PositiveShare = 1.0 / 3
    end_factor: Share = 1.0
    total_iters: Count = 5

    def rate(self, base: float, count: int, state: Mapping[str, float] | None = None) -> float:
        done = min(count, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


@declared
class OneCycleLR(LearningRateSchedule):
    """One cycle: up from max_lr / div_factor to max_lr, then down to max_lr / div_factor / final_div_factor.

    Its rates come from max_lr alone; the optimizer's own lr is not used, and momentum is not cycled (PyTorch's
    ``cycle_momentum=False``). It counts steps, not epochs, unless told otherwise.

    total_steps:     counts in the whole training; ArgumentError when asked for the rate after more.
    pct_start:       share of them that goes up.
    anneal_strategy: "cos", half a cosine wave, or "linear".
    three_phase:     down to the first rate in as many counts as it went up, and only then on to the last rate; needs
                     pct_start of at most 0.5.

    Source: Smith & Topin 2018 (arXiv:1708.07120), where three_phase is the rule; the rest as in PyTorch.

    >>> [round(OneCycleLR(max_lr=0.1, total_steps=5, pct_start=0.4).rate(0.0, count), 4) for count in range(5)]
    [0.004, 0.1, 0.075, 0.025, 0.0]
    """

    max_lr: Positive
    total_steps: Count
    pct_start: Share = 0.3
    anneal_strategy: Annotated[str, Choice(("cos", "linear"))] = "cos"
    div_factor: Annotated[float, Number(at_least=1)] = 25.0
    final_div_factor: Positive = 1e4
    three_phase: Flag = False
    _: KW_ONLY
    every: Every = "step"

    def __post_init__(self) -> None:
        if self.three_phase and self.pct_start > 0.5:
            raise ArgumentError(
                f"OneCycleLR: three_phase=True must come with pct_start at most 0.5, got pct_start={self.pct_start}: "
                "the way down takes as long as the way up"
            )

    def phases(self) -> list[tuple[float, float, float]]:
        """(count at its end, rate at its start, rate at its end) of each phase."""
        first, top = self.max_lr / self.div_factor, self.max_lr
        last = first / self.final_div_factor
        up = self.pct_start * self.total_steps
        if self.three_phase:
            return [(up - 1, first, top), (2 * up - 2, top, first), (self.total_steps - 1, first, last)]
        return [(up - 1, first, top), (self.total_steps - 1, top, last)]

    def rate(self, base: float, count: int, state: Mapping[str, float] | None = None) -> float:
        if count > self.total_steps:
            raise ArgumentError(
                f"OneCycleLR: total_steps must be at least the number of counts, got total_steps={self.total_steps} "
                f"and the rate was asked for after {count}: give it the length of the training"
            )
        phases = self.phases()
        current = next((i for i, (end, _, _) in enumerate(phases) if count <= end), len(phases) - 1)
        begin = phases[current - 1][0] if current else 0.0
        end, low, high = phases[current]
        # A phase without length is over at once, where PyTorch divides by 0. After the last step there is no more
        # step to take a rate for; PyTorch draws the last phase out and may get a negative one.
        done = min((count - begin) / (end - begin), 1.0) if end > begin else 1.0
        if self.anneal_strategy == "linear":
            return low + (high - low) * done
        return high + (low - high) / 2.0 * (1.0 + math.cos(math.pi * done))


@declared
class ReduceLROnPlateau(LearningRateSchedule):
    """Multiply the rate by factor each time the metric has not got better for more than patience observations.

    mode:           "min" if a smaller metric is better (a loss), "max" if a larger one is (accuracy).
    threshold:      how much better counts: with threshold_mode "rel" a share of the best so far, with "abs" an amount.
    cooldown:       observations after a reduction that do not count as bad.
    min_lr:         the rate never falls below this.
    eps:            a reduction by no more than this is left out.
    A metric that is NaN or infinite counts as no better. (PyTorch takes -inf for the best there can be in mode "min".)

    State: ``best`` and ``has_best`` (0 until there is one), ``bad`` (observations in a row without improvement),
    ``cooldown`` (observations left of it) and ``reductions`` (how often the rate was to fall).

    >>> schedule = ReduceLROnPlateau(patience=1)
    >>> state = schedule.initial()
    >>> for loss in (1.0, 0.9, 0.95, 0.92):
    ...     state = schedule.observe(state, loss)
    >>> state["best"], state["reductions"], round(schedule.rate(0.1, 4, state), 4)
    (0.9, 1, 0.01)
    """

    mode: Annotated[str, Choice(("min", "max"))] = "min"
    factor: Annotated[float, Number(above=0, below=1)] = 0.1
    patience: CountFromZero = 10
    threshold: NonNegative = 1e-4
    threshold_mode: Annotated[str, Choice(("rel", "abs"))] = "rel"
    cooldown: CountFromZero = 0
    min_lr: NonNegative = 0.0
    eps: NonNegative = 1e-8

    def initial(self) -> dict[str, float]:
        return {"best": 0.0, "has_best": 0, "bad": 0, "cooldown": 0, "reductions": 0}

    def observe(self, state: Mapping[str, float], metric: float) -> dict[str, float]:
        metric = float(metric)
        better = math.isfinite(metric) and (not state["has_best"] or self._is_better(metric, state["best"]))
        bad = 0 if better or state["cooldown"] > 0 else state["bad"] + 1
        reduce = bad > self.patience
        return {
            "best": metric if better else state["best"],
            "has_best": 1 if better else state["has_best"],
            "bad": 0 if reduce else bad,
            "cooldown": self.cooldown if reduce else max(state["cooldown"] - 1, 0),
            "reductions": state["reductions"] + reduce,
        }

    def _is_better(self, metric: float, best: float) -> bool:
        sign = -1.0 if self.mode == "min" else 1.0
        bound = best * (1.0 + sign * self.threshold) if self.threshold_mode == "rel" else best + sign * self.threshold
        return sign * metric > sign * bound

    def rate(self, base: float, count: int, state: Mapping[str, float] | None = None) -> float:
        rate = base
        for _ in range(int(state["reductions"]) if state else 0):
            lower = max(rate * self.factor, self.min_lr)
            if rate - lower <= self.eps:
                break
            rate = lower
        return rate


@dataclass(frozen=True)
class Members:
    """Schedules that can follow one another: functions of a count, without a state."""

    wanted = "one or more learning-rate schedules other than ReduceLROnPlateau"

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, (list, tuple)) or not value:
            return False
        return all(isinstance(x, LearningRateSchedule) and not x.initial() for x in value)

    def plain(self, value: Any) -> tuple[LearningRateSchedule, ...]:
        return tuple(value)


@declared
class SequentialLR(LearningRateSchedule):
    """One schedule after the other, each counting from 0 at its milestone: a warm-up and then a decay.

    schedules:  what to follow, in order; all count the same thing as this one (``every``).
    milestones: the count at which each schedule but the first takes over, in ascending order: one fewer than schedules.

    >>> warm_up, decay = LinearLR(start_factor=0.5, total_iters=2), ExponentialLR(gamma=0.5)
    >>> [round(SequentialLR([warm_up, decay], milestones=[2]).rate(0.1, count), 4) for count in range(5)]
    [0.05, 0.075, 0.1, 0.05, 0.025]
    """

    schedules: Annotated[tuple[LearningRateSchedule, ...], Members()]
    milestones: Milestones

    def __post_init__(self) -> None:
        if len(self.milestones) != len(self.schedules) - 1:
            raise ArgumentError(
                "SequentialLR: milestones must be one fewer than schedules, "
                f"got {len(self.milestones)} milestones and {len(self.schedules)} schedules"
            )
        for i, member in enumerate(self.schedules):
            if member.every != self.every:
                raise ArgumentError(
                    f"SequentialLR: every schedule must count the same, got every={self.every!r} here and "
                    f"{member.every!r} in schedules[{i}], {type(member).__name__}"
                )

    def rate(self, base: float, count: int, state: Mapping[str, float] | None = None) -> float:
        current = bisect_right(self.milestones, count)
        begin = self.milestones[current - 1] if current else 0
        return self.schedules[current].rate(base, count - begin)


SCHEDULES: dict[str, type[LearningRateSchedule]] = {
    "constant": ConstantLR,
    "step": StepLR,
    "multi-step": MultiStepLR,
    "exponential": ExponentialLR,
    "cosine": CosineAnnealingLR,
    "warmup": LinearLR,
    "one-cycle": OneCycleLR,
    "plateau": ReduceLROnPlateau,
    "sequential": SequentialLR,
}
"""Every learning-rate schedule by the name it has on the command line and in a run's config."""
