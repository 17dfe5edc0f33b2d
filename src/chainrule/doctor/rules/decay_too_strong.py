"""CR308: the penalty on the weights outweighs the data."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, TRAINING, curve, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import Quantity


@dataclass(frozen=True)
class DecayTooStrong(Rule):
    code = "CR308"
    name = "decay-too-strong"
    severity = "error"
    factor = "optimizer"
    why = (
        "The update follows data gradient + decay x weight. Where the second is as large as the first, weights "
        "stop at the size that the penalty allows, not where the data wants them."
    )
    remedy = (Remedy("decay", "Lower l2 or weight_decay a hundredfold.", {"factor": 0.01}),)
    source = "TheDeepChecker's over-regularised programs re-run (l2 = 0.1: R2 .51 instead of .94)"
    explains = (
        "stalled-loss",
        "learning-rate-too-low",
        "tiny-activation",
        "vanishing-gradient",
        "overfit-fails",
        "cancelling-samples",
        "dead-layer",
        "nothing-to-learn",
    )
    content = 0.8
    healthy = (HEALTHY, example(training=replace(TRAINING, l2=1e-4), loss=STUCK))
    sick = (example(training=replace(TRAINING, l2=0.1), loss=curve(2.5, 2.1)),)

    most: float = 0.5
    """decay x rms of the weights over rms of the gradient at the latest step, in the median layer."""
    least_decay: float = 0.003
    """Decay below which a balance of both is what an optimum of the penalised loss looks like."""

    def examine(self, case: Case) -> Iterator[Sign]:
        training = case.facts.training
        if training is None:
            return
        decay = 2 * training.l2 + float(training.arguments.get("weight_decay") or 0.0) * (training.optimizer != "AdamW")
        if decay < self.least_decay:
            return
        ratios = []
        for layer in case.dense:
            weight, gradient = case.last(layer, Quantity.WEIGHT), case.last(layer, Quantity.GRADIENT)
            if weight and gradient:
                ratios.append(decay * weight / gradient)
        if ratios:
            ratio = float(np.median(ratios))
            yield Sign(
                ratio / self.most,
                f"the pull of the penalty is {ratio:.2g} of the data's gradient (limit {self.most:g}) at a "
                f"decay of {decay:g}",
            )
