"""CR113: labels that inputs tell nothing about: shuffled against them, or noise."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import DATA, HEALTHY, STUCK, TRIALS, example
from chainrule.doctor.rule import Remedy, Rule, Sign

SHUFFLED = replace(TRIALS, trained_loss=2.29, shuffled_loss=2.295, zeroed_loss=2.3)


@dataclass(frozen=True)
class UninformativeLabels(Rule):
    code = "CR113"
    name = "uninformative-labels"
    severity = "error"
    factor = "none"
    why = (
        "Rows that look alike ask for different outputs, so their errors cancel in every weight's sum, and only single "
        "rows can be learned by heart. No gradient is at fault."
    )
    remedy = (
        Remedy("check-labels", "Check that inputs and labels were shuffled and joined together: row i must be row i."),
    )
    source = "Zhang, Bengio, Hardt, Recht & Vinyals 2017; Karpathy 2019: A Recipe for Training Neural Networks"
    explains = (
        "stalled-loss",
        "cancelling-samples",
        "overfitting",
        "learning-rate-too-low",
        "too-few-steps",
        "oscillating-loss",
        "overfit-fails",
        "nothing-to-learn",
    )
    content = 0.2
    unfinished = True
    healthy = (
        HEALTHY,
        example(trials=replace(TRIALS, trained_loss=2.0)),
        example(trials=SHUFFLED, loss=STUCK, data=replace(DATA, association=4.0)),
    )
    sick = (example(trials=SHUFFLED, loss=STUCK, data=replace(DATA, association=0.5)),)

    least: float = 0.02
    """Share of the constant prediction's loss by which true labels must beat shuffled ones in a short trial."""
    associated: float = 1.0
    """How far inputs go with targets, over what chance reaches, from which on they tell something."""
    fewest: float = 50.0
    """Steps of a trial from which on it can tell: in fewer, true labels may not have shown yet."""

    def examine(self, case: Case) -> Iterator[Sign]:
        trials, data = case.facts.trials, case.facts.data
        if (
            trials is None
            or trials.trained_loss is None
            or trials.shuffled_loss is None
            or trials.trial_steps < self.fewest
            or data is None
            or case.standing.blocked
        ):
            return
        if (data.repeated or 0.0) > 0.2 and (data.conflicting or 0.0) < 0.05 * (data.repeated or 0.0):
            return  # equal inputs have equal targets, which chance does not do
        if (data.association or 0.0) >= self.associated:
            return  # neighbours or products of columns tell: a parity or a ring, say, that was not learned so far
        known = data.target.baseline if data.target is not None else None
        base = known or trials.expected_loss or trials.initial_loss
        learns = (
            trials.overfit_after is not None
            and trials.overfit_before
            and trials.overfit_after < 0.5 * trials.overfit_before
        )
        best = min([p.loss for p in trials.sweep] + [trials.trained_loss])
        if not base or not learns or best < 0.9 * base:
            return
        true = next((p.loss for p in trials.sweep if p.lr == trials.shuffled_lr), trials.trained_loss)
        better = (trials.shuffled_loss - true) / base
        if trials.shuffled_lr is None:  # at the best rate true labels may still win
            better = max(better, (base - best) / base)
        yield Sign(
            self.least / max(better, self.least / 100),
            f"after {trials.trial_steps} steps true labels give "
            f"{true:.3g}, shuffled ones {trials.shuffled_loss:.3g}, though a batch can be learned "
            f"by heart ({trials.overfit_after:.2g})",
            "labels",
        )
