"""CR107: inputs of which some hardly vary on their own, so that learning is slow along them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import COLUMNS, DATA, HEALTHY, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class IllConditionedInputs(Rule):
    code = "CR107"
    name = "ill-conditioned-inputs"
    severity = "note"
    factor = "input activation"
    why = (
        "Along strongly correlated columns the curvature is large, across them it is small: the learning rate "
        "must suit "
        "the first, and so many steps are needed for the second as the condition number says."
    )
    remedy = (
        Remedy("whiten-inputs", "Leave out columns that repeat others, or rotate them to principal components."),
        Remedy("change-optimizer", "Use Adam, which scales each weight's step.", {"optimizer": "Adam"}),
    )
    source = "LeCun, Kanter & Solla 1991: eigenvalues of covariance matrices; the limit is this project's"
    healthy = (HEALTHY,)
    sick = (example(data=replace(DATA, columns=replace(COLUMNS, condition=5e9))),)

    most: float = 1e6
    """Largest over smallest eigenvalue of the columns' correlations."""

    def examine(self, case: Case) -> Iterator[Sign]:
        data = case.facts.data
        if data is None or data.columns is None or data.columns.condition is None or data.columns.image:
            return
        condition = data.columns.condition
        yield Sign(
            condition / self.most, f"the columns' condition number is {condition:.2g} (limit {self.most:g})", "inputs"
        )
