"""CR303: the loss of whole epochs goes up and down instead of down."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, LAST, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import series

NOISY = series(1.5 + 0.5 * np.random.default_rng(0).normal(size=LAST))
"""Batches so small that the means of ten of them rise and fall by chance."""


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
    healthy = (
        HEALTHY,
        example(train={"loss": series([2.3, 1.0, 0.9, 0.7, 0.72, 0.6, 0.61, 0.55, 0.5, 0.5])}),
        example(loss=NOISY, train={"loss": series(NOISY.values.reshape(-1, 10).mean(axis=1))}),
    )
    sick = (example(loss=STUCK, train={"loss": series([2.3, 1.2, 2.2, 1.1, 2.3, 1.0, 2.2, 1.3, 2.1, 1.0, 2.2, 1.2])}),)

    swing: float = 0.03
    """Rise from one epoch to the next, as a share of the constant prediction's loss."""
    often: float = 0.3
    """Share of the later half's epochs that rise so."""
    beyond: float = 2.0
    """Variance of the steps from epoch to epoch over that which batches of different rows, or dropout, give them."""

    def examine(self, case: Case) -> Iterator[Sign]:
        curve_of_epochs = case.record.train.get("loss")
        if curve_of_epochs is None or len(curve_of_epochs) < 8:
            return
        values = curve_of_epochs.values[np.isfinite(curve_of_epochs.values)]
        late, data = values[len(values) // 2 :], case.facts.data
        whole = (data.target.baseline if data is not None and data.target is not None else None) or float(values.max())
        if len(late) <= 3:
            return
        rises = np.diff(late)
        share = float(np.mean(rises > self.swing * whole))
        chance = _variance_of_a_rise(case.record.loss.values, len(values))
        beyond = float(np.mean(rises**2)) / chance if chance else np.inf
        yield Sign(
            min(share / self.often, beyond / self.beyond),
            f"in {share:.0%} of the later epochs the loss rises by more than {self.swing:.0%} of a constant "
            f"prediction's (limit {self.often:.0%}); steps between epochs have {beyond:.2g} times chance's variance "
            f"(limit {self.beyond:g})",
            step=case.record.steps,
        )


def _variance_of_a_rise(losses: np.ndarray, epochs: int) -> float:
    """Variance that the difference of two epochs' means has by chance: from how the later losses differ by batch.

    Neighbours are compared (von Neumann 1941), for the losses fall meanwhile. An epoch of one batch is no sample.
    """
    batches, late = len(losses) / epochs, losses[len(losses) // 2 :]
    late = late[np.isfinite(late)]
    return float(np.mean(np.diff(late) ** 2)) / batches if batches >= 2 and len(late) > 1 else 0.0
