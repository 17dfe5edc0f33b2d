"""CR203: the error that reaches the first layer is a tiny part of the one at the last."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import Quantity


@dataclass(frozen=True)
class VanishingGradient(Rule):
    code = "CR203"
    name = "vanishing-gradient"
    severity = "error"
    factor = "local derivative"
    why = (
        "The error is carried back through one local derivative and one weight matrix a layer, and these "
        "multiply: with "
        "sigmoid (at most 1/4) or small weights each link takes away most of it, and the first layers do not learn."
    )
    remedy = (
        Remedy("change-activation", "Use nn.ReLU in the hidden layers.", {"activation": "ReLU"}),
        Remedy("change-initialiser", "Initialise with nn.KaimingNormal.", {"init": "kaiming_normal"}),
        Remedy("insert-normalisation", "Put nn.BatchNorm1d behind each hidden layer.", {"at": "hidden"}),
        Remedy("residual", "Add residual links around the hidden layers."),
    )
    source = "Hochreiter 1991; Bengio, Simard & Frasconi 1994; Glorot & Bengio 2010"
    explains = (
        "stalled-loss",
        "overfit-fails",
        "learning-rate-too-low",
        "tiny-activation",
        "cancelling-samples",
        "update-too-small",
        "predicted-fault",
        "too-few-steps",
        "nothing-to-learn",
    )
    content = 0.5
    healthy = (HEALTHY, example(measured={"0": {Quantity.ERROR: (0.01, 0.005)}}))
    sick = (
        example(
            measured={
                "0": {Quantity.ERROR: (1e-6, 1e-6), Quantity.DERIVATIVE_GAIN: (0.1, 0.1)},
                "2": {Quantity.ERROR: (1e-3, 1e-3)},
                "4": {Quantity.ERROR: (0.3, 0.3)},
            },
            loss=STUCK,
        ),
    )

    least: float = 1e-3
    """Share of the last layer's error that reaches the first."""

    def examine(self, case: Case) -> Iterator[Sign]:
        layers = case.dense
        if len(layers) < 3:
            return
        for step, table in case.moments():
            errors = [table.get(x.name, {}).get(Quantity.ERROR) for x in layers]
            first, last = errors[0], errors[-1]
            if first is None or not last or not first or not math.isfinite(first / last):
                continue  # exactly 0 is no vanishing chain: another rule says where it stops
            derivative, weights = self._lost(layers, table)
            place = self._place(layers, errors)
            small = weights > derivative
            evidence = (
                f"{first / last:.2g} of the last layer's error reaches the first (limit {self.least:g}); local "
                f"derivatives took {derivative:.1f} and weights {weights:.1f} powers of ten"
            )
            yield Sign(
                self.least / (first / last),
                evidence,
                place,
                step,
                (self.remedy[1], self.remedy[0], *self.remedy[2:]) if small else (),
                "weights" if small else "local derivative",
            )

    @staticmethod
    def _lost(layers, table) -> tuple[float, float]:
        """Powers of ten that local derivatives and weights took from the error, over all links."""
        found = []
        for quantity in (Quantity.DERIVATIVE_GAIN, Quantity.WEIGHT_GAIN):
            gains = [table.get(x.name, {}).get(quantity) for x in layers[:-1]]
            found.append(-sum(math.log10(g) for g in gains if g))
        return found[0], found[1]

    @staticmethod
    def _place(layers, errors) -> str:
        """The first layer from the top at which a thousandth of the way is reached: where it is lost."""
        steps = [(errors[i] or 0) / errors[i + 1] for i in range(len(errors) - 1) if errors[i + 1]]
        return layers[min(range(len(steps)), key=steps.__getitem__)].name if steps else layers[0].name
