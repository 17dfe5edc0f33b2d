"""CR609: loss scaling that leaves out most updates."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record.facts import LoopFacts


@dataclass(frozen=True)
class ScalerSkips(Rule):
    code = "CR609"
    name = "loss-scaling-skips"
    severity = "error"
    factor = "loop"
    why = (
        "Scaled losses that overflow make infinite gradients; the scaler then leaves the update out and halves its "
        "factor. Where that happens every time, no weight moves."
    )
    remedy = (Remedy("loss-scaling", "Unscale before clipping, check the loss for overflow, or use bfloat16."),)
    source = "Micikevicius et al. 2018: Mixed Precision Training"
    proof = True
    content = 2.0
    explains = (
        "stalled-loss",
        "overfit-fails",
    )
    healthy = (HEALTHY, example(loop=LoopFacts(steps=50)))
    sick = (example(loop=LoopFacts(steps=5, scaler_skipped=45), loss=STUCK),)

    most: float = 0.5
    """Share of the updates."""

    def examine(self, case: Case) -> Iterator[Sign]:
        loop = case.facts.loop
        if loop is not None:
            asked = loop.steps + loop.scaler_skipped  # `steps` are the updates that were made
            yield Sign(
                loop.scaler_skipped / max(asked, 1) / self.most,
                f"{loop.scaler_skipped} of {asked} updates were left out",
            )
