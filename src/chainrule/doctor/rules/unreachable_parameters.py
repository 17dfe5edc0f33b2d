"""CR602: parameters that the loss does not depend on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, LAYERS, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class UnreachableParameters(Rule):
    code = "CR602"
    name = "unreachable-parameters"
    severity = "error"
    factor = "loop"
    why = (
        "The chain rule needs a path from the loss to the weight. Here there is none, so the gradient is 0 "
        "whatever the data."
    )
    remedy = (Remedy("reconnect", "Use the layer in forward(), and do not detach what it gives."),)
    source = "the traced graph"
    proof = True
    content = 2.0
    explains = ("stalled-loss", "zero-gradient", "overfit-fails", "learning-rate-too-low")
    healthy = (HEALTHY,)
    sick = (
        example(layers=(replace(LAYERS[0], unreachable={"0.weight": "every path passes stop_gradient"}), *LAYERS[1:])),
    )

    most: float = 1.0
    """Parameters."""

    def examine(self, case: Case) -> Iterator[Sign]:
        found = [pair for layer in case.record.layers for pair in layer.unreachable.items()]
        loop = case.facts.loop
        found += [(name, "the path is cut, by detach or a conversion") for name in (loop.detached if loop else ())]
        for name, reason in found[:1] or [("", "")]:
            yield Sign(len(found) / self.most, f"{len(found)} parameters get no gradient; {name}: {reason}", name)
