"""CR211: activations and errors are there, but rows cancel each other in every weight."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CONVERGED, DONE, HEALTHY, MOVING, STUCK, everywhere, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import Quantity


@dataclass(frozen=True)
class CancellingSamples(Rule):
    code = "CR211"
    name = "cancelling-samples"
    severity = "warning"
    factor = "agreement"
    why = (
        "The gradient is a mean over rows of activation x error. Both can be large and the mean 0, when half of "
        "the rows "
        "push a weight up and half push it down. At an optimum this is as it should be; here a short trial still gains."
    )
    remedy = (
        Remedy(
            "change-loss",
            "Use a loss whose error shrinks near the truth: mse or cross-entropy, not mae.",
            {"loss": "mse"},
        ),
        Remedy(
            "change-optimizer",
            "Use Adam: it enlarges steps along directions of small gradients.",
            {"optimizer": "Adam"},
        ),
        Remedy(
            "change-initialiser",
            "Draw first weights with a larger deviation, so that hidden units differ.",
            {"init": "kaiming_normal"},
        ),
    )
    source = "gradient = activation x error x agreement; noise floor 1 / sqrt(rows)"
    explains = (
        "stalled-loss",
        "overfit-fails",
    )
    content = 0.2
    course = True
    unfinished = True
    healthy = (HEALTHY, CONVERGED, example(measured=everywhere(agreement=(0.2, 0.001)), standing=DONE, loss=STUCK))
    sick = (
        example(measured=everywhere(agreement=(0.004, 0.003)), standing=replace(MOVING, gradient_norm=0.1), loss=STUCK),
    )

    least: float = 0.3
    """Agreement of the last layer, in units of its noise floor."""

    def examine(self, case: Case) -> Iterator[Sign]:
        standing = case.facts.standing
        if (
            standing is None
            or not case.dense
            or (standing.trial_gain or 0.0) < 0.05
            or case.standing.name == "descending"
        ):
            return
        layer = case.dense[-1]
        rho = case.last(layer, Quantity.AGREEMENT)
        if rho:
            floor = 1 / math.sqrt(standing.rows)
            yield Sign(
                self.least * floor / rho,
                f"rows agree to {rho:.2g} (noise floor {floor:.2g}, limit {self.least:g} of it), "
                f"and a short trial gains {standing.trial_gain:.0%}",
                layer.name,
            )
