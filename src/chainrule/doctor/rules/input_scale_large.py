"""CR101: inputs so large that they drive every layer behind them out of its range."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import COLUMNS, DATA, HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class InputScaleLarge(Rule):
    code = "CR101"
    name = "input-scale-large"
    severity = "error"
    factor = "input activation"
    why = (
        "The gradient of a first-layer weight is input x error. Large inputs make it, and the curvature along it "
        "(which "
        "grows with their square), large beside those of every other layer: a rate that is right there is far too high "
        "here, and sigmoid, tanh and softmax saturate at the first step."
    )
    remedy = (
        Remedy(
            "standardise-inputs",
            "Standardise the inputs: (x - mean) / std of each column of the training part.",
            {"per": "column"},
        ),
        Remedy("insert-normalisation", "Put nn.BatchNorm1d in front of the first layer.", {"at": "input"}),
    )
    source = "LeCun, Bottou, Orr & Müller 1998, section 4.3"
    explains = (
        "saturated",
        "exploding-gradient",
        "learning-rate-too-high",
        "dead-units",
        "dead-layer",
        "not-finite",
        "diverging",
        "initial-loss-high",
        "learning-rate-too-low",
        "stalled-loss",
        "overfit-fails",
        "update-too-small",
        "oscillating-loss",
        "input-uncentred",
        "uninformative-labels",
        "input-scale-uneven",
    )
    content = 0.9
    healthy = (HEALTHY, example(data=replace(DATA, columns=replace(COLUMNS, std=(8.0,) * 64))))
    sick = (example(data=replace(DATA, columns=replace(COLUMNS, mean=(33.0,) * 64, std=(78.0,) * 64)), loss=STUCK),)

    largest: float = 12.0
    """rms of the inputs: ten times a standardised column, and a little."""

    def examine(self, case: Case) -> Iterator[Sign]:
        data = case.facts.data
        if data is None or data.columns is None or data.integer_inputs or not data.columns.std:
            return
        columns = data.columns
        size = math.sqrt(sum(m * m + s * s for m, s in zip(columns.mean, columns.std, strict=True)) / len(columns.std))
        yield Sign(size / self.largest, f"the inputs have an rms of {size:.3g} (limit {self.largest:g})", "inputs")
