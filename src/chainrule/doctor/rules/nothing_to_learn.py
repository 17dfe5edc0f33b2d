"""CR503: the run is finished, and hardly better than a constant prediction."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CONVERGED, DATA, HEALTHY
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class NothingToLearn(Rule):
    code = "CR503"
    name = "nothing-to-learn"
    severity = "note"
    factor = "none"
    why = (
        "The gradient is within its sampling noise and short trials gain nothing: activations and errors are "
        "there, they only agree on nothing more. This is not a gradient problem."
    )
    remedy = (
        Remedy("check-labels", "Check that the inputs say something about the targets."),
        Remedy("widen-layer", "Try a larger network or other features.", {"factor": 4}),
    )
    source = "the standing: gradient against its noise, and what short trials gain"
    healthy = (HEALTHY,)
    sick = (
        CONVERGED,
        replace(CONVERGED, facts=replace(CONVERGED.facts, data=replace(DATA, rows=100_000, association=4.0))),
    )

    most: float = 0.3
    """Progress below which the question is what there is to learn."""
    associated: float = 1.0
    """How far inputs go with targets, over what chance reaches, from which on they tell something."""

    def examine(self, case: Case) -> Iterator[Sign]:
        if not case.standing.finished or case.standing.progress is None:
            return
        left = max(case.standing.progress, self.most / 100)
        evidence = f"finished at {case.standing.progress:.0%} below a constant prediction (limit {self.most:.0%})"
        told = 0.0 if case.facts.data is None else case.facts.data.association or 0.0
        if told >= self.associated:
            evidence += (
                f", though neighbours or products of columns go with the targets {told:.1f} times as far as chance"
            )
            yield Sign(self.most / left, evidence, remedy=(self.remedy[1],))
        else:
            yield Sign(self.most / left, evidence)
