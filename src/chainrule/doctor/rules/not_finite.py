"""CR212: a value became NaN or infinite."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record.facts import NotFinite


@dataclass(frozen=True)
class NotFiniteValue(Rule):
    code = "CR212"
    name = "not-finite"
    severity = "error"
    factor = "optimizer"
    why = (
        "An operation overflowed, or was given what it has no result for; NaN then spreads to every weight that "
        "depends on it."
    )
    remedy = (
        Remedy("scale-learning-rate", "Lower the learning rate tenfold.", {"factor": 0.1}),
        Remedy("clip", "Clip the gradient's norm: clip_norm=1.0.", {"clip_norm": 1.0}),
        Remedy("fix-pairing", "Give log and division what they can take: use the loss on logits."),
    )
    source = "IEEE 754; the first operation is found by running the step again, node by node"
    explains = ("diverging", "stalled-loss", "overfit-fails")
    proof = True
    content = 2.0
    healthy = (HEALTHY,)
    sick = (example(not_finite=NotFinite(step=7, operation="exp in layer '2'", layer="2")),)

    most: float = 1.0
    """Times."""

    def examine(self, case: Case) -> Iterator[Sign]:
        bad = case.facts.not_finite
        if bad is not None:
            where = f" first in {bad.operation}" if bad.operation else ""
            skipped = f"; {bad.skipped:,} updates were left out" if bad.skipped else ""
            yield Sign(self.most, f"not finite{where}{skipped}", bad.layer, bad.step)
        elif case.record.loss.values.size and not abs(case.record.loss.values[-1]) < float("inf"):
            yield Sign(self.most, "the loss is not finite", "", case.record.steps)
