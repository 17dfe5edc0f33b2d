"""CR302: a learning rate with which the weights cannot travel as far as they must."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CONVERGED, HEALTHY, MOVING, TRAINING, TRIALS, curve, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.doctor.standing import FITTED, LEAST_LEFT, MOST_LEFT, share_left
from chainrule.record import Quantity, series
from chainrule.record.facts import SweepPoint

FIXED = ("Adam", "AdamW", "RMSprop")
"""Optimizers whose steps are about the learning rate in size, whatever the gradient."""

ALMOST = curve(2.3, 0.1)
"""Down to a 23rd of what a constant prediction loses."""


@dataclass(frozen=True)
class LearningRateTooLow(Rule):
    code = "CR302"
    name = "learning-rate-too-low"
    severity = "error"
    factor = "learning rate"
    why = (
        "A weight can move by about lr a step at most (Adam), or lr x gradient (SGD): times the number of steps "
        "that is the way it can go, however good the direction is."
    )
    remedy = (
        Remedy("scale-learning-rate", "Raise the learning rate tenfold.", {"factor": 10.0}),
        Remedy("scale-learning-rate", "Or a hundredfold.", {"factor": 100.0}),
        Remedy("change-optimizer", "Use Adam(1e-3).", {"optimizer": "Adam", "lr": 1e-3}),
        Remedy("train-longer", "Or train ten times as long.", {"factor": 10}),
    )
    source = "Stack Overflow 50306988, 51181393 and 55328966 re-run; Smith 2017 for the sweep"
    explains = ("stalled-loss", "too-few-steps", "update-too-small", "cancelling-samples", "overfit-fails")
    content = 0.5
    course = True
    unfinished = True
    sweep_rates = (1e-5, 1e-4, 1e-3, 1e-2)
    healthy = (
        HEALTHY,
        CONVERGED,
        example(loss=ALMOST, standing=replace(MOVING, loss=0.1, trial_gain=0.03, same_trial_gain=0.02)),
        example(
            loss=ALMOST,
            standing=replace(MOVING, loss=0.1, trial_gain=0.04, same_trial_gain=0.0, slower_trial_gain=0.04),
        ),
    )
    sick = (
        example(
            training=replace(TRAINING, arguments={"lr": 1e-5}),
            loss=series([]),
            trials=replace(
                TRIALS,
                sweep=tuple(SweepPoint(lr=r, loss=v) for r, v in zip(sweep_rates, (2.29, 2.1, 0.9, 0.3), strict=True)),
            ),
        ),
        example(loss=ALMOST, standing=replace(MOVING, loss=0.1, trial_gain=0.04, same_trial_gain=0.001)),
    )

    gain: float = 0.3
    """Share of the constant prediction's loss by which ten times the rate or more ends lower in a short trial."""
    travel: float = 0.1
    """Way that all steps together can have gone, as a share of the weights' size."""
    left: float = MOST_LEFT
    """Share of the loss that a trial with other steps leaves after the run."""
    still: float = LEAST_LEFT
    """Share of it that a trial with the run's own steps leaves."""
    longest: float = 2000.0
    """Planned updates up to which a short trial tells of the whole run."""

    def examine(self, case: Case) -> Iterator[Sign]:
        trials, training, standing = case.facts.trials, case.facts.training, case.facts.standing
        if standing is not None and standing.trial_gain is not None and case.record.steps:
            more = standing.trial_gain - max(standing.same_trial_gain or 0.0, 0.0)
            yield Sign(
                more / self.gain,
                f"after the run a trial of {standing.trial_steps} steps with Adam gains "
                f"{standing.trial_gain:.0%}, one with the run's own optimizer {standing.same_trial_gain or 0.0:.0%}",
            )
            yield from self._left(case)
            yield from self._travelled(case)
        if trials is None or training is None or not training.lr or case.record.steps:
            return  # of a run that was made, trials from its end say more
        if (training.planned_steps or 0) > self.longest:
            return
        own = [p.loss for p in trials.sweep if p.lr == training.lr]
        higher = [p for p in trials.sweep if p.lr >= training.lr * 9]
        base = trials.expected_loss or trials.initial_loss
        if not own or not higher or not base:
            return
        if trials.initial_loss is not None and own[0] < 0.8 * trials.initial_loss:
            return
        best = min(higher, key=lambda p: p.loss)
        fix = replace(self.remedy[0], text=f"Raise the learning rate to {best.lr:g}.", parameters={"lr": best.lr})
        yield Sign(
            (own[0] - best.loss) / abs(base) / self.gain,
            f"after {trials.sweep_steps} steps lr {training.lr:g} ends at "
            f"{own[0]:.3g}, lr {best.lr:g} at {best.loss:.3g}",
            remedy=(fix, *self.remedy[1:]),
        )

    def _left(self, case: Case) -> Iterator[Sign]:
        """However far the loss is down: whether other steps would take most of the rest away, and the run's do not."""
        standing = case.facts.standing
        if standing is None or case.progress < self.content:
            return
        left, own, slower = (
            share_left(case.record, gain or 0.0)
            for gain in (standing.trial_gain, standing.same_trial_gain, standing.slower_trial_gain)
        )
        if slower < self.still:
            return  # smaller steps help as well
        yield Sign(
            min(self.left / max(left, self.left / 100), own / self.still),
            f"after the run {standing.trial_steps} steps with Adam leave {left:.0%} of the loss "
            f"(limit {self.left:.0%}), as many of the run's own optimizer {min(own, 1.0):.0%} (limit {self.still:.0%})",
            remedy=(self.remedy[2], self.remedy[0], self.remedy[3]),
            content=FITTED,
        )

    def _travelled(self, case: Case) -> Iterator[Sign]:
        """How far steps of a fixed size can have moved a weight, beside the weights' own size."""
        training, steps = case.facts.training, case.record.steps
        sizes = [s for s in (case.first(x, Quantity.WEIGHT) for x in case.dense) if s]
        if training is None or not training.lr or training.optimizer not in FIXED or not sizes or not steps:
            return
        way = training.lr * steps / float(np.median(sizes))
        yield Sign(
            self.travel / way,
            f"{steps:,} steps of about {training.lr:g} move a weight by {way:.2g} of its size at most "
            f"(limit {self.travel:g})",
            remedy=(self.remedy[0], self.remedy[2]),
        )
