"""CR204: the error grows from layer to layer on its way back, or the activations on their way up."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import Quantity


@dataclass(frozen=True)
class ExplodingGradient(Rule):
    code = "CR204"
    name = "exploding-gradient"
    severity = "error"
    factor = "weights"
    why = (
        "Gains above 1 multiply along the chain as those below 1 do: activations grow upward and the error downward, "
        "until one update throws the weights far away or a number overflows."
    )
    remedy = (
        Remedy("change-initialiser", "Initialise with nn.KaimingNormal.", {"init": "kaiming_normal"}),
        Remedy("clip", "Clip the gradient's norm: clip_norm=1.0.", {"clip_norm": 1.0}),
        Remedy(
            "change-activation",
            "Use an activation that does not grow, such as nn.ReLU or nn.SELU.",
            {"activation": "ReLU"},
        ),
        Remedy("insert-normalisation", "Put nn.BatchNorm1d behind each hidden layer.", {"at": "hidden"}),
    )
    source = "Pascanu, Mikolov & Bengio 2013; Glorot & Bengio 2010"
    explains = (
        "not-finite",
        "diverging",
        "oscillating-loss",
        "learning-rate-too-high",
        "learning-rate-too-low",
        "clipping-binds",
        "stalled-loss",
        "overfit-fails",
        "initial-loss-high",
        "predicted-fault",
        "saturated",
        "learning-rate-too-low",
        "too-few-steps",
    )
    content = 0.5
    healthy = (HEALTHY, example(measured={"0": {Quantity.ERROR: (2.0, 3.0)}}))
    sick = (example(measured={"0": {Quantity.ERROR: (900.0, 900.0)}}, loss=STUCK),)

    most: float = 300.0
    """Error at the first layer over that at the last, or activation at the last over that of the inputs."""

    def examine(self, case: Case) -> Iterator[Sign]:
        layers = case.dense
        if len(layers) < 3:
            return
        for step, table in case.moments():
            for quantity, first, last in (
                (Quantity.ERROR, layers[0], layers[-1]),
                (Quantity.ACTIVATION, layers[-1], layers[0]),
            ):
                large, small = (table.get(x.name, {}).get(quantity) for x in (first, last))
                if not large or not small or not math.isfinite(large / small):
                    continue
                way = "down to the first layer" if quantity is Quantity.ERROR else "up to the last layer"
                yield Sign(
                    large / small / self.most,
                    f"the {quantity} grows {large / small:.3g} times {way} (limit {self.most:g})",
                    first.name,
                    step,
                )
