"""CR610: every step on the same rows."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record.facts import LoopFacts


@dataclass(frozen=True)
class SameBatch(Rule):
    code = "CR610"
    name = "same-batch"
    severity = "error"
    factor = "loop"
    why = (
        "The gradient is that of these rows alone: they are learned by heart, and the rest of the data never has a say."
    )
    remedy = (
        Remedy("next-batch", "Take the next batch in every step; do not call next(iter(loader)) inside the loop."),
    )
    source = "PyTorch's documentation of autograd and optimizers"
    proof = True
    content = 2.0
    explains = ("overfitting",)
    healthy = (HEALTHY, example(loop=LoopFacts(steps=50)))
    sick = (example(loop=LoopFacts(steps=50, same_batch=True), loss=STUCK),)

    most: float = 1.0
    """Times."""

    def examine(self, case: Case) -> Iterator[Sign]:
        loop = case.facts.loop
        if loop is not None:
            yield Sign(self.most * bool(loop.same_batch), f"all {loop.steps} steps saw the same rows")
