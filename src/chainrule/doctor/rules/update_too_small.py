"""CR306: weights move by so small a share of themselves that the run cannot change them."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, everywhere, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import Quantity


@dataclass(frozen=True)
class UpdateTooSmall(Rule):
    code = "CR306"
    name = "update-too-small"
    severity = "warning"
    factor = "learning rate"
    why = (
        "An update is the learning rate times what the optimizer made of the gradient: beside weights 100,000 "
        "times larger it changes nothing within thousands of steps."
    )
    remedy = (
        Remedy("scale-learning-rate", "Raise the learning rate tenfold.", {"factor": 10.0}),
        Remedy("scale-learning-rate", "Or a hundredfold.", {"factor": 100.0}),
        Remedy(
            "change-optimizer",
            "Use Adam(1e-3), which makes steps independent of the gradient's size.",
            {"optimizer": "Adam", "lr": 1e-3},
        ),
    )
    source = "TheDeepChecker: log10 of update over weight in [-4, -1]; the limit here is below it"
    explains = (
        "stalled-loss",
        "overfit-fails",
    )
    unfinished = True
    healthy = (HEALTHY, example(measured=everywhere(update=(1e-4, 1e-4))))
    sick = (example(measured=everywhere(update=(1e-8, 1e-8)), loss=STUCK),)

    least: float = 3e-6
    """rms of the update over rms of the weights, in the layer where it is largest."""

    def examine(self, case: Case) -> Iterator[Sign]:
        ratios = []
        for layer in case.dense:
            update, weight = case.last(layer, Quantity.UPDATE), case.last(layer, Quantity.WEIGHT)
            if update is not None and weight:
                ratios.append(update / weight)
        if ratios and max(ratios) > 0:
            yield Sign(
                self.least / max(ratios), f"updates are at most {max(ratios):.2g} of the weights (limit {self.least:g})"
            )
