"""CR412: yes or no, answered by a rectified output."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CLASSES, DATA, HEALTHY, REGRESSION, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign

LABELS = replace(DATA, target=replace(CLASSES, kind="labels", low=0, high=1, counts=(700, 700)))


@dataclass(frozen=True)
class ReluForLabels(Rule):
    code = "CR412"
    name = "relu-for-labels"
    severity = "error"
    factor = "local derivative"
    why = (
        "Where the output unit is below 0 its local derivative is 0, so that a row answered with no when yes was right "
        "sends back nothing; above 1 the answer is no probability, and being surer than sure is punished."
    )
    remedy = (
        Remedy(
            "change-loss",
            "Remove the last activation and use loss='binary_cross_entropy_with_logits'.",
            {"loss": "binary_cross_entropy_with_logits"},
        ),
    )
    source = "Stack Overflow 44758894, re-run: accuracy .76 to .89 with a rectified output, .95 with a sigmoid"
    explains = (
        "dead-units",
        "dead-layer",
        "zero-gradient",
        "stalled-loss",
        "overfit-fails",
        "learning-rate-too-low",
        "too-few-steps",
        "predicted-fault",
    )
    content = 0.9
    healthy = (HEALTHY, example(head=replace(REGRESSION, activation="sigmoid"), data=LABELS, loss=STUCK))
    sick = (example(head=replace(REGRESSION, activation="relu"), data=LABELS, loss=STUCK),)

    all: float = 1.0
    """Found in the graph."""

    def examine(self, case: Case) -> Iterator[Sign]:
        head, data = case.facts.head, case.facts.data
        if head is None or data is None or data.target is None or data.target.kind not in ("labels", "probabilities"):
            return
        yield Sign(
            self.all * (head.activation == "relu" and head.loss in ("mse", "mae", "huber")),
            f"the targets are 0 and 1, {head.activation} gives 0 to infinity, and {head.loss} compares them",
            "output",
        )
