"""CR114: the same inputs with different targets."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CONVERGED, DATA, HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class ConflictingRows(Rule):
    code = "CR114"
    name = "conflicting-rows"
    severity = "warning"
    factor = "none"
    why = "Rows with equal inputs have equal activations, so where they ask for different outputs their errors cancel."
    remedy = (
        Remedy("check-labels", "Check for columns that were lost, or labels that were joined to the wrong rows."),
    )
    source = "follows from gradient = input x error with equal inputs; the limit is this project's"
    content = 0.3
    explains = ("cancelling-samples", "nothing-to-learn", "overfit-fails")
    healthy = (HEALTHY, CONVERGED)
    sick = (example(data=replace(DATA, conflicting=0.4), loss=STUCK),)

    most: float = 0.2
    """Share of the rows."""

    def examine(self, case: Case) -> Iterator[Sign]:
        data = case.facts.data
        if data is not None and data.conflicting is not None:
            yield Sign(
                data.conflicting / self.most,
                f"{data.conflicting:.0%} of the rows occur again with another target (limit {self.most:.0%})",
                "rows",
            )
