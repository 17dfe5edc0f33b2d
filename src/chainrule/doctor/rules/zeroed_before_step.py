"""CR605: gradients that are cleared between backward() and step()."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record.facts import LoopFacts


@dataclass(frozen=True)
class ZeroedBeforeStep(Rule):
    code = "CR605"
    name = "zeroed-before-step"
    severity = "error"
    factor = "loop"
    why = "The update reads .grad, which is 0 by then: no weight moves."
    remedy = (Remedy("order-of-calls", "Order: zero_grad(), backward(), step()."),)
    source = "PyTorch's documentation of autograd and optimizers"
    proof = True
    content = 2.0
    explains = ("stalled-loss", "overfit-fails", "update-too-small", "zero-gradient")
    healthy = (HEALTHY, example(loop=LoopFacts(steps=50)))
    sick = (example(loop=LoopFacts(steps=50, zeroed_before_step=True), loss=STUCK),)

    most: float = 1.0
    """Times."""

    def examine(self, case: Case) -> Iterator[Sign]:
        loop = case.facts.loop
        if loop is not None:
            yield Sign(
                self.most * bool(loop.zeroed_before_step), f"gradients were cleared before step() in {loop.steps} steps"
            )
