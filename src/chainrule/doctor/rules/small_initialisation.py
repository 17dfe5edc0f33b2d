"""CR206: first weights so small that neither signal nor error gets through."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, LAYERS, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import Quantity


@dataclass(frozen=True)
class SmallInitialisation(Rule):
    code = "CR206"
    name = "small-initialisation"
    severity = "error"
    factor = "weights"
    why = (
        "Each layer multiplies the signal on its way up and the error on its way down by about deviation x "
        "sqrt(fan-in) of "
        "its weights. Where that is far below 1 in layer after layer, activations and errors shrink geometrically."
    )
    remedy = (
        Remedy(
            "change-initialiser",
            "Initialise with nn.KaimingNormal (relu) or nn.XavierNormal (tanh, sigmoid).",
            {"init": "auto"},
        ),
        Remedy("insert-normalisation", "Put nn.BatchNorm1d behind each hidden layer.", {"at": "hidden"}),
    )
    source = "He, Zhang, Ren & Sun 2015, section 2.2; Glorot & Bengio 2010, eq. 16"
    explains = (
        "vanishing-gradient",
        "tiny-activation",
        "stalled-loss",
        "overfit-fails",
        "dead-units",
        "dead-layer",
        "cancelling-samples",
        "learning-rate-too-low",
        "update-too-small",
        "too-few-steps",
        "zero-gradient",
        "predicted-fault",
    )
    healthy = (
        HEALTHY,
        example(layers=tuple(replace(x, initial_std=0.4 * (x.fitting_std or 1)) for x in LAYERS), loss=STUCK),
    )
    sick = (example(layers=tuple(replace(x, initial_std=0.05 * (x.fitting_std or 1)) for x in LAYERS), loss=STUCK),)

    least: float = 0.02
    """Product over the hidden layers of deviation over the one that keeps the signal's size, times that of the inputs
    if they are above 1."""

    def examine(self, case: Case) -> Iterator[Sign]:
        known = [(x, x.initial_std / x.fitting_std) for x in case.hidden if x.initial_std is not None and x.fitting_std]
        if not known or not all(ratio for _, ratio in known):
            return
        through = math.prod(ratio for _, ratio in known)
        if self._slopes(case) < min(through, 1.0):
            return  # local derivatives take more than the weights do: the chain is to blame, as with deep sigmoids
        # A gradient is error times input: inputs of 60 make up for an error that weights took a sixtieth of.
        through *= max(case.first(case.dense[0], Quantity.ACTIVATION) or 1.0, 1.0)
        layer, worst = min(known, key=lambda pair: pair[1])
        yield Sign(
            self.least / max(through, 1e-300),
            f"first weights have {worst:.2g} of the deviation that keeps the signal, and "
            f"{through:.2g} of it gets through all hidden layers (limit {self.least:g})",
            layer.name,
        )

    @staticmethod
    def _slopes(case: Case) -> float:
        """What the local derivatives of all hidden layers leave of the error, at the first weights that were seen."""
        for _, table in case.moments():
            gains = [table.get(x.name, {}).get(Quantity.DERIVATIVE_GAIN) for x in case.hidden]
            return math.prod(g for g in gains if g)
        return 1.0
