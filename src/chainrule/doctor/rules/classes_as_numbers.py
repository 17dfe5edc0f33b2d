"""CR410: class indices learned as if they were amounts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import DATA, HEALTHY, NUMBERS, REGRESSION, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class ClassesAsNumbers(Rule):
    code = "CR410"
    name = "classes-as-numbers"
    severity = "note"
    factor = "loss derivative"
    why = (
        "With a squared error the classes 0, 1, 2 lie on a line: class 1 is then between 0 and 2, and the error of "
        "calling 2 a 0 is four times that of calling it a 1."
    )
    remedy = (
        Remedy(
            "change-loss",
            "If these are classes: one output a class, with loss='cross_entropy'.",
            {"loss": "cross_entropy", "outputs": "classes"},
        ),
    )
    source = "Bishop 2006, section 4.1.3"
    healthy = (HEALTHY, example(head=REGRESSION, data=replace(DATA, target=NUMBERS)))
    sick = (
        example(
            head=REGRESSION, data=replace(DATA, target=replace(NUMBERS, low=0.0, high=6.0, integers=True, distinct=7))
        ),
    )

    most: float = 20.0
    """Different whole numbers, from 0 on, that look like class indices."""

    def examine(self, case: Case) -> Iterator[Sign]:
        head, data = case.facts.head, case.facts.data
        if head is None or data is None or data.target is None or head.loss not in ("mse", "mae", "huber"):
            return
        target = data.target
        few = target.integers and target.width == 1 and target.distinct is not None and 2 < target.distinct <= self.most
        dense = few and target.low == 0 and target.high == (target.distinct or 0) - 1
        yield Sign(float(dense), f"the targets are the whole numbers 0 to {target.high:g}", "targets")
