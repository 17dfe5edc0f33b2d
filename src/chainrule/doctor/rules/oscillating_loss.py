"""CR303: the loss of whole epochs goes up and down instead of down."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import series


@dataclass(frozen=True)
class OscillatingLoss(Rule):
    code = "CR303"
    name = "oscillating-loss"
    severity = "warning"
    factor = "learning rate"
    why = (
        "When the step is near 2 / curvature along some direction, the weights jump from one wall of the valley to "
        "the other, and the gradient changes its sign each time."
    )
    remedy = (
        Remedy("scale-learning-rate", "Lower the learning rate threefold, or let it fall.", {"factor": 0.3}),
        Remedy("batch-size", "Use larger batches.", {"factor": 4}),
        Remedy("momentum", "Lower the momentum.", {"momentum": 0.5}),
    )
    source = (
        "Goodfellow, Bengio & Courville 2016, section 8.2; Zhang, Zhai, Ma & Shen 2021 (AutoTrainer), whose swing of "
        "0.03 this is; how often is this project's"
    )
    explains = (
        "stalled-loss",
        "overfit-fails",
    )
    content = 0.7
    course = True
    healthy = (HEALTHY, example(train={"loss": series([2.3, 1.0, 0.9, 0.7, 0.72, 0.6, 0.61, 0.55, 0.5, 0.5])}))
    sick = (example(loss=STUCK, train={"loss": series([2.3, 1.2, 2.2, 1.1, 2.3, 1.0, 2.2, 1.3, 2.1, 1.0, 2.2, 1.2])}),)

    swing: float = 0.03
    """Rise from one epoch to the next, as a share of the constant prediction's loss."""
    often: float = 0.3
    """Share of the later half's epochs that rise so."""

    def examine(self, case: Case) -> Iterator[Sign]:
        curve_of_epochs = case.record.train.get("loss")
        if curve_of_epochs is None or len(curve_of_epochs) < 8:
            return
        values = curve_of_epochs.values[np.isfinite(curve_of_epochs.values)]
        late, data = values[len(values) // 2 :], case.facts.data
        whole = (data.target.baseline if data is not None and data.target is not None else None) or float(values.max())
        if len(late) > 3:
            share = float(np.mean(np.diff(late) > self.swing * whole))
            yield Sign(
                share / self.often,
                f"in {share:.0%} of the later epochs the loss rises by more than {self.swing:.0%} "
                f"of a constant prediction's loss (limit {self.often:.0%})",
                step=case.record.steps,
            )
