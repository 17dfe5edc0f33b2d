"""Where training stands, decided before any rule may blame anything."""

import math
from dataclasses import dataclass

import numpy as np

from chainrule.record import Quantity, RunRecord
from chainrule.record.facts import StandingFacts

LEAST_STEPS = 20
"""Updates below which nothing is said about the course of a run."""

RISEN = 1.5
"""Times the first loss, or that of a constant prediction, from which on a loss diverges."""

RISEN_AT_ONCE = 10.0
"""The same of fewer updates than LEAST_STEPS, whose last loss is that of one batch."""

FITTED = 0.98
"""Progress from which on there is nothing left to gain."""

GAIN = 0.03
"""Share of the constant prediction's loss that a trial must take away to count as a gain."""

MOST_BY_HEART = 0.1 / 100
"""Limit of what a trial's gain is forgiven as chance, for each of its steps: no more is learned by heart."""

MOST_LEFT = 0.2
"""Share of the loss down to which a trial must get for the run to be called unfinished however low its loss is, where a
trial of the run's own steps leaves LEAST_LEFT or more. Of 120 healthy runs none came below 0.6."""

LEAST_LEFT = 0.9

ROWS_BY_HEART = 2
"""Rows that a parameter can hold by heart (Cover 1965: the capacity of a linear threshold unit)."""

CHANCE = 2.0
"""Times its sampling noise up to which a gradient may be chance: two standard errors."""

BARELY = 0.1
"""Progress below which it is asked whether the error gets through at all."""

THROUGH = 1e-3
"""Share of the last layer's error at the first, and of the rows' spread at the outputs, that gets through."""

NEGATIVE = 0.5
"""Share of the largest curvature from which a negative one makes a saddle: at the saddle of a product, such as that of
two layers of small weights, both are of one size; smaller ones are usual at minima of few rows."""


@dataclass(frozen=True)
class Standing:
    """name: descending, local optimum, saddle, plateau, stalled, diverging; or "not started", "too short".

    progress: share of the constant prediction's loss (or, where that is not known, of the first loss) that training
    took away. finished: whether nothing is left for this network to gain on these rows. idle: whether it could learn
    the rows by heart, and neither the run nor a trial learns anything.
    """

    name: str
    sentence: str
    progress: float | None = None
    finished: bool = False
    idle: bool = False
    blocked: bool = False
    """Whether signal or error do not get through the network, so that no trial tells what there is to learn."""

    def __str__(self) -> str:
        return self.name


def standing_of(record: RunRecord) -> Standing:
    """The standing, from the loss curve, the gradient against its noise, curvature and trials, as far as known."""
    losses, measured = record.loss.values, record.facts.standing
    bad = record.facts.not_finite
    if bad is not None and not bad.skipped:
        when = "before the first update" if bad.step == 0 else f"at step {bad.step}"
        return Standing("diverging", f"{when} a value stopped being finite", 0.0)
    if not len(losses):
        return Standing("not started", "no update was made yet")
    finite = losses[np.isfinite(losses)]
    if len(finite) < len(losses) * 0.9:
        return Standing("diverging", f"{len(losses) - len(finite)} of {len(losses)} losses are not finite", 0.0)
    start, end = (
        float(np.mean(finite[: max(len(finite) // 50, 1)])),
        float(np.mean(finite[-max(len(finite) // 10, 1) :])),
    )
    baseline = _baseline(record, start)
    progress = (baseline - end) / abs(baseline) if baseline else 0.0
    if measured is not None and _penalised(record):
        end = measured.loss  # the curve holds the penalty as well, which no prediction can take away
        progress = (baseline - end) / abs(baseline) if baseline else 0.0
    lowest = float(np.min(finite))
    risen = RISEN if len(finite) >= LEAST_STEPS else RISEN_AT_ONCE
    if len(finite) >= 4 and end > risen * max(start, baseline) and end > 2 * abs(lowest):
        return Standing("diverging", f"the loss rose from {start:.3g} to {end:.3g}", progress)
    if len(finite) < LEAST_STEPS:
        return Standing("too short", f"{len(finite)} updates are too few to judge the course", progress)
    if progress >= FITTED:
        return Standing(
            "local optimum",
            f"the loss is down to {end:.3g}, {1 - progress:.1%} of that of a constant prediction",
            progress,
            True,
        )
    if measured is not None and measured.zero_gradient:
        return Standing("stalled", f"every gradient is exactly 0 at a loss of {end:.3g}", progress)
    falls = _falls(finite, baseline)
    blocked = _blocked(record) if progress < BARELY and not falls else ""
    if blocked:
        return Standing(
            "plateau",
            f"the loss stays at {end:.3g}, and trials cannot tell what is left, for {blocked}",
            progress,
            blocked=True,
        )
    if measured is None or measured.trial_gain is None:
        return _by_curve(record, falls, end, progress)
    best, own = measured.trial_gain, measured.same_trial_gain or 0.0
    least = GAIN + _by_heart(record, measured.trial_steps)
    left, own_left = (share_left(record, gain) for gain in (best, own))
    if left <= MOST_LEFT and own_left >= LEAST_LEFT and best < least and not falls:
        return Standing(
            "stalled",
            f"the loss stays at {end:.3g}, of which {measured.trial_steps} other steps leave {left:.0%} and as many of "
            f"the run's own {min(own_left, 1):.0%}",
            progress,
        )
    if best < least and own < least and not (falls and (progress > BARELY or _could_memorise(record))):
        if progress < BARELY and _could_memorise(record):
            return Standing(
                "plateau",
                f"the loss stays at {end:.3g}, and no short trial gains more than "
                f"{max(best, own, 0):.1%}, though there are parameters enough to learn the rows by heart",
                progress,
                idle=True,
            )
        down = measured.lowest_curvature
        top = measured.highest_curvature
        chance = measured.gradient_norm <= CHANCE * measured.gradient_noise
        if not chance and down is not None and top is not None and down < -NEGATIVE * abs(top) and progress < 0.1:
            return Standing(
                "saddle",
                f"the slope is nearly flat at a loss of {end:.3g}, and the surface bends down "
                f"({down:.2g}) as well as up ({top:.2g})",
                progress,
            )
        return Standing(
            "local optimum",
            f"the loss stays at {end:.3g}, and no short trial gains more than {max(best, own, 0):.1%}",
            progress,
            True,
        )
    if falls or own >= least:
        return Standing("descending", f"the loss is at {end:.3g} and falling", progress)
    if measured.gradient_norm > CHANCE * measured.gradient_noise:
        return Standing(
            "stalled",
            f"the loss stays at {end:.3g} although its gradient is {_times(measured)} its sampling "
            f"noise and a short trial gains {best:.0%}",
            progress,
        )
    return Standing(
        "plateau",
        f"the loss stays at {end:.3g}; its gradient is within sampling noise, and a short trial "
        f"with other steps gains {best:.0%}",
        progress,
    )


def _blocked(record: RunRecord) -> str:
    """Why neither run nor trial can learn from the inputs, in words; nothing if signal and error get through.

    Where the chain is broken, a flat loss and a gradient that is all chance do not mean that a run is finished.
    """
    layers = [x.name for x in record.layers if len(record.measured(x.name, Quantity.ERROR))]
    if not layers:
        return ""
    first, last = (record.last(name, Quantity.ERROR) or 0.0 for name in (layers[0], layers[-1]))
    if len(layers) > 1 and first < THROUGH * last:
        return f"only {first / last:.1g} of the error reaches the first layer"
    if any((record.last(name, Quantity.TWINS) or 0.0) > 0.9 for name in layers[:-1]):
        return "the units of a hidden layer are copies of each other"
    spread, size = record.last(layers[-1], Quantity.SPREAD), record.last(layers[0], Quantity.SPREAD)
    if spread is not None and size and spread < THROUGH * size:
        return "the outputs hardly depend on the inputs"
    return ""


def _penalised(record: RunRecord) -> bool:
    training = record.facts.training
    return training is not None and (training.l1 > 0 or training.l2 > 0)


def share_left(record: RunRecord, gain: float) -> float:
    """What a trial from the run's end that gains so much leaves of the loss there, as a share; 1 if it is not known."""
    measured = record.facts.standing
    if measured is None or measured.loss <= 0:
        return 1.0
    return max(1 - gain * _baseline(record, measured.loss) / measured.loss, 0.0)


def _by_heart(record: RunRecord, steps: int) -> float:
    """Share of the loss that fitting chance alone takes away on the rows themselves: parameters over rows, to a limit.

    The degrees of freedom of a fit: of n rows of noise, p parameters explain p / n.
    """
    data = record.facts.data
    if data is None or not data.rows:
        return 0.0
    return min(sum(x.parameters for x in record.layers) / data.rows, MOST_BY_HEART * steps)


def _could_memorise(record: RunRecord) -> bool:
    """Whether the network has parameters enough to hold all rows: then its loss is no optimum while it is large."""
    data = record.facts.data
    return data is not None and ROWS_BY_HEART * sum(x.parameters for x in record.layers) > data.rows > 0


def _times(measured: StandingFacts) -> str:
    return (
        "far above" if not measured.gradient_noise else f"{measured.gradient_norm / measured.gradient_noise:.1f} times"
    )


def _baseline(record: RunRecord, start: float) -> float:
    data = record.facts.data
    known = None if data is None or data.target is None else data.target.baseline
    return start if known is None or not math.isfinite(known) or known <= 0 else known


def _falls(losses: np.ndarray, baseline: float) -> bool:
    """Whether the last quarter's second half lies below its first by more than chance and 1 % of what is at stake."""
    last = losses[-max(len(losses) // 4, 8) :]
    early, late = last[: len(last) // 2], last[len(last) // 2 :]
    error = math.sqrt(early.var(ddof=1) / len(early) + late.var(ddof=1) / len(late))
    fall = float(early.mean() - late.mean())
    return fall > CHANCE * error and fall > 0.01 * abs(baseline)


def _by_curve(record: RunRecord, falls: bool, end: float, progress: float) -> Standing:
    """From the curve alone, and the gradient against its noise if it was measured."""
    if falls:
        return Standing("descending", f"the loss is at {end:.3g} and falling", progress)
    measured = record.facts.standing
    if measured is None:
        return Standing("plateau", f"the loss stays at {end:.3g}; no gradient was measured", progress)
    if measured.gradient_norm > CHANCE * measured.gradient_noise:
        return Standing(
            "stalled",
            f"the loss stays at {end:.3g} although its gradient is {_times(measured)} its sampling noise",
            progress,
        )
    return Standing(
        "local optimum", f"the loss stays at {end:.3g}, and the gradient is within sampling noise", progress, True
    )
