"""CR208: units of a layer that begin equal, and so stay equal."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import Quantity


@dataclass(frozen=True)
class SymmetricInitialisation(Rule):
    code = "CR208"
    name = "symmetric-initialisation"
    severity = "error"
    factor = "weights"
    why = (
        "Units with equal weights have equal activations, get equal errors back where the layer above reads them "
        "alike, "
        "and so equal gradients: they stay copies of one unit. With weights 0 the error sent back, d[z] W, is 0 "
        "as well."
    )
    remedy = (
        Remedy(
            "change-initialiser",
            "Draw first weights at random: nn.KaimingNormal (relu), nn.XavierNormal (tanh).",
            {"init": "auto"},
        ),
    )
    source = "Rumelhart, Hinton & Williams 1986: symmetry breaking"
    proof = True
    content = 2.0
    explains = (
        "vanishing-gradient",
        "stalled-loss",
        "zero-gradient",
        "tiny-activation",
        "dead-units",
        "dead-layer",
        "small-initialisation",
        "cancelling-samples",
        "learning-rate-too-low",
        "overfit-fails",
        "update-too-small",
        "too-few-steps",
        "nothing-to-learn",
        "oscillating-loss",
    )
    healthy = (HEALTHY, example(measured={"4": {Quantity.TWINS: (1.0, 0.0)}}))
    sick = (example(measured={"0": {Quantity.TWINS: (1.0, 1.0)}}, loss=STUCK),)

    most: float = 0.9
    """Share of a hidden layer's units that have a twin at the latest weights."""

    def examine(self, case: Case) -> Iterator[Sign]:
        for layer in case.hidden:
            share = case.last(layer, Quantity.TWINS)
            if share is not None and (layer.outputs or 2) > 1:
                yield Sign(
                    share / self.most,
                    f"{share:.0%} of the units have the weights of another unit (limit {self.most:.0%})",
                    layer.name,
                )
