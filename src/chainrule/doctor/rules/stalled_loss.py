"""CR305: the loss stays where it is though there is something left to gain; no other rule says why."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CONVERGED, HEALTHY, MOVING, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class StalledLoss(Rule):
    code = "CR305"
    name = "stalled-loss"
    severity = "warning"
    factor = "optimizer"
    why = (
        "The product of the factors is there but does not lower the loss: steps too small or too large, or a "
        "direction along which many small gains are left."
    )
    remedy = (
        Remedy("change-optimizer", "Use Adam(1e-3).", {"optimizer": "Adam", "lr": 1e-3}),
        Remedy("scale-learning-rate", "Try ten times the learning rate, then a tenth.", {"factor": 10.0}),
        Remedy("change-initialiser", "Start from other first weights.", {"init": "auto"}),
    )
    source = "the standing: gradient against its noise, and what short trials gain"
    content = 0.5
    course = True
    unfinished = True
    healthy = (HEALTHY, CONVERGED)
    sick = (
        example(standing=replace(MOVING, trial_gain=0.2), loss=STUCK),
        example(standing=replace(MOVING, trial_gain=0.0, same_trial_gain=0.0), loss=STUCK),
    )

    most: float = 1.0
    """Standings named "stalled", "plateau" or "saddle", in which a trial gains, every gradient is 0 or nothing was
    learned of rows that could be learned by heart."""

    def examine(self, case: Case) -> Iterator[Sign]:
        standing = case.facts.standing
        if standing is None:
            return
        gains = (standing.trial_gain or 0.0) >= 0.1 or standing.zero_gradient or case.standing.idle
        stuck = case.standing.name in ("stalled", "plateau", "saddle")
        yield Sign(
            self.most * (stuck and gains),
            case.standing.sentence,
            step=case.record.steps,
            factor="none" if case.standing.idle else None,
        )
