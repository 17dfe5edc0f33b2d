"""CR102: one input column is so much larger than the others that it alone is learned from."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from chainrule.doctor.case import Case
from chainrule.doctor.examples import COLUMNS, DATA, HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class InputScaleUneven(Rule):
    code = "CR102"
    name = "input-scale-uneven"
    severity = "error"
    factor = "input activation"
    why = (
        "The gradient of a first-layer weight is input x error with the same error for all columns, so a column "
        "that is "
        "1000 times larger gets 1000 times the gradient, and a rate that is safe for it leaves the others where "
        "they are."
    )
    remedy = (
        Remedy(
            "standardise-inputs",
            "Standardise the inputs: (x - mean) / std of each column of the training part.",
            {"per": "column"},
        ),
    )
    source = "LeCun, Bottou, Orr & Müller 1998, section 4.3"
    explains = (
        "saturated",
        "exploding-gradient",
        "learning-rate-too-high",
        "learning-rate-too-low",
        "diverging",
        "not-finite",
        "dead-units",
        "stalled-loss",
        "overfit-fails",
        "uninformative-labels",
        "oscillating-loss",
        "ill-conditioned-inputs",
    )
    healthy = (HEALTHY, example(data=replace(DATA, columns=replace(COLUMNS, std=(1.0,) * 60 + (20.0,) * 4))))
    sick = (example(data=replace(DATA, columns=replace(COLUMNS, std=(0.01,) * 60 + (3.0,) * 4)), loss=STUCK),)

    most: float = 100.0
    """Largest rms of a column over their median."""

    def examine(self, case: Case) -> Iterator[Sign]:
        data = case.facts.data
        if data is None or data.columns is None or data.integer_inputs or data.columns.image:
            return
        columns = data.columns
        sizes = np.array([math.hypot(m, s) for m, s in zip(columns.mean, columns.std, strict=True) if s > 0])
        if len(sizes) < 2 or not np.median(sizes):
            return
        ratio = float(sizes.max() / np.median(sizes))
        widest = int(np.argmax([math.hypot(m, s) for m, s in zip(columns.mean, columns.std, strict=True)]))
        name = columns.names[widest] if widest < len(columns.names) else f"column {widest}"
        yield Sign(ratio / self.most, f"{name} is {ratio:.3g} times the median column (limit {self.most:g})", name)
