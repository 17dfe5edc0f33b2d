"""CR202: a whole layer gives 0 for every row, so that no weight below it can move."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, everywhere, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import Quantity


@dataclass(frozen=True)
class DeadLayer(Rule):
    code = "CR202"
    name = "dead-layer"
    severity = "error"
    factor = "local derivative"
    why = (
        "Where every unit of a layer gives 0 for every row, the local derivative is 0 everywhere: d[z] = 0 there "
        "and in all layers below, exactly. Only the last bias still learns."
    )
    remedy = (
        Remedy(
            "scale-learning-rate",
            "Lower the learning rate tenfold, if the layer died during training.",
            {"factor": 0.1},
        ),
        Remedy(
            "change-initialiser", "Initialise with nn.KaimingNormal, if it was born dead.", {"init": "kaiming_normal"}
        ),
        Remedy("change-activation", "Use nn.LeakyReLU, whose derivative is never 0.", {"activation": "LeakyReLU"}),
        Remedy("widen-layer", "Make narrow layers wider: one of few units is dead for some seeds.", {"factor": 4}),
    )
    source = "Lu, Shin, Su & Karniadakis 2019: Dying ReLU and Initialization"
    explains = (
        "zero-gradient",
        "stalled-loss",
        "vanishing-gradient",
        "tiny-activation",
        "dead-units",
        "overfit-fails",
        "nothing-to-learn",
        "cancelling-samples",
        "learning-rate-too-low",
        "update-too-small",
        "predicted-fault",
    )
    healthy = (HEALTHY, example(measured=everywhere(dead=(0.0, 0.9)), loss=STUCK))
    sick = (example(measured={"2": {Quantity.DEAD: (0.0, 1.0)}}, loss=STUCK),)

    all: float = 1.0
    """Share of a layer's units."""

    def examine(self, case: Case) -> Iterator[Sign]:
        for layer in case.dense:
            for step, share in case.values(layer, Quantity.DEAD):
                if share >= self.all:
                    born = self.remedy[1:] + self.remedy[:1] if step == 0 else ()
                    yield Sign(
                        1.0,
                        f"every unit gives 0 for every row{' from the first weights on' if step == 0 else ''}",
                        layer.name,
                        step,
                        born,
                    )
                    break
