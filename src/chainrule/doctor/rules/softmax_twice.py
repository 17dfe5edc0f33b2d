"""CR404: an activation in front of a loss that contains it already."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEAD, HEALTHY, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class SoftmaxTwice(Rule):
    code = "CR404"
    name = "softmax-twice"
    severity = "error"
    factor = "loss derivative"
    why = (
        "The loss applies softmax (or sigmoid) itself. Applied twice, its inputs lie between 0 and 1, so no "
        "class can get "
        "more than e / (e + C - 1) of the probability, and the error passes the derivative of softmax once more, which "
        "shrinks it about tenfold."
    )
    remedy = (Remedy("change-output", "Delete the last activation and keep the loss.", {"activation": None}),)
    source = "TheDeepChecker's program 'redundant softmax' re-run: .77-.87 instead of .98"
    proof = True
    content = 2.0
    explains = (
        "stalled-loss",
        "learning-rate-too-low",
        "vanishing-gradient",
        "too-few-steps",
        "overfit-fails",
        "cancelling-samples",
        "nothing-to-learn",
        "bounded-logits",
    )
    healthy = (HEALTHY, example(head=replace(HEAD, activation="log_softmax")))
    sick = (example(head=replace(HEAD, activation="softmax")),)

    all: float = 1.0
    """Found in the graph."""

    def examine(self, case: Case) -> Iterator[Sign]:
        head = case.facts.head
        if head is not None:
            twice = (head.loss == "cross_entropy" and head.activation == "softmax" and head.outputs != 1) or (
                head.loss == "binary_cross_entropy_with_logits" and head.activation == "sigmoid"
            )
            yield Sign(
                self.all * twice, f"the network ends in {head.activation}, and {head.loss} contains it", "output"
            )
