"""CR601: layers that are not trained."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, LAYERS, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class FrozenParameters(Rule):
    code = "CR601"
    name = "frozen-parameters"
    severity = "warning"
    factor = "loop"
    why = "A frozen weight gets no update; the error passes it on its way down, but nothing changes there."
    remedy = (Remedy("unfreeze", "Thaw them: requires_grad_(True).", {"requires_grad": True}),)
    source = "the definition of the update"
    explains = ("stalled-loss", "overfit-fails", "learning-rate-too-low")
    healthy = (HEALTHY,)
    sick = (example(layers=(replace(LAYERS[0], frozen=("0.weight",)), *LAYERS[1:]), loss=STUCK),)

    most: float = 1.0
    """Parameters."""

    def examine(self, case: Case) -> Iterator[Sign]:
        found = [name for layer in case.record.layers for name in layer.frozen]
        yield Sign(len(found) / self.most, f"not trained: {', '.join(found[:4])}", found[0] if found else "")
