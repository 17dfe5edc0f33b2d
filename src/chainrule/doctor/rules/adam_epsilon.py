"""CR312: an epsilon of Adam's that divides by almost nothing, or damps every step."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, TRAINING, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class AdamEpsilon(Rule):
    code = "CR312"
    name = "adam-epsilon"
    severity = "warning"
    factor = "optimizer"
    why = (
        "Adam's step is lr x m / (sqrt(v) + eps): with eps near 0 a weight whose gradients vanish still gets whole "
        "steps of rounding noise; with eps far above sqrt(v) every step shrinks by eps."
    )
    remedy = (Remedy("epsilon", "Use eps=1e-8.", {"eps": 1e-8}),)
    source = "Kingma & Ba 2015; TheDeepChecker's program with eps = 1e-16"
    proof = True
    content = 2.0
    explains = ("oscillating-loss", "update-too-small")
    healthy = (HEALTHY, example(training=replace(TRAINING, arguments={"lr": 1e-3, "eps": 1e-7})))
    sick = (example(training=replace(TRAINING, arguments={"lr": 1e-3, "eps": 1e-16})),)

    least: float = 1e-12
    """eps."""
    most: float = 0.1
    """eps."""

    def examine(self, case: Case) -> Iterator[Sign]:
        training = case.facts.training
        if training is None or not training.optimizer.startswith("Adam") or training.arguments.get("eps") is None:
            return
        eps = float(training.arguments["eps"])
        yield Sign(
            max(self.least / max(eps, 1e-300), eps / self.most),
            f"eps is {eps:g} (from {self.least:g} to {self.most:g})",
        )
