"""CR210: every gradient is exactly 0, though the loss is not."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CONVERGED, HEALTHY, MOVING, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class ZeroGradient(Rule):
    code = "CR210"
    name = "zero-gradient"
    severity = "error"
    factor = "loss derivative"
    why = (
        "Where the error at the output is exactly 0 for every row, each factor it is multiplied with below is "
        "multiplied with 0: no weight can ever move, whatever the rate."
    )
    remedy = (
        Remedy(
            "fix-pairing",
            "Fit the last activation to the loss: outputs that are clipped, dead or fixed have derivative 0.",
        ),
        Remedy(
            "redraw",
            "Draw other first weights, or make narrow layers wider: this may be the seed's fault.",
            {"seed": 1},
        ),
    )
    source = "16 of 96 re-run faulty programs have it from step 0"
    explains = ("stalled-loss", "overfit-fails", "learning-rate-too-low", "update-too-small")
    healthy = (HEALTHY, CONVERGED)
    sick = (example(standing=replace(MOVING, gradient_norm=0.0, gradient_noise=0.0, zero_gradient=True), loss=STUCK),)
    unfinished = True

    all: float = 1.0
    """Share of the gradients."""

    def examine(self, case: Case) -> Iterator[Sign]:
        standing = case.facts.standing
        if standing is not None:
            yield Sign(self.all * standing.zero_gradient, f"every gradient is 0 at a loss of {standing.loss:.3g}")
