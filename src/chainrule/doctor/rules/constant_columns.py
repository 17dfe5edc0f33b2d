"""CR105: input columns that never change, and so tell nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import COLUMNS, DATA, HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class ConstantColumns(Rule):
    code = "CR105"
    name = "constant-columns"
    severity = "error"
    factor = "data"
    why = (
        "A column that is the same in every row adds the same number to every row's pre-activation: it is a second "
        "bias."
    )
    remedy = (
        Remedy("drop-columns", "Check how the inputs are made: nearly nothing varies in them.", {"which": "constant"}),
    )
    source = "TheDeepChecker's check of constant features; the limit is this project's"
    explains = ("stalled-loss", "overfit-fails", "cancelling-samples", "nothing-to-learn")
    healthy = (HEALTHY, example(data=replace(DATA, columns=replace(COLUMNS, constant=(0, 32, 39)))))
    sick = (example(data=replace(DATA, columns=replace(COLUMNS, constant=tuple(range(62)))), loss=STUCK),)

    most: float = 0.9
    """Share of constant columns."""

    def examine(self, case: Case) -> Iterator[Sign]:
        data = case.facts.data
        if data is None or data.columns is None or not data.columns.std or data.looked_at < 2:
            return
        share = len(data.columns.constant) / len(data.columns.std)
        listed = ", ".join(map(str, data.columns.constant[:5]))
        yield Sign(
            share / self.most, f"{share:.0%} of the columns are constant (limit {self.most:.0%}): {listed}", "inputs"
        )
