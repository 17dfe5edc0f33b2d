"""CR604: gradients that are added to those of the steps before."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record.facts import LoopFacts


@dataclass(frozen=True)
class GradientsNeverZeroed(Rule):
    code = "CR604"
    name = "gradients-never-zeroed"
    severity = "error"
    factor = "loop"
    why = (
        "backward() adds to .grad. Without zero_grad() the update follows the sum of all gradients so far: "
        "momentum without friction, which overshoots."
    )
    remedy = (Remedy("zero-gradients", "Call optimizer.zero_grad() in every step, before backward()."),)
    source = "PyTorch's documentation of autograd and optimizers"
    proof = True
    content = 2.0
    explains = (
        "diverging",
        "oscillating-loss",
        "learning-rate-too-high",
        "not-finite",
        "exploding-gradient",
        "dead-units",
    )
    healthy = (HEALTHY, example(loop=LoopFacts(steps=50)))
    sick = (example(loop=LoopFacts(steps=50, never_zeroed=True), loss=STUCK),)

    most: float = 1.0
    """Times."""

    def examine(self, case: Case) -> Iterator[Sign]:
        loop = case.facts.loop
        if loop is not None:
            yield Sign(self.most * bool(loop.never_zeroed), f"gradients were never cleared in {loop.steps} steps")
