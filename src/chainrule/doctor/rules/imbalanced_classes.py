"""CR110: almost all rows belong to one class, and training settled for it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CLASSES, DATA, HEALTHY, curve, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class ImbalancedClasses(Rule):
    code = "CR110"
    name = "imbalanced-classes"
    severity = "warning"
    factor = "data"
    why = (
        "Each row's error counts the same, so the sum over a batch is that of the common class, and predicting "
        "it always "
        "is already a small loss."
    )
    remedy = (
        Remedy(
            "weight-classes", "Weight the loss by the inverse of the class shares, or draw batches evenly by class."
        ),
    )
    source = "He & Garcia 2009; the limit is this project's"
    healthy = (HEALTHY, example(data=replace(DATA, target=replace(CLASSES, counts=(900, 500)))))
    sick = (
        example(data=replace(DATA, target=replace(CLASSES, counts=(1380, 20), baseline=0.075)), loss=curve(0.8, 0.074)),
    )

    most: float = 0.95
    """Share of the largest class."""

    def examine(self, case: Case) -> Iterator[Sign]:
        data = case.facts.data
        if data is None or data.target is None or sum(data.target.counts) == 0:
            return
        share = max(data.target.counts) / sum(data.target.counts)
        if len(data.target.counts) > 1:
            yield Sign(
                share / self.most, f"{share:.1%} of the rows are of one class (limit {self.most:.0%})", "targets"
            )
