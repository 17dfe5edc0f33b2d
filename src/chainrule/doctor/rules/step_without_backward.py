"""CR611: updates without a backward pass."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record.facts import LoopFacts


@dataclass(frozen=True)
class StepWithoutBackward(Rule):
    code = "CR611"
    name = "step-without-backward"
    severity = "error"
    factor = "loop"
    why = "step() without backward() applies what stands in .grad from before, or nothing."
    remedy = (Remedy("order-of-calls", "Order: zero_grad(), backward(), step()."),)
    source = "PyTorch's documentation of autograd and optimizers"
    proof = True
    content = 2.0
    explains = ("stalled-loss", "overfit-fails", "zero-gradient")
    healthy = (HEALTHY, example(loop=LoopFacts(steps=50)))
    sick = (example(loop=LoopFacts(steps=50, step_without_backward=True), loss=STUCK),)

    most: float = 1.0
    """Times."""

    def examine(self, case: Case) -> Iterator[Sign]:
        loop = case.facts.loop
        if loop is not None:
            yield Sign(self.most * bool(loop.step_without_backward), "step() was called without backward()")
