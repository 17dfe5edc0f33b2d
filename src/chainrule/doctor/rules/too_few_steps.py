"""CR310: training was broken off while the loss was still falling."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CONVERGED, HEALTHY, example
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
    sick = (example(loss=series([2.3 - 0.005 * i for i in range(60)]), trials=None),)

    most: float = 2000.0
    """Updates up to which "still falling" is a question of length."""

    def examine(self, case: Case) -> Iterator[Sign]:
        short = 20 <= case.record.steps <= self.most and case.standing.name == "descending"
        yield Sign(float(short), f"{case.record.steps:,} updates, and {case.standing.sentence}", step=case.record.steps)
