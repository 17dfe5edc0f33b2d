"""CR213: first weights of this network are faulty for some seeds."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, REGRESSION, TRIALS, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record import series


@dataclass(frozen=True)
class PredictedFaults(Rule):
    code = "CR213"
    name = "predicted-fault"
    severity = "error"
    factor = "weights"
    why = (
        "First weights are random. On one batch, each re-drawn network carries its error back or loses it: how "
        "often it is lost is the chance that a run fails before its first step."
    )
    remedy = (
        Remedy("change-initialiser", "Initialise with nn.KaimingNormal.", {"init": "kaiming_normal"}),
        Remedy("change-activation", "Use nn.LeakyReLU or nn.ReLU in the hidden layers.", {"activation": "LeakyReLU"}),
        Remedy("widen-layer", "Make narrow layers wider.", {"factor": 4}),
    )
    source = (
        "Lu, Shin, Su & Karniadakis 2019, for dead layers; 15 to 17 layers of width 5 are born dead in about half "
        "of the seeds"
    )
    content = 0.5
    explains = ("initial-loss-high", "overfit-fails", "learning-rate-too-low")
    healthy = (HEALTHY, example(trials=replace(TRIALS, probability={"dead layer": 0.05})))
    sick = (
        example(trials=replace(TRIALS, probability={"dead layer": 0.55}), loss=series([])),
        example(trials=replace(TRIALS, probability={"zero error": 0.5}), loss=series([]),
                head=replace(REGRESSION, activation="relu")),
    )  # fmt: skip
    last = Remedy("change-output", "Delete the last activation: outputs that it cuts off bring no error back.",
                  {"activation": None})  # fmt: skip
    """What to change where the error is lost at the last activation."""

    most: float = 0.2
    """Share of the seeds."""

    def examine(self, case: Case) -> Iterator[Sign]:
        trials = case.facts.trials
        if trials is None or trials.draws < 2 or case.record.steps:
            return
        for fault, share in trials.probability.items():
            cut_off = fault == "zero error" and case.facts.head is not None and case.facts.head.activation is not None
            yield Sign(
                share / self.most,
                f"{fault} in {share:.0%} of {trials.draws} re-drawn first weights (limit {self.most:.0%})",
                remedy=(self.last, *self.remedy) if cut_off else (),
                factor="local derivative" if cut_off or fault in ("dead layer", "vanishing") else None,
            )
