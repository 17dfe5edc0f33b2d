"""CR502: a network that cannot even learn a few rows by heart."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CONVERGED, HEALTHY, STUCK, TRIALS, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class Underfitting(Rule):
    code = "CR502"
    name = "overfit-fails"
    severity = "warning"
    factor = "none"
    why = (
        "With enough units any few rows can be learned by heart. Where even the best of several rates cannot, "
        "either an error cannot reach the weights, or the network is too small for what is asked."
    )
    remedy = (
        Remedy("widen-layer", "Make the hidden layers wider.", {"factor": 4}),
        Remedy("check-labels", "Check for equal inputs with different targets."),
    )
    source = "Karpathy 2019: A Recipe for Training Neural Networks: overfit one batch"
    content = 0.1
    healthy = (HEALTHY, CONVERGED)
    sick = (example(trials=replace(TRIALS, overfit_before=2.4, overfit_after=2.35, trained_loss=2.3), loss=STUCK),)

    most: float = 0.8
    """Loss left after training on the same few rows, as a share of the first."""

    def examine(self, case: Case) -> Iterator[Sign]:
        trials = case.facts.trials
        if trials is None or trials.overfit_after is None or not trials.overfit_before:
            return
        share = trials.overfit_after / trials.overfit_before
        yield Sign(
            share / self.most,
            f"after {trials.overfit_steps} steps on the same few rows {share:.0%} of the loss is left "
            f"(limit {self.most:.0%})",
        )
