"""CR603: parameters that no optimizer holds."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record.facts import LoopFacts


@dataclass(frozen=True)
class ParametersNotHeld(Rule):
    code = "CR603"
    name = "parameters-not-held"
    severity = "error"
    factor = "loop"
    why = "An optimizer moves the weights it was given: a gradient arrives at the others, and nothing is done with it."
    remedy = (Remedy("give-parameters", "Make the optimizer after the model is complete: optim(model.parameters())."),)
    source = "PyTorch's documentation of torch.optim"
    proof = True
    content = 2.0
    explains = ("frozen-parameters", "stalled-loss", "overfit-fails")
    healthy = (HEALTHY, example(loop=LoopFacts(steps=50)))
    sick = (example(loop=LoopFacts(steps=50, not_held=("2.weight",)), loss=STUCK),)

    most: float = 1.0
    """Times."""

    def examine(self, case: Case) -> Iterator[Sign]:
        loop = case.facts.loop
        if loop is not None:
            yield Sign(len(loop.not_held) / self.most, f"no optimizer holds {', '.join(loop.not_held[:4])}")
