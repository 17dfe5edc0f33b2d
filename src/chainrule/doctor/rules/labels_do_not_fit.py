"""CR407: outputs that must add up to 1 for targets that do not."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import DATA, HEAD, HEALTHY, NUMBERS, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class LabelsDoNotFit(Rule):
    code = "CR407"
    name = "softmax-for-several-labels"
    severity = "error"
    factor = "loss derivative"
    why = (
        "Softmax shares 1 among the outputs, so rows with several labels or none leave an error that cannot go "
        "away, and raising one output lowers the others."
    )
    remedy = (
        Remedy(
            "change-output",
            "Use one sigmoid a label: raw outputs with loss='binary_cross_entropy_with_logits'.",
            {"activation": None, "loss": "binary_cross_entropy_with_logits"},
        ),
    )
    source = "Stack Overflow 38648195"
    proof = True
    content = 2.0
    explains = ("stalled-loss", "overfit-fails", "learning-rate-too-low", "too-few-steps", "nothing-to-learn")
    healthy = (
        HEALTHY,
        example(
            head=replace(HEAD, activation="softmax", loss="mse"),
            data=replace(DATA, target=replace(NUMBERS, kind="probabilities", width=3, row_sums=(1.0, 1.0))),
        ),
    )
    sick = (
        example(
            head=replace(HEAD, activation="softmax", loss="mse", outputs=3),
            data=replace(DATA, target=replace(NUMBERS, kind="labels", width=3, row_sums=(0.0, 3.0))),
        ),
    )

    most: float = 0.1
    """How far the sums of target rows are from 1."""

    def examine(self, case: Case) -> Iterator[Sign]:
        head, data = case.facts.head, case.facts.data
        if head is None or data is None or data.target is None or data.target.row_sums is None:
            return
        if (head.activation == "softmax" and head.loss != "cross_entropy") or (
            head.loss == "cross_entropy" and data.target.kind != "classes"
        ):
            low, high = data.target.row_sums
            yield Sign(
                max(1 - low, high - 1) / self.most,
                f"rows of targets add up to {low:.3g} ... {high:.3g}, softmax to 1",
                "output",
            )
