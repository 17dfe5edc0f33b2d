"""CR301: a learning rate above what the loss surface bears."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, MOVING, STUCK, TRAINING, TRIALS, curve, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record.facts import SweepPoint

HALF = curve(2.3, 1.1)
"""Down to half of what a constant prediction loses."""


@dataclass(frozen=True)
class LearningRateTooHigh(Rule):
    code = "CR301"
    name = "learning-rate-too-high"
    severity = "error"
    factor = "learning rate"
    why = (
        "A step of size lr along the gradient changes the loss by -lr |g|^2 + lr^2 g·Hg / 2: above 2 / curvature the "
        "second term wins, and the loss rises although the direction is right."
    )
    remedy = (
        Remedy("scale-learning-rate", "Lower the learning rate tenfold.", {"factor": 0.1}),
        Remedy("warm-up", "Begin with a warm-up.", {"schedule": "warm-up"}),
        Remedy("clip", "Clip the gradient's norm: clip_norm=1.0.", {"clip_norm": 1.0}),
    )
    source = (
        "Goodfellow, Bengio & Courville 2016, section 4.3.1; Smith 2017 for the sweep; Bottou, Curtis & Nocedal 2018, "
        "theorem 4.6: the floor that steps of a fixed size stay above is as high as they are large"
    )
    explains = (
        "diverging",
        "not-finite",
        "oscillating-loss",
        "dead-units",
        "dead-layer",
        "saturated",
        "stalled-loss",
        "overfit-fails",
        "exploding-gradient",
        "cancelling-samples",
        "clipping-binds",
        "initial-loss-high",
        "zero-gradient",
        "vanishing-gradient",
    )
    content = 0.85
    sweep_rates = (0.0001, 0.001, 0.01, 0.1, 1.0)
    healthy = (
        HEALTHY,
        example(trials=replace(TRIALS, sweep=tuple(SweepPoint(lr=r, loss=1.0 + r) for r in sweep_rates))),
        example(loss=HALF, standing=replace(MOVING, trial_gain=0.3, same_trial_gain=0.2, slower_trial_gain=0.25)),
    )
    sick = (
        example(
            training=replace(TRAINING, arguments={"lr": 1.0}),
            loss=STUCK,
            trials=replace(
                TRIALS,
                sweep=tuple(
                    SweepPoint(lr=r, loss=v) for r, v in zip(sweep_rates, (1.9, 0.3, 0.5, 2.3, 9.0), strict=True)
                ),
            ),
        ),
        example(loss=HALF, standing=replace(MOVING, trial_gain=0.2, same_trial_gain=-0.3, slower_trial_gain=0.2)),
    )

    gain: float = 0.2
    """Share of the constant prediction's loss by which a rate of a tenth or less ends lower in a short trial."""

    fallen: float = 0.05
    """Share of the constant prediction's loss that a tenth of the rate takes away in a short trial after the run."""

    apart: float = 0.1
    """The same, beside what the run's own rate takes away there."""

    beyond: float = 30.0
    """Plain descent's rate over 2 / curvature at the first weights, which falls in the first steps."""

    def examine(self, case: Case) -> Iterator[Sign]:
        trials, training = case.facts.trials, case.facts.training
        yield from self._after(case)
        if trials is None or training is None or not training.lr:
            return
        plain = training.optimizer == "SGD" and not training.arguments.get("momentum")
        if plain and trials.lr_ceiling and not case.record.steps:
            ratio = training.lr / trials.lr_ceiling
            yield Sign(
                ratio / self.beyond,
                f"lr {training.lr:g} is {ratio:.3g} times 2 / curvature = {trials.lr_ceiling:.3g} "
                f"at the first weights (limit {self.beyond:g})",
            )
        own = [p.loss for p in trials.sweep if p.lr == training.lr]
        lower = [p for p in trials.sweep if p.lr <= training.lr / 9]
        base = trials.expected_loss or trials.initial_loss
        if not own or not lower or not base:
            return
        best = min(lower, key=lambda p: p.loss)
        worse = min(own[0], 10 * abs(base)) - best.loss
        fix = replace(self.remedy[0], text=f"Lower the learning rate to {best.lr:g}.", parameters={"lr": best.lr})
        yield Sign(
            worse / abs(base) / self.gain,
            f"after {trials.sweep_steps} steps lr {training.lr:g} ends at {own[0]:.3g}, "
            f"lr {best.lr:g} at {best.loss:.3g}",
            remedy=(fix, *self.remedy[1:]),
        )

    def _after(self, case: Case) -> Iterator[Sign]:
        """Whether the run hovers above a floor that its own steps set, and that smaller ones go below."""
        standing = case.facts.standing
        if case.standing.name == "too short" or standing is None:
            return
        if standing.slower_trial_gain is None or standing.same_trial_gain is None:
            return
        slower, own = standing.slower_trial_gain, max(standing.same_trial_gain, -1.0)
        yield Sign(
            min(slower / self.fallen, (slower - own) / self.apart),
            f"after the run {standing.trial_steps} steps at a tenth of the rate take away {slower:.0%} of a constant "
            f"prediction's loss, as many at the run's own {own:.0%} (limits {self.fallen:.0%}, and "
            f"{self.apart:.0%} apart)",
        )
