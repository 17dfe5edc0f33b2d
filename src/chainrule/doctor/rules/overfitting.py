"""CR501: the validation loss rises while the training loss falls."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import series


@dataclass(frozen=True)
class Overfitting(Rule):
    code = "CR501"
    name = "overfitting"
    severity = "note"
    factor = "none"
    why = (
        "The gradient of the training loss does its work; what it learns at the end holds for these rows only. No "
        "gradient is at fault."
    )
    remedy = (
        Remedy("early-stopping", "Stop early: cr.fit(..., early_stopping=10).", {"early_stopping": 10}),
        Remedy("more-data", "Use more rows, augmentation, dropout or decay."),
    )
    source = "Prechelt 1998: Early Stopping - But When?; the limit is this project's"
    healthy = (HEALTHY, example(validation={"loss": series([2.0, 1.0, 0.6, 0.5, 0.5, 0.52])}))
    sick = (example(validation={"loss": series([2.0, 1.0, 0.6, 0.7, 0.9, 1.4])}),)

    most: float = 0.5
    """Rise of the validation loss above its lowest, as a share of it."""

    def examine(self, case: Case) -> Iterator[Sign]:
        held = case.record.validation.get("loss")
        if held is None or len(held) < 4:
            return
        values = held.values[np.isfinite(held.values)]
        if len(values) and values.min() > 0:
            rise = float(values[-1] / values.min() - 1)
            best = int(held.steps[int(np.argmin(np.where(np.isfinite(held.values), held.values, np.inf)))])
            yield Sign(
                rise / self.most,
                f"the validation loss is {rise:.0%} above its lowest (limit {self.most:.0%}), which was at "
                f"step {best:,}",
                step=best,
            )
