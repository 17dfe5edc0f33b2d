"""CR607: a loss that no graph joins to the parameters."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record.facts import LoopFacts


@dataclass(frozen=True)
class LossWithoutGraph(Rule):
    code = "CR607"
    name = "loss-without-graph"
    severity = "error"
    factor = "loop"
    why = (
        "The chain rule follows the graph from the loss: a loss made from numbers (.item(), NumPy, no_grad) has "
        "none, so nothing can be carried back."
    )
    remedy = (
        Remedy(
            "reconnect",
            "Compute the loss from the model's output itself, outside no_grad() and without .item() or .detach().",
        ),
    )
    source = "PyTorch's documentation of autograd and optimizers"
    proof = True
    content = 2.0
    explains = ("unreachable-parameters", "stalled-loss", "overfit-fails", "zero-gradient")
    healthy = (HEALTHY, example(loop=LoopFacts(steps=50)))
    sick = (example(loop=LoopFacts(steps=50, loss_without_graph=True), loss=STUCK),)

    most: float = 1.0
    """Times."""

    def examine(self, case: Case) -> Iterator[Sign]:
        loop = case.facts.loop
        if loop is not None:
            yield Sign(self.most * bool(loop.loss_without_graph), "the loss has no path to any parameter")
