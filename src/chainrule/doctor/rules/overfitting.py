"""CR501: the validation loss rises while the training loss falls."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, TRAINING, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import Series, series

RISING = {"loss": series([2.0, 1.0, 0.6, 0.7, 0.9, 1.4])}


@dataclass(frozen=True)
class Overfitting(Rule):
    code = "CR501"
    name = "overfitting"
    severity = "warning"
    factor = "none"
    why = (
        "The gradient of the training loss does its work; what it learns at the end holds for these rows only. No "
        "gradient is at fault."
    )
    remedy = (
        Remedy("early-stopping", "Stop early: cr.fit(..., early_stopping=10).", {"early_stopping": 10}),
        Remedy("more-data", "Use more rows, augmentation, dropout or decay."),
    )
    source = (
        "Prechelt 1998: Early Stopping - But When?, for the loss above its lowest; Goodfellow, Bengio & Courville "
        "2016, section 5.2, for the gap; the limits are this project's"
    )
    content = 2.0
    course = True
    healthy = (
        HEALTHY,
        example(validation={"loss": series([2.0, 1.0, 0.6, 0.5, 0.5, 0.52])}),
        example(validation={"loss": series([2.0, 0.4, 0.1, 0.06, 0.08, 0.1])}),
        example(validation=RISING, training=replace(TRAINING, best_kept=True)),
    )
    sick = (
        example(validation=RISING),
        example(
            validation={"loss": series([2.4, 1.9, 1.9, 1.9, 1.9])}, train={"loss": series([2.4, 0.5, 0.1, 0.05, 0.01])}
        ),
    )

    most: float = 0.1
    """Rise of the validation loss above its lowest, as a share of the constant prediction's loss."""
    above: float = 0.2
    """The same, as a share of the lowest."""
    gap: float = 0.5
    """Validation loss above the training loss at the end, as a share of the constant prediction's loss."""

    def examine(self, case: Case) -> Iterator[Sign]:
        held, data, training = case.record.validation.get("loss"), case.facts.data, case.facts.training
        if held is None or (training is not None and training.best_kept):
            return
        steps, losses = _smooth(held)
        if len(losses) < 4 or losses.min() <= 0:
            return
        known = None if data is None or data.target is None else data.target.baseline
        best = int(np.argmin(losses))
        lowest, rise = float(losses[best]), float(losses[-1] - losses[best])
        whole = known or float(losses[0])
        yield Sign(
            min(rise / whole / self.most, rise / lowest / self.above),
            f"the validation loss is {losses[-1]:.3g}, by {rise / whole:.0%} of a constant prediction's loss above its "
            f"lowest of {lowest:.3g} at step {steps[best]:,} (limit {self.most:.0%})",
            step=int(steps[best]),
        )
        trained = case.record.train.get("loss")
        if trained is not None and len(trained):
            gap = float(losses[-1] - trained.values[-1])
            yield Sign(
                gap / whole / self.gap,
                f"the validation loss is {losses[-1]:.3g}, by {gap / whole:.0%} of a constant prediction's loss above "
                f"the training loss of {trained.values[-1]:.3g} (limit {self.gap:.0%})",
                step=int(steps[best]),
            )


def _smooth(curve: Series) -> tuple[np.ndarray, np.ndarray]:
    """Steps and means over a tenth of the epochs each, as they go on: one lucky epoch makes no lowest loss."""
    finite = np.isfinite(curve.values)
    values, steps = curve.values[finite], curve.steps[finite]
    width = max(len(values) // 10, 1)
    if not len(values):
        return steps, values
    return steps[width - 1 :], np.convolve(values, np.full(width, 1 / width), mode="valid")
