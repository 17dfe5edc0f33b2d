"""CR307: the gradient is clipped far below its size, at every step."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, MOVING, STUCK, TRAINING, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class ClippingBinds(Rule):
    code = "CR307"
    name = "clipping-binds"
    severity = "warning"
    factor = "optimizer"
    why = (
        "A clipped gradient has the limit's length whatever its own: when that is always so, the learning rate "
        "that acts is lr x limit / norm."
    )
    remedy = (
        Remedy("clip", "Raise clip_norm above the usual norm of the gradient, or leave it out.", {"clip_norm": None}),
        Remedy("scale-learning-rate", "Or raise the learning rate by as much.", {"factor": 10.0}),
    )
    source = "Pascanu, Mikolov & Bengio 2013: the threshold should be near the average norm"
    explains = ("update-too-small", "learning-rate-too-low", "too-few-steps", "stalled-loss", "overfit-fails")
    healthy = (HEALTHY, example(training=replace(TRAINING, clip_norm=1.0), standing=MOVING))
    sick = (example(training=replace(TRAINING, optimizer="SGD", clip_norm=1e-3), standing=MOVING, loss=STUCK),)

    most: float = 20.0
    """Gradient norm over the limit. Adam divides by the gradient's size, so that clipping does not slow it."""

    def examine(self, case: Case) -> Iterator[Sign]:
        training, standing = case.facts.training, case.facts.standing
        if training is None or standing is None or not training.clip_norm or training.optimizer.startswith("Adam"):
            return
        ratio = standing.gradient_norm / training.clip_norm
        yield Sign(
            ratio / self.most,
            f"the gradient's norm is {ratio:.3g} times clip_norm={training.clip_norm:g} (limit {self.most:g})",
        )
