"""CR109: targets so large that the steps of training cannot get there."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import DATA, HEALTHY, NUMBERS, REGRESSION, curve, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class TargetScale(Rule):
    code = "CR109"
    name = "target-scale"
    severity = "error"
    factor = "loss derivative"
    why = (
        "The error that starts the chain is prediction - truth: with targets in the hundreds it is huge, so "
        "plain descent "
        "diverges; Adam divides by its size and then moves each weight by the learning rate only, so the outputs need "
        "thousands of steps to reach such numbers."
    )
    remedy = (
        Remedy("standardise-targets", "Train towards (y - mean) / std, and invert for predictions.", {}),
        Remedy("scale-learning-rate", "Or raise the learning rate by what the targets exceed 1.", {"factor": 10.0}),
    )
    source = "Stack Overflow 52800582, 59758722 and 54030377 re-run; the limit is this project's"
    explains = (
        "exploding-gradient",
        "learning-rate-too-low",
        "diverging",
        "not-finite",
        "update-too-small",
        "stalled-loss",
        "overfit-fails",
        "oscillating-loss",
        "too-few-steps",
        "clipping-binds",
    )
    content = 0.5
    healthy = (HEALTHY, example(head=REGRESSION, data=replace(DATA, target=NUMBERS)))
    sick = (
        example(
            head=REGRESSION,
            data=replace(DATA, target=replace(NUMBERS, mean=152.0, std=77.0, baseline=5929.0)),
            loss=curve(29000.0, 5800.0),
        ),
    )

    most: float = 20.0
    """Larger of |mean| and deviation of the targets, beside outputs that begin near 1."""

    def examine(self, case: Case) -> Iterator[Sign]:
        data, head = case.facts.data, case.facts.head
        if data is None or data.target is None or head is None or head.loss not in ("mse", "mae", "huber"):
            return
        size = max(abs(data.target.mean), data.target.std)
        yield Sign(size / self.most, f"the targets have a size of {size:.3g} (limit {self.most:g})", "targets")
