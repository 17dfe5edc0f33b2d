"""CR309: the learning rate was near 0 for much of the run."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import series


@dataclass(frozen=True)
class ScheduleEnded(Rule):
    code = "CR309"
    name = "schedule-near-zero"
    severity = "error"
    factor = "learning rate"
    why = (
        "The update is proportional to the learning rate: while the schedule holds it near 0, no gradient can move "
        "a weight."
    )
    remedy = (
        Remedy(
            "schedule", "Leave the schedule out, or stretch it over all steps of the run.", {"schedule": "constant"}
        ),
        Remedy("schedule-order", "Check whether a schedule by epochs is stepped at every update."),
    )
    source = "the definition of the update; the limit is this project's"
    explains = ("stalled-loss", "overfit-fails", "learning-rate-too-low", "update-too-small", "too-few-steps")
    unfinished = True
    healthy = (HEALTHY, example(learning_rate=series(np.geomspace(1e-3, 1e-5, 400))))
    sick = (example(learning_rate=series([1e-3] * 40 + [0.0] * 360), loss=STUCK),)

    small: float = 1e-3
    """Share of the largest rate below which a step counts as none."""
    most: float = 0.3
    """Share of the steps."""

    def examine(self, case: Case) -> Iterator[Sign]:
        rates = case.record.learning_rate.values
        if len(rates) and rates.max() > 0:
            share = float(np.mean(rates < self.small * rates.max()))
            yield Sign(
                share / self.most,
                f"in {share:.0%} of the steps the rate is below {self.small:g} of its largest (limit {self.most:.0%})",
            )
        elif len(rates):
            yield Sign(1 / self.most, "the learning rate is 0 at every step")
