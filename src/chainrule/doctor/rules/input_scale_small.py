"""CR103: inputs so small that the first layer's gradient is lost: divided twice, for instance."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import COLUMNS, DATA, HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class InputScaleSmall(Rule):
    code = "CR103"
    name = "input-scale-small"
    severity = "error"
    factor = "input activation"
    why = (
        "The gradient of a first-layer weight is input x error: inputs near 0 make it small however large the "
        "error is, "
        "and what the first layer gives hardly depends on the row."
    )
    remedy = (
        Remedy(
            "standardise-inputs",
            "Scale the inputs once: they look divided twice. Use (x - mean) / std.",
            {"per": "column"},
        ),
    )
    source = "the factor itself: rms(a) of the first layer; TheDeepChecker's program of inputs divided twice"
    explains = (
        "tiny-activation",
        "vanishing-gradient",
        "stalled-loss",
        "overfit-fails",
        "learning-rate-too-low",
        "update-too-small",
        "small-initialisation",
    )
    content = 0.8
    healthy = (HEALTHY, example(data=replace(DATA, columns=replace(COLUMNS, std=(0.1,) * 64))))
    sick = (example(data=replace(DATA, columns=replace(COLUMNS, std=(0.004,) * 64)), loss=STUCK),)

    smallest: float = 0.03
    """rms of the inputs."""

    def examine(self, case: Case) -> Iterator[Sign]:
        data = case.facts.data
        if data is None or data.columns is None or data.integer_inputs:
            return
        columns = data.columns
        size = math.sqrt(sum(m * m + s * s for m, s in zip(columns.mean, columns.std, strict=True)) / len(columns.std))
        if size > 0:
            yield Sign(
                self.smallest / size, f"the inputs have an rms of {size:.3g} (limit {self.smallest:g})", "inputs"
            )
