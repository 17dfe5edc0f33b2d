"""CR503: the run is finished, and hardly better than a constant prediction."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CONVERGED, HEALTHY
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
    sick = (CONVERGED,)

    most: float = 0.3
    """Progress below which the question is what there is to learn."""

    def examine(self, case: Case) -> Iterator[Sign]:
        if case.standing.finished and case.standing.progress is not None:
            left = max(case.standing.progress, self.most / 100)
            yield Sign(
                self.most / left,
                f"finished at {case.standing.progress:.0%} below a constant prediction (limit {self.most:.0%})",
            )
