"""CR310: training was broken off while the loss was still falling."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CONVERGED, HEALTHY, MOVING, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import series


@dataclass(frozen=True)
class TooFewSteps(Rule):
    code = "CR310"
    name = "too-few-steps"
    severity = "warning"
    factor = "none"
    why = "Each update goes a short way down; the gradient is fine, there were only too few of them."
    remedy = (
        Remedy("train-longer", "Train ten times as long.", {"factor": 10}),
        Remedy("batch-size", "Use smaller batches: more updates an epoch.", {"factor": 0.25}),
        Remedy("scale-learning-rate", "Raise the learning rate.", {"factor": 3.0}),
    )
    source = "the standing: the loss falls by more than chance at the end"
    content = 0.4
    course = True
    healthy = (HEALTHY, CONVERGED)
    sick = (
        example(loss=series([2.3 - 0.005 * i for i in range(60)]), trials=None),
        example(loss=series([2.3 - 3e-4 * i for i in range(900)]), standing=replace(MOVING, same_trial_gain=0.005)),
    )

    most: float = 2000.0
    """Updates up to which "still falling" is a question of length."""
    few: float = 100.0
    """Updates up to which a run is too short whatever it promises: it is no longer than the doctor's own trials."""
    promised: float = 0.2
    """Progress from which on it is only a note if as many updates again, at the pace of a trial, come to it: a network
    that learns slowly is not sick."""

    def examine(self, case: Case) -> Iterator[Sign]:
        steps = case.record.steps
        short = 20 <= steps <= self.most and case.standing.name == "descending"
        promise = case.progress + steps * self._pace(case)
        learns = steps > self.few and promise >= self.promised
        yield Sign(
            float(short),
            f"{steps:,} updates, and {case.standing.sentence}",
            step=steps,
            content=-math.inf if learns else None,
        )

    @staticmethod
    def _pace(case: Case) -> float:
        """Progress of an update, in a trial that goes on from the end with the run's own steps."""
        standing = case.facts.standing
        if standing is None or not standing.trial_steps:
            return 0.0
        return max(standing.same_trial_gain or 0.0, 0.0) / standing.trial_steps
