"""CR304: the loss ends higher than it began."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CONVERGED, HEALTHY, curve, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class Diverging(Rule):
    code = "CR304"
    name = "diverging"
    severity = "error"
    factor = "learning rate"
    why = "Steps beyond 2 / curvature raise the loss, which makes the gradient larger and the next step longer."
    remedy = (
        Remedy("scale-learning-rate", "Lower the learning rate tenfold.", {"factor": 0.1}),
        Remedy("clip", "Clip the gradient's norm: clip_norm=1.0.", {"clip_norm": 1.0}),
        Remedy("check-sign", "Check the sign of the update and of the loss: training may climb."),
    )
    source = "Goodfellow, Bengio & Courville 2016, section 4.3.1"
    proof = True
    content = 2.0
    healthy = (HEALTHY, CONVERGED)
    sick = (example(loss=curve(2.3, 900.0)),)

    most: float = 1.0
    """Standings named "diverging"."""

    def examine(self, case: Case) -> Iterator[Sign]:
        yield Sign(self.most * (case.standing.name == "diverging"), case.standing.sentence, step=case.record.steps)
