"""CR311: batch normalisation over batches of very few rows."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, LAYERS, TRAINING, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record.facts import LayerFacts


@dataclass(frozen=True)
class BatchTooSmallForNorm(Rule):
    code = "CR311"
    name = "batch-too-small-for-norm"
    severity = "error"
    factor = "data"
    why = (
        "Batch normalisation subtracts the batch's own mean and divides by its own deviation: of two rows only a "
        "sign is left, of one row nothing, so the error that comes back is noise or 0."
    )
    remedy = (
        Remedy("batch-size", "Use batches of 16 rows or more, and drop_last=True.", {"batch_size": 32}),
        Remedy("replace-normalisation", "Use nn.LayerNorm instead.", {"layer": "LayerNorm"}),
    )
    source = "Ioffe & Szegedy 2015; Wu & He 2018: Group Normalization, figure 1"
    proof = True
    content = 2.0
    explains = ("oscillating-loss", "stalled-loss", "overfit-fails", "not-finite", "zero-gradient")
    healthy = (HEALTHY, example(layers=(*LAYERS, LayerFacts(name="5", kind="BatchNorm1d"))))
    sick = (
        example(layers=(*LAYERS, LayerFacts(name="5", kind="BatchNorm1d")), training=replace(TRAINING, batch_size=2)),
    )

    least: float = 4.0
    """Rows of a batch."""

    def examine(self, case: Case) -> Iterator[Sign]:
        training = case.facts.training
        norms = [x for x in case.record.layers if x.kind.startswith("BatchNorm")]
        if training is not None and training.batch_size and norms:
            # One row fewer than the limit is the first that speaks.
            yield Sign(
                (self.least - 1) / training.batch_size,
                f"{norms[0].kind} sees {training.batch_size} rows at a time (at least {self.least:g})",
                norms[0].name,
            )
