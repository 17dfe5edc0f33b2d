"""How the blame is shared: powers of ten that each factor of the gradient lost, and what each cause is worth."""

import math

from chainrule.doctor.case import Case
from chainrule.doctor.finding import Finding
from chainrule.record import Quantity

USUAL_AGREEMENT = 1.0
"""In units of the noise floor: below it, rows cancel more than chance has it."""


def deficits(case: Case) -> dict[str, float]:
    """Powers of ten that each factor takes from the first layer's gradient, beside activations and gains of 1.

    The logarithm of a product adds up: log gradient = log activation + log error + log agreement, and the error is the
    last layer's times every local derivative and weight gain between. Factors that lose nothing are left out.
    """
    layers = case.dense
    if not layers:
        return {}
    lost: dict[str, float] = {}

    def add(factor: str, value: float | None, usual: float = 1.0) -> None:
        if value is not None and value > 0 and math.isfinite(value):
            lost[factor] = lost.get(factor, 0.0) - math.log10(value / usual)

    for layer in layers[:-1]:
        add("local derivative", case.last(layer, Quantity.DERIVATIVE_GAIN))
        add("weights", case.last(layer, Quantity.WEIGHT_GAIN))
    add("input activation", case.last(layers[0], Quantity.ACTIVATION))
    add("loss derivative", case.last(layers[-1], Quantity.ERROR))
    standing = case.facts.standing
    if standing is not None and standing.rows:
        add("agreement", case.last(layers[0], Quantity.AGREEMENT), USUAL_AGREEMENT / math.sqrt(standing.rows))
    return {factor: value for factor, value in lost.items() if value > 0.3}


def shares(causes: list[Finding], lost: dict[str, float]) -> list[float]:
    """A share for each cause; together 1. What is proved outweighs what is only large; then powers of ten decide."""
    weights = []
    for cause in causes:
        size = math.log10(max(min(cause.ratio, 1e6), 1.0)) + 0.3
        weights.append(size + lost.get(cause.factor, 0.0) + (6.0 if cause.proof else 0.0))
    total = sum(weights)
    return [weight / total for weight in weights]
