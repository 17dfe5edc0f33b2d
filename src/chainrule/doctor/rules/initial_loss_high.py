"""CR409: a first loss far above that of not knowing anything."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, TRIALS, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class InitialLossHigh(Rule):
    code = "CR409"
    name = "initial-loss-high"
    severity = "warning"
    factor = "weights"
    why = (
        "Indifferent outputs give ln C. A first loss far above it means that the first weights are confident and "
        "wrong: the first steps only undo that, and can shut units on the way."
    )
    remedy = (
        Remedy("change-initialiser", "Initialise with the defaults.", {"init": "auto"}),
        Remedy("standardise-inputs", "Standardise the inputs.", {"per": "column"}),
    )
    source = "Karpathy 2019: A Recipe for Training Neural Networks; the limit is this project's"
    content = 0.5
    healthy = (HEALTHY, example(trials=replace(TRIALS, initial_loss=4.0)))
    sick = (example(trials=replace(TRIALS, initial_loss=95.0), loss=STUCK),)

    most: float = 5.0
    """Initial loss over ln C."""

    def examine(self, case: Case) -> Iterator[Sign]:
        trials, data = case.facts.trials, case.facts.data
        if trials is None or trials.initial_loss is None or not trials.expected_loss or data is None:
            return
        if data.target is not None and data.target.kind in ("classes", "labels", "probabilities"):
            ratio = trials.initial_loss / trials.expected_loss
            yield Sign(
                ratio / self.most,
                f"the first loss is {trials.initial_loss:.3g}, {ratio:.2g} times that of indifferent "
                f"outputs (limit {self.most:g})",
            )
