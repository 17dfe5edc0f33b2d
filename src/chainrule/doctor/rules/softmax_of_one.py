"""CR402: softmax over a single output, which is always 1."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEAD, HEALTHY, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class SoftmaxOfOne(Rule):
    code = "CR402"
    name = "softmax-of-one"
    severity = "error"
    factor = "loss derivative"
    why = (
        "softmax(z) = e^z / e^z = 1 for one output, whatever z is: its derivative s (1 - s) = 1 x 0 = 0, so the "
        "error at z is exactly 0 for every row and so is every gradient. This is a proof, not a guess."
    )
    remedy = (
        Remedy(
            "change-output",
            "For two classes: end in one logit with loss='binary_cross_entropy_with_logits'.",
            {"activation": None, "loss": "binary_cross_entropy_with_logits"},
        ),
        Remedy("change-output", "For numbers: leave out the softmax.", {"activation": None}),
    )
    source = "the derivative of softmax"
    proof = True
    content = 2.0
    explains = (
        "zero-gradient",
        "stalled-loss",
        "overfit-fails",
        "targets-out-of-range",
        "learning-rate-too-low",
        "nothing-to-learn",
        "predicted-fault",
        "vanishing-gradient",
        "uninformative-labels",
    )
    healthy = (HEALTHY, example(head=replace(HEAD, activation="softmax", loss="mse")))
    sick = (example(head=replace(HEAD, activation="softmax", outputs=1, loss="mse")),)

    all: float = 1.0
    """Proved."""

    def examine(self, case: Case) -> Iterator[Sign]:
        head = case.facts.head
        if head is not None:
            proved = head.activation in ("softmax", "log_softmax") and head.outputs == 1
            yield Sign(
                self.all * proved, "softmax over one output is 1 for every row: the error is identically 0", "output"
            )
