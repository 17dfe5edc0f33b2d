"""CR207: first weights so large that units saturate and outputs are extreme."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, LAYERS, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class LargeInitialisation(Rule):
    code = "CR207"
    name = "large-initialisation"
    severity = "error"
    factor = "weights"
    why = (
        "Weights far above 1 / sqrt(fan-in) make pre-activations far above 1: sigmoid and tanh sit where their "
        "derivative "
        "is near 0, relu layers multiply the error at every link, and the first loss is huge."
    )
    remedy = (
        Remedy(
            "change-initialiser",
            "Initialise with nn.KaimingNormal (relu) or nn.XavierNormal (tanh, sigmoid).",
            {"init": "auto"},
        ),
    )
    source = "Glorot & Bengio 2010, eq. 16; He, Zhang, Ren & Sun 2015"
    explains = (
        "saturated",
        "exploding-gradient",
        "not-finite",
        "diverging",
        "initial-loss-high",
        "dead-units",
        "learning-rate-too-low",
        "learning-rate-too-high",
        "oscillating-loss",
        "stalled-loss",
        "overfit-fails",
        "predicted-fault",
        "vanishing-gradient",
        "too-few-steps",
        "clipping-binds",
    )
    content = 0.9
    healthy = (
        HEALTHY,
        example(layers=tuple(replace(x, initial_std=2 * (x.fitting_std or 1)) for x in LAYERS), loss=STUCK),
    )
    sick = (example(layers=tuple(replace(x, initial_std=40 * (x.fitting_std or 1)) for x in LAYERS), loss=STUCK),)

    most: float = 6.0
    """Deviation of a layer's first weights over the one that keeps the signal's size."""

    def examine(self, case: Case) -> Iterator[Sign]:
        for layer in case.dense:
            if layer.initial_std is not None and layer.fitting_std:
                ratio = layer.initial_std / layer.fitting_std
                yield Sign(
                    ratio / self.most,
                    f"first weights have {ratio:.3g} times the deviation that keeps the signal's "
                    f"size (limit {self.most:g})",
                    layer.name,
                )
