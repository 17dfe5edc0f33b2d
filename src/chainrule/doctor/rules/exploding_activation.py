"""CR214: functions that grow faster than their input, one upon another."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, LAYERS, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign

GROWING = ("exp", "expm1", "square", "pow")
"""Functions behind a layer whose slope grows without limit."""


@dataclass(frozen=True)
class ExplodingActivation(Rule):
    code = "CR214"
    name = "exploding-activation"
    severity = "error"
    factor = "local derivative"
    why = (
        "The local derivative of exp is exp: a unit at 5 multiplies the error by 148 and passes 148 on, which the next "
        "one puts into an exponent again. Two or three layers overflow before any update is made."
    )
    remedy = (
        Remedy("change-activation", "Use nn.SELU or nn.ReLU in the hidden layers.", {"activation": "SELU"}),
        Remedy("insert-normalisation", "Put nn.BatchNorm1d behind each hidden layer.", {"at": "hidden"}),
    )
    source = "AutoTrainer's programs with stacked exponentials, which overflow at the first batch in every seed"
    explains = (
        "not-finite",
        "diverging",
        "exploding-gradient",
        "predicted-fault",
        "saturated",
        "vanishing-gradient",
        "learning-rate-too-high",
        "learning-rate-too-low",
        "too-few-steps",
        "initial-loss-high",
        "oscillating-loss",
        "stalled-loss",
        "overfit-fails",
    )
    content = 0.5
    healthy = (HEALTHY, example(layers=(*LAYERS[:-2], replace(LAYERS[-2], activation="exp"), LAYERS[-1]), loss=STUCK))
    sick = (example(layers=(*(replace(x, activation="exp") for x in LAYERS[:-1]), LAYERS[-1]), loss=STUCK),)

    least: float = 2.0
    """Hidden layers with such a function."""

    def examine(self, case: Case) -> Iterator[Sign]:
        found = [x for x in case.hidden if x.activation in GROWING]
        if found:
            yield Sign(
                len(found) / self.least,
                f"{found[0].activation} stands behind {len(found)} hidden layers (from {self.least:g} on)",
                found[0].name,
            )
