"""CR408: prediction and target of different shapes, which were broadcast against each other."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, REGRESSION, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class ShapesBroadcast(Rule):
    code = "CR408"
    name = "shapes-broadcast"
    severity = "error"
    factor = "loss derivative"
    why = (
        "[n, 1] against [n] becomes [n, n]: each prediction is compared with every target, so its error is the "
        "mean of all rows' and every row is drawn to the mean."
    )
    remedy = (
        Remedy(
            "reshape-targets", "Give the targets the predictions' shape: y.reshape(-1, 1).", {"shape": "prediction"}
        ),
    )
    source = "NumPy's broadcasting rules"
    proof = True
    content = 2.0
    explains = (
        "stalled-loss",
        "overfit-fails",
        "uninformative-labels",
        "cancelling-samples",
        "nothing-to-learn",
        "learning-rate-too-low",
    )
    healthy = (HEALTHY,)
    sick = (example(head=replace(REGRESSION, broadcast=((64, 1), (64,)))),)

    most: float = 1.0
    """Shapes that differ."""

    def examine(self, case: Case) -> Iterator[Sign]:
        head = case.facts.head
        if head is not None:
            shapes = head.broadcast or ((), ())
            yield Sign(
                self.most * (head.broadcast is not None), f"prediction {shapes[0]}, target {shapes[1]}", "output"
            )
