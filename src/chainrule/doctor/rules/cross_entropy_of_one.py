"""CR403: cross-entropy over a single column, which is always 0."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEAD, HEALTHY, example
from chainrule.doctor.rule import Remedy, Rule, Sign

OVER_CLASSES = ("cross_entropy", "probability_cross_entropy", "share_cross_entropy", "nll")


@dataclass(frozen=True)
class CrossEntropyOfOne(Rule):
    code = "CR403"
    name = "cross-entropy-of-one"
    severity = "error"
    factor = "loss derivative"
    why = (
        "Cross-entropy over one class is -ln(softmax(z)) = -ln 1 = 0 for every row: its derivative softmax(z) - "
        "truth = 1 - 1 = 0, so every gradient is exactly 0."
    )
    remedy = (
        Remedy("change-output", "Give the network one output a class.", {"outputs": "classes"}),
        Remedy(
            "change-loss",
            "Or use loss='binary_cross_entropy_with_logits' with one output.",
            {"loss": "binary_cross_entropy_with_logits"},
        ),
    )
    source = "the derivative of cross-entropy"
    proof = True
    content = 2.0
    explains = (
        "zero-gradient",
        "stalled-loss",
        "overfit-fails",
        "softmax-twice",
        "nothing-to-learn",
        "predicted-fault",
        "learning-rate-too-low",
        "one-target",
        "targets-out-of-range",
        "uninformative-labels",
    )
    healthy = (HEALTHY,)
    sick = (example(head=replace(HEAD, outputs=1)),)

    all: float = 1.0
    """Proved."""

    def examine(self, case: Case) -> Iterator[Sign]:
        head = case.facts.head
        if head is not None:
            proved = head.loss in OVER_CLASSES and head.outputs == 1
            yield Sign(self.all * proved, f"{head.loss} over one output is 0 for every row", "output")
