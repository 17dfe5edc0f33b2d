"""CR606: training steps in evaluation mode."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record.facts import LoopFacts


@dataclass(frozen=True)
class EvaluationMode(Rule):
    code = "CR606"
    name = "evaluation-mode-left-on"
    severity = "error"
    factor = "loop"
    why = (
        "Dropout is off and batch normalisation uses its stored statistics, which then never learn the data: what "
        "is trained is another function."
    )
    remedy = (Remedy("train-mode", "Call model.train() before the training steps, after each evaluation."),)
    source = "PyTorch's documentation of autograd and optimizers"
    proof = True
    content = 2.0
    explains = ("overfitting", "diverging", "stalled-loss", "overfit-fails")
    healthy = (HEALTHY, example(loop=LoopFacts(steps=50)))
    sick = (example(loop=LoopFacts(steps=50, evaluation_mode=True), loss=STUCK),)

    most: float = 1.0
    """Times."""

    def examine(self, case: Case) -> Iterator[Sign]:
        loop = case.facts.loop
        if loop is not None:
            yield Sign(self.most * bool(loop.evaluation_mode), "training steps ran in evaluation mode")
