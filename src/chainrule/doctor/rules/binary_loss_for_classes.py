"""CR411: classes that exclude each other, each judged by itself."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CLASSES, DATA, HEAD, HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign

BINARY = replace(HEAD, loss="binary_cross_entropy_with_logits")


def _rows(low: float, high: float, width: int = 10) -> object:
    return replace(DATA, target=replace(CLASSES, kind="labels", width=width, low=0, high=1, row_sums=(low, high)))


@dataclass(frozen=True)
class BinaryLossForClasses(Rule):
    code = "CR411"
    name = "binary-loss-for-classes"
    severity = "warning"
    factor = "loss derivative"
    why = (
        "Every row has one 1 among C outputs, so an output learns C - 1 times oftener that it is 0. The error of all "
        "together is C times as small, and an accuracy counted by output stands at 1 - 1/C while nothing is learned."
    )
    remedy = (
        Remedy(
            "change-loss",
            "Use loss='cross_entropy' with class indices, and end the network in the last nn.Linear.",
            {"loss": "cross_entropy"},
        ),
    )
    source = "Stack Overflow 58333926 and 58609115: an accuracy of 0.9 and 0.986 for networks that know nothing"
    explains = ("learning-rate-too-low", "too-few-steps", "stalled-loss", "overfit-fails", "nothing-to-learn")
    content = 0.9
    healthy = (HEALTHY, example(head=BINARY, data=_rows(0, 3), loss=STUCK))  # type: ignore[arg-type]
    sick = (example(head=BINARY, data=_rows(1, 1), loss=STUCK),)  # type: ignore[arg-type]

    least: float = 3.0
    """Classes."""

    def examine(self, case: Case) -> Iterator[Sign]:
        head, data = case.facts.head, case.facts.data
        if head is None or data is None or data.target is None or not head.loss.startswith("binary_cross_entropy"):
            return
        target = data.target
        if target.row_sums == (1.0, 1.0) and target.integers:
            yield Sign(
                target.width / self.least,
                f"each row has one 1 among {target.width} targets (limit {self.least:g}), and {head.loss} judges each "
                f"by itself",
                "output",
            )
