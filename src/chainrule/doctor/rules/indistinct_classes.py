"""CR115: classes that the inputs do not tell apart, though they tell them from all others."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import DATA, HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import facts

MIXED = facts.IndistinctClasses(classes=(1, 2, 3), told=0.02, merged=0.95)


@dataclass(frozen=True)
class IndistinctClasses(Rule):
    code = "CR115"
    name = "indistinct-classes"
    severity = "warning"
    factor = "none"
    why = (
        "Rows that lie among each other ask for different outputs, so their errors cancel in every weight's sum: the "
        "loss of these classes stays, or rows are learned by heart. No gradient is at fault: other classes are learned."
    )
    remedy = (
        Remedy("check-labels", "Check how rows of these classes got their labels: they look as if drawn by chance."),
        Remedy("check-labels", "If they are right: make one class of them, or add inputs that tell them apart."),
    )
    source = (
        "Cover & Hart 1967: the nearest neighbour errs at most twice as often as the best rule; Cohen 1960, and Landis "
        "& Koch 1977 for the limits; Northcutt, Jiang & Chuang 2021 for labels that are noise in some classes"
    )
    content = 2.0
    explains = (
        "cancelling-samples",
        "stalled-loss",
        "oscillating-loss",
        "overfitting",
        "too-few-steps",
        "nothing-to-learn",
    )
    healthy = (
        HEALTHY,
        example(data=replace(DATA, indistinct=replace(MIXED, told=0.5))),
        example(data=replace(DATA, indistinct=replace(MIXED, merged=0.4))),
    )
    sick = (example(data=replace(DATA, indistinct=MIXED), loss=STUCK),)

    told: float = 0.2
    """Cohen's kappa of a row's class and its nearest neighbour's, within these classes."""
    merged: float = 0.6
    """The same of all rows, with these classes taken as one: what the inputs tell otherwise."""

    def examine(self, case: Case) -> Iterator[Sign]:
        data = case.facts.data
        if data is None or data.indistinct is None:
            return
        found = data.indistinct
        yield Sign(
            min(self.told / max(found.told, self.told / 100), found.merged / self.merged),
            f"nearest neighbours tell classes {', '.join(map(str, found.classes))} from each other with a kappa of "
            f"{max(found.told, 0.0):.2f} (0 is chance; limit {self.told:g}), and with these as one all classes with "
            f"{found.merged:.2f} (limit {self.merged:g})",
            "labels",
        )
