"""CR201: units that give 0 for every row, so that nothing comes back through them."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, everywhere, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import Quantity


@dataclass(frozen=True)
class DeadUnits(Rule):
    code = "CR201"
    name = "dead-units"
    severity = "error"
    factor = "local derivative"
    why = (
        "A unit that gives 0 for every row has local derivative 0 there: the error stops at it, so the weights "
        "feeding it never move again."
    )
    remedy = (
        Remedy(
            "scale-learning-rate",
            "Lower the learning rate tenfold: large steps push units below 0 for good.",
            {"factor": 0.1},
        ),
        Remedy("change-initialiser", "Initialise with nn.KaimingNormal.", {"init": "kaiming_normal"}),
        Remedy("change-activation", "Use nn.LeakyReLU, whose derivative is never 0.", {"activation": "LeakyReLU"}),
    )
    source = "Lu, Shin, Su & Karniadakis 2019: Dying ReLU and Initialization"
    explains = (
        "zero-gradient",
        "stalled-loss",
        "overfit-fails",
        "vanishing-gradient",
        "tiny-activation",
        "cancelling-samples",
        "learning-rate-too-low",
        "update-too-small",
        "oscillating-loss",
    )
    content = 0.8
    healthy = (HEALTHY, example(measured=everywhere(dead=(0.1, 0.5))))
    sick = (example(measured={"2": {Quantity.DEAD: (0.0, 0.93)}}, loss=STUCK),)

    most: float = 0.8
    """Share of a layer's units."""

    def examine(self, case: Case) -> Iterator[Sign]:
        for layer in case.dense:
            for step, share in case.values(layer, Quantity.DEAD):
                if share < 1:
                    yield Sign(
                        share / self.most,
                        f"{share:.0%} of the units pass nothing back for any row (limit {self.most:.0%})",
                        layer.name,
                        step,
                    )
