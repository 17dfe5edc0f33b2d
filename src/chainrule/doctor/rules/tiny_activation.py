"""CR209: what comes into a layer is so small that its weights get no gradient."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import Quantity


@dataclass(frozen=True)
class TinyActivation(Rule):
    code = "CR209"
    name = "tiny-activation"
    severity = "error"
    factor = "input activation"
    why = (
        "Gradient of a weight = input activation x error: where the activations that come in are near 0, so is the "
        "gradient, however large the error."
    )
    remedy = (
        Remedy("change-initialiser", "Initialise the layers below with nn.KaimingNormal.", {"init": "kaiming_normal"}),
        Remedy("insert-normalisation", "Put nn.BatchNorm1d in front of the layer.", {"at": "hidden"}),
    )
    source = "the factor itself: rms(a) of the layer beside that of the inputs"
    explains = ("stalled-loss", "overfit-fails", "learning-rate-too-low", "cancelling-samples", "update-too-small")
    healthy = (HEALTHY, example(measured={"2": {Quantity.ACTIVATION: (0.05, 0.3)}}))
    sick = (example(measured={"2": {Quantity.ACTIVATION: (1e-4, 1e-4)}}, loss=STUCK),)

    least: float = 0.003
    """rms of a hidden activation."""

    def examine(self, case: Case) -> Iterator[Sign]:
        for layer in case.dense[1:]:
            for step, size in case.values(layer, Quantity.ACTIVATION):
                if size > 0:
                    yield Sign(
                        self.least / size,
                        f"activations of rms {size:.2g} come in (limit {self.least:g})",
                        layer.name,
                        step,
                    )
