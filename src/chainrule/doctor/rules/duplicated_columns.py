"""CR106: input columns that repeat another one."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import COLUMNS, DATA, HEALTHY, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class DuplicatedColumns(Rule):
    code = "CR106"
    name = "duplicated-columns"
    severity = "note"
    factor = "data"
    why = "Two equal columns get equal gradients, so they act as one column with twice the learning rate."
    remedy = (Remedy("drop-columns", "Remove one of each pair.", {"which": "duplicated"}),)
    source = "follows from gradient = input x error with equal inputs"
    healthy = (HEALTHY,)
    sick = (example(data=replace(DATA, columns=replace(COLUMNS, duplicated=((2, 7),)))),)

    most: float = 1.0
    """Pairs."""

    def examine(self, case: Case) -> Iterator[Sign]:
        data = case.facts.data
        if data is None or data.columns is None:
            return
        pairs = data.columns.duplicated
        listed = ", ".join(f"{i} = {j}" for i, j in pairs[:3])
        yield Sign(len(pairs) / self.most, f"{len(pairs)} pairs of equal columns: {listed}", "inputs")
