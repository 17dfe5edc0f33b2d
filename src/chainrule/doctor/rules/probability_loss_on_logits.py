"""CR406: a loss that takes probabilities, fed numbers that are none."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEAD, HEALTHY, example
from chainrule.doctor.rule import Remedy, Rule, Sign

PROBABILITIES = ("binary_cross_entropy", "probability_cross_entropy", "share_cross_entropy")
"""Losses that take the logarithm of outputs."""


@dataclass(frozen=True)
class ProbabilityLossOnLogits(Rule):
    code = "CR406"
    name = "probability-loss-on-logits"
    severity = "error"
    factor = "loss derivative"
    why = (
        "The loss takes the logarithm of the output: outside 0 to 1 it is clipped, where its derivative is 0 and "
        "the error is lost, or not a number at all."
    )
    remedy = (
        Remedy(
            "change-loss",
            "Use the loss on logits: cross_entropy, binary_cross_entropy_with_logits.",
            {"loss": "with_logits"},
        ),
        Remedy("change-output", "Or end the network in sigmoid (two classes) or softmax.", {"activation": "sigmoid"}),
    )
    source = "Stack Overflow 68101077, 54282951 and 57407973; TheDeepChecker IPS7"
    proof = True
    content = 2.0
    explains = (
        "zero-gradient",
        "not-finite",
        "diverging",
        "stalled-loss",
        "overfit-fails",
        "vanishing-gradient",
        "dead-layer",
        "dead-units",
        "predicted-fault",
        "learning-rate-too-low",
        "learning-rate-too-high",
        "exploding-gradient",
        "small-initialisation",
        "initial-loss-high",
        "nothing-to-learn",
    )
    healthy = (
        HEALTHY,
        example(head=replace(HEAD, loss="binary_cross_entropy", activation="sigmoid", prediction_range=(0.1, 0.9))),
    )
    sick = (example(head=replace(HEAD, loss="binary_cross_entropy", outputs=1, prediction_range=(-2.0, 1.7))),)

    most: float = 0.001
    """How far outputs reach outside 0 to 1."""

    def examine(self, case: Case) -> Iterator[Sign]:
        head = case.facts.head
        if head is None or head.prediction_range is None:
            return
        low, high = head.prediction_range
        if head.loss == "share_cross_entropy":
            high = 1.0  # outputs are divided by their sum: only their sign matters
        if head.loss in PROBABILITIES and head.activation not in (
            "sigmoid",
            "softmax",
        ):
            # A relu's output 0 is clipped as well, and its error lost.
            outside = max(-low, high - 1.0, self.most if head.activation == "relu" else 0.0)
            yield Sign(
                outside / self.most,
                f"{head.loss} takes probabilities, the outputs go from {low:.3g} to {high:.3g}",
                "output",
            )
        elif head.loss == "nll" and head.activation != "log_softmax":
            yield Sign(
                max(high, 0.0) / self.most, f"nll takes log probabilities, the outputs go up to {high:.3g}", "output"
            )
