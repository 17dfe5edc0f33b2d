"""CR111: all rows have the same target."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CLASSES, DATA, HEALTHY, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class OneClass(Rule):
    code = "CR111"
    name = "one-target"
    severity = "error"
    factor = "data"
    why = "When every target is the same, the bias alone reaches it, and no input is needed: every error agrees."
    remedy = (Remedy("check-labels", "Check how the targets are made: there is one value only."),)
    source = "Stack Overflow 59325381: constant labels"
    proof = True
    content = 2.0
    explains = ("nothing-to-learn", "imbalanced-classes", "uninformative-labels")
    healthy = (HEALTHY,)
    sick = (example(data=replace(DATA, target=replace(CLASSES, low=3, high=3, counts=(0, 0, 0, 1400), std=0.0))),)

    most: float = 1.0
    """Share of the rows."""
    least: float = 1000.0
    """Rows, or all of them, that must have been looked at."""

    def examine(self, case: Case) -> Iterator[Sign]:
        data = case.facts.data
        if data is None or data.target is None or data.looked_at < min(data.rows, self.least):
            return
        same = data.target.std == 0 and data.target.low == data.target.high
        yield Sign(self.most if same else 0.0, f"all {data.rows:,} targets are {data.target.low:g}", "targets")
