"""CR104: inputs whose mean is far larger than what varies in them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from chainrule.doctor.case import Case
from chainrule.doctor.examples import COLUMNS, DATA, HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class InputUncentred(Rule):
    code = "CR104"
    name = "input-uncentred"
    severity = "error"
    factor = "input activation"
    why = (
        "With a mean far above the deviation, all rows push a unit's weights the same way: what tells rows apart is "
        "small beside what they share, the curvature along the mean is huge, and one step can shut a unit for all rows."
    )
    remedy = (
        Remedy(
            "standardise-inputs", "Subtract the mean of each column, then divide by its deviation.", {"per": "column"}
        ),
    )
    source = "LeCun, Bottou, Orr & Müller 1998, section 4.3"
    explains = (
        "dead-units",
        "dead-layer",
        "saturated",
        "learning-rate-too-high",
        "oscillating-loss",
        "stalled-loss",
        "overfit-fails",
        "learning-rate-too-low",
        "cancelling-samples",
        "initial-loss-high",
    )
    healthy = (HEALTHY, example(data=replace(DATA, columns=replace(COLUMNS, mean=(2.0,) * 64))))
    sick = (example(data=replace(DATA, columns=replace(COLUMNS, mean=(8.0,) * 64, std=(0.3,) * 64)), loss=STUCK),)

    most: float = 10.0
    """|mean| over deviation, in the median of the columns that vary."""

    def examine(self, case: Case) -> Iterator[Sign]:
        data = case.facts.data
        if data is None or data.columns is None or data.integer_inputs:
            return
        found = [abs(m) / s for m, s in zip(data.columns.mean, data.columns.std, strict=True) if s > 0]
        if found:
            middle = float(np.median(found))
            yield Sign(
                middle / self.most, f"the mean is {middle:.3g} times the deviation (limit {self.most:g})", "inputs"
            )
