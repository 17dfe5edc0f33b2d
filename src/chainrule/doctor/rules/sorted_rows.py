"""CR112: rows in the order of their classes, and no shuffling."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import CLASSES, DATA, HEALTHY, STUCK, TRAINING, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class SortedRows(Rule):
    code = "CR112"
    name = "rows-not-shuffled"
    severity = "error"
    factor = "agreement"
    why = (
        "A batch of one class only asks for that class: its rows agree where a mixed batch would not, and the "
        "next batch "
        "undoes it. The gradient of a batch is then no estimate of the gradient of the data."
    )
    remedy = (
        Remedy("shuffle", "Shuffle: cr.fit(..., shuffle=True), DataLoader(..., shuffle=True).", {"shuffle": True}),
    )
    source = "Bengio 2012, section 3.1; the limit is this project's"
    explains = (
        "oscillating-loss",
        "stalled-loss",
        "overfit-fails",
        "learning-rate-too-high",
        "diverging",
        "dead-units",
        "uninformative-labels",
    )
    content = 0.8
    healthy = (HEALTHY, example(data=replace(DATA, target=replace(CLASSES, runs=9.0))))
    sick = (
        example(
            data=replace(DATA, target=replace(CLASSES, runs=9.9)), training=replace(TRAINING, shuffle=False), loss=STUCK
        ),
    )

    most: float = 2.0
    """How much oftener neighbouring rows share their class than chance has it."""

    def examine(self, case: Case) -> Iterator[Sign]:
        data, training = case.facts.data, case.facts.training
        if data is None or data.target is None or data.target.runs is None or training is None:
            return
        if training.shuffle is False:
            runs = data.target.runs
            yield Sign(
                runs / self.most,
                f"neighbouring rows share their class {runs:.1f} times as often as chance has it "
                f"(limit {self.most:g}), and rows are not shuffled",
                "rows",
            )
