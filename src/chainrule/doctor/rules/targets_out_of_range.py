"""CR401: targets that the last activation cannot reach."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import DATA, HEALTHY, NUMBERS, REGRESSION, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class TargetsOutOfRange(Rule):
    code = "CR401"
    name = "targets-out-of-range"
    severity = "error"
    factor = "loss derivative"
    why = (
        "The output is f(z), and f has a range. A target outside it leaves an error at every step that no weight "
        "can take "
        "away, and drives z to where the local derivative f'(z) goes to 0."
    )
    remedy = (
        Remedy(
            "change-output",
            "Leave out the last activation: a linear output reaches every number.",
            {"activation": None},
        ),
        Remedy("scale-targets", "Or scale the targets into the range of the output."),
        Remedy(
            "change-output",
            "If they are classes: one output a class, with loss='cross_entropy'.",
            {"outputs": "classes"},
        ),
    )
    source = "follows from the range of the function; 20 of the catalogue's programs have it"
    proof = True
    content = 2.0
    explains = (
        "saturated",
        "dead-units",
        "dead-layer",
        "zero-gradient",
        "stalled-loss",
        "target-scale",
        "vanishing-gradient",
        "learning-rate-too-low",
        "learning-rate-too-high",
        "overfit-fails",
        "cancelling-samples",
        "too-few-steps",
        "update-too-small",
        "classes-as-numbers",
        "nothing-to-learn",
        "probability-loss-on-logits",
        "exploding-gradient",
        "uninformative-labels",
        "initial-loss-high",
        "predicted-fault",
    )
    healthy = (
        HEALTHY,
        example(
            head=replace(REGRESSION, activation="relu", output_range=(0.0, float("inf"))),
            data=replace(DATA, target=replace(NUMBERS, low=0.0)),
        ),
    )
    sick = (
        example(
            head=replace(REGRESSION, activation="sigmoid", output_range=(0.0, 1.0)), data=replace(DATA, target=NUMBERS)
        ),
    )

    most: float = 0.02
    """How far targets reach beyond the range, as a share of their own range."""

    def examine(self, case: Case) -> Iterator[Sign]:
        head, data = case.facts.head, case.facts.data
        if head is None or data is None or data.target is None or head.output_range is None:
            return
        target = data.target
        if target.kind == "classes" or head.loss in ("cross_entropy", "nll"):
            return
        low, high = head.output_range
        beyond = max(low - target.low, target.high - high, 0.0)
        span = max(target.high - target.low, 1e-12)
        yield Sign(
            beyond / span / self.most,
            f"targets go from {target.low:.3g} to {target.high:.3g}, {head.activation} gives {low:g} to {high:g}",
            "output",
        )
