"""CR313: whatever the learning rate, the loss rises: the update goes up the slope."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CONVERGED, HEALTHY, STUCK, TRIALS, curve, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import Quantity
from chainrule.record.facts import SweepPoint


def _sweep(*losses: float) -> tuple[SweepPoint, ...]:
    return tuple(SweepPoint(lr=1e-5 * 10**i, loss=loss) for i, loss in enumerate(losses))


@dataclass(frozen=True)
class ClimbingLoss(Rule):
    code = "CR313"
    name = "climbing-loss"
    severity = "error"
    factor = "optimizer"
    why = (
        "A step against the gradient lowers the loss if it is small enough; that is what a derivative says. If the "
        "loss rises at every rate, the less the smaller the rate, the steps go along the gradient: a sign is wrong."
    )
    remedy = (
        Remedy(
            "restore-sign",
            "Look for a minus before the loss or the gradient, for maximize=True, and for w += lr * g.",
        ),
    )
    source = (
        "Chain rule: dL = -lr |g|² + O(lr²) below 0 for small lr; TheDeepChecker's program with its gradients negated"
    )
    explains = (
        "diverging",
        "not-finite",
        "exploding-gradient",
        "learning-rate-too-high",
        "learning-rate-too-low",
        "oscillating-loss",
        "stalled-loss",
        "overfit-fails",
        "uninformative-labels",
        "dead-units",
        "dead-layer",
        "initial-loss-high",
        "clipping-binds",
    )
    content = 0.2
    healthy = (
        HEALTHY,
        CONVERGED,
        example(trials=replace(TRIALS, initial_loss=2.4, sweep=_sweep(2.35, 2.5, 9.0, 80.0)), loss=curve(2.4, 90.0)),
        example(trials=replace(TRIALS, initial_loss=2.4, sweep=_sweep(2.4001, 2.4002, 2.4003, 2.41)), loss=STUCK),
        example(trials=replace(TRIALS, initial_loss=2.4, sweep=_sweep(2.4001, 2.4002, 2.4003, 286.0)), loss=STUCK),
        example(
            trials=replace(TRIALS, initial_loss=2.4, sweep=_sweep(2.45, 3.0, 9.0, 80.0)),
            measured={"0": {Quantity.DEAD: (1.0, 1.0)}},
            loss=STUCK,
        ),
    )
    sick = (example(trials=replace(TRIALS, initial_loss=2.4, sweep=_sweep(2.45, 3.0, 9.0, 80.0)), loss=curve(2.4, 90)),)

    least: float = 4.0
    """Learning rates in a row, the smallest among them, each of which ends higher than the one before and the start."""
    rise: float = 0.05
    """Rise at the rate in the middle that still counts, as a share of the first loss: less may be chance."""
    largest: float = 1.0
    """Rise at the smallest rate, as a share of the first loss: above, its steps may still be too long."""

    def examine(self, case: Case) -> Iterator[Sign]:
        trials = case.facts.trials
        if trials is None or trials.initial_loss is None or len(trials.sweep) < 2:
            return
        if any(case.first(layer, Quantity.DEAD) == 1.0 for layer in case.hidden):
            return  # only the last bias moves, and what it does from batch to batch is chance
        losses = [trials.initial_loss, *(p.loss for p in trials.sweep)]
        middle = trials.sweep[len(trials.sweep) // 2].loss
        if losses[1] - losses[0] > self.largest * abs(losses[0]) or middle - losses[0] < self.rise * abs(losses[0]):
            return
        rising = 0
        for before, after in pairwise(losses):
            if not after > before:
                break
            rising += 1
        yield Sign(
            rising / self.least,
            f"after {trials.sweep_steps} steps the loss of {losses[0]:.3g} has risen to {losses[1]:.3g} at lr "
            f"{trials.sweep[0].lr:g} and to {losses[-1]:.3g} at lr {trials.sweep[-1].lr:g}",
        )
