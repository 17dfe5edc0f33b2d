"""CR405: logits that an activation keeps from going where cross-entropy wants them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEAD, HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class BoundedLogits(Rule):
    code = "CR405"
    name = "bounded-logits"
    severity = "error"
    factor = "local derivative"
    why = (
        "Softmax needs logits of any size and sign. Behind relu, sigmoid or tanh they are bounded on one side or "
        "both: the error passes one more local derivative, which is 0 or small just where logits should move on."
    )
    remedy = (
        Remedy("change-output", "Delete the last activation: cross-entropy wants raw outputs.", {"activation": None}),
    )
    source = "Stack Overflow 47352366, 53700537 and 55328966"
    proof = True
    content = 0.9
    explains = (
        "stalled-loss",
        "learning-rate-too-low",
        "vanishing-gradient",
        "dead-layer",
        "dead-units",
        "zero-gradient",
        "overfit-fails",
        "predicted-fault",
        "saturated",
        "too-few-steps",
    )
    healthy = (HEALTHY,)
    sick = (example(head=replace(HEAD, activation="relu"), loss=STUCK),)

    all: float = 1.0
    """Found in the graph."""

    def examine(self, case: Case) -> Iterator[Sign]:
        head = case.facts.head
        if head is not None:
            logits = head.loss in ("cross_entropy", "binary_cross_entropy_with_logits")
            bounded = (logits and head.activation in ("relu", "tanh", "hardtanh", "softplus")) or (
                head.loss == "cross_entropy" and head.activation in ("sigmoid", "hardsigmoid")
            )
            yield Sign(self.all * bounded, f"{head.activation} in front of {head.loss}", "output")
