"""CR205: sigmoid or tanh units so far out that their slope is gone."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import Quantity


@dataclass(frozen=True)
class Saturated(Rule):
    code = "CR205"
    name = "saturated"
    severity = "error"
    factor = "local derivative"
    why = (
        "Far from 0 sigmoid and tanh are flat: the local derivative is near 0, so the error is cut at these units, and "
        "since the weights feeding them hardly move, they stay there."
    )
    remedy = (
        Remedy("change-initialiser", "Initialise with nn.XavierNormal.", {"init": "xavier_normal"}),
        Remedy("standardise-inputs", "Standardise the inputs.", {"per": "column"}),
        Remedy("change-activation", "Use nn.ReLU in the hidden layers.", {"activation": "ReLU"}),
        Remedy(
            "scale-learning-rate", "Lower the learning rate tenfold, if it happened during training.", {"factor": 0.1}
        ),
    )
    source = "Glorot & Bengio 2010, section 3; the share counts slopes below 5 % of the steepest"
    explains = (
        "vanishing-gradient",
        "stalled-loss",
        "overfit-fails",
        "learning-rate-too-low",
        "cancelling-samples",
        "update-too-small",
        "too-few-steps",
        "zero-gradient",
    )
    content = 0.5
    healthy = (HEALTHY, example(measured={"0": {Quantity.SATURATED: (0.05, 0.6)}}))
    sick = (example(measured={"0": {Quantity.SATURATED: (0.8, 0.8)}}, loss=STUCK),)

    at_first: float = 0.5
    """Share of entries at the first weights."""
    most: float = 0.85
    """Share of entries later."""

    learns: float = 0.25
    """Progress from which on saturated first weights are forgiven to a loss that falls."""
    chain: float = 3.0
    """Powers of ten lost in all local derivatives, from which on the saturated layers must have lost half of them."""

    def examine(self, case: Case) -> Iterator[Sign]:
        learns = case.standing.name == "descending" and case.progress >= self.learns
        for layer in case.hidden:
            for step, share in case.values(layer, Quantity.SATURATED):
                if learns and step == 0:
                    continue  # it began saturated, and got away
                limit = self.at_first if step == 0 else self.most
                yield Sign(
                    share / limit * self._part(case, step, limit),
                    f"{share:.0%} of {layer.activation} entries have lost 95 % of their slope (limit {limit:.0%})",
                    layer.name,
                    step,
                )

    def _part(self, case: Case, step: int, limit: float) -> float:
        """Share of what all local derivatives took from the error that saturated layers took; 1 where little was."""
        lost = own = 0.0
        for layer in case.hidden:
            gain = dict(case.values(layer, Quantity.DERIVATIVE_GAIN)).get(step)
            if gain and gain < 1:
                lost -= math.log10(gain)
                own -= math.log10(gain) * (dict(case.values(layer, Quantity.SATURATED)).get(step, 0.0) >= limit)
        return 1.0 if lost < self.chain or own >= 0.5 * lost else own / lost
