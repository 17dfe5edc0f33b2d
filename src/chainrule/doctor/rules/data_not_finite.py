"""CR108: NaN or infinity in the inputs."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chainrule.doctor.case import Case
from chainrule.doctor.examples import DATA, HEALTHY, example
from chainrule.doctor.rule import Remedy, Rule, Sign


@dataclass(frozen=True)
class DataNotFinite(Rule):
    code = "CR108"
    name = "data-not-finite"
    severity = "error"
    factor = "data"
    why = "NaN times anything is NaN: one such input makes the loss of its batch and every gradient NaN."
    remedy = (
        Remedy("clean-rows", "Remove those rows, or fill the gaps: cr.fit(..., missing='mean').", {"missing": "mean"}),
    )
    source = "IEEE 754"
    proof = True
    explains = ("not-finite", "diverging")
    healthy = (HEALTHY,)
    sick = (example(data=replace(DATA, not_finite=3)),)

    most: float = 1.0
    """Numbers."""

    def examine(self, case: Case) -> Iterator[Sign]:
        data = case.facts.data
        if data is not None:
            yield Sign(data.not_finite / self.most, f"{data.not_finite:,} inputs are NaN or infinite", "inputs")
