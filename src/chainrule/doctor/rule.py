"""What a rule of the doctor is: it reads a case and says by how much a limit was crossed, why, and what to change."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from chainrule.doctor.case import Case
from chainrule.record import RunRecord

Severity = Literal["error", "warning", "note"]

Factor = Literal[
    "input activation", "local derivative", "weights", "loss derivative", "agreement", "learning rate", "optimizer",
    "data", "loop", "none",
]  # fmt: skip
"""Which factor of the product a finding blames; "none": it is not a gradient problem."""


@dataclass(frozen=True)
class Remedy:
    """What to change. `id` and `parameters` are what a treatment applies; `text` is for people."""

    id: str
    text: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Sign:
    """What a rule saw. ratio: measured over its limit, so that it speaks from 1 on; below, it says how near it came."""

    ratio: float
    evidence: str
    """The numbers, with the limit."""
    where: str = ""
    """Layer, parameter or column; empty for the whole network."""
    step: int = 0
    remedy: tuple[Remedy, ...] = ()
    """In place of the rule's own, where the numbers tell more."""
    factor: Factor | None = None
    """In place of the rule's own."""
    content: float | None = None
    """In place of the rule's own, where the sign is of what is left to learn rather than of what was learned."""


@dataclass(frozen=True)
class Rule(ABC):
    """A rule. Its fields are its limits, which `chainrule.toml` may change; everything else is of the class."""

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity]
    factor: ClassVar[Factor]
    why: ClassVar[str]
    """The mechanism, by the chain rule."""
    remedy: ClassVar[tuple[Remedy, ...]]
    """What to change, most likely to help first."""
    source: ClassVar[str]
    """Where the rule or its limits come from."""
    explains: ClassVar[tuple[str, ...]] = ()
    """Names of rules whose findings are symptoms of this one."""
    proof: ClassVar[bool] = False
    """Whether what it sees is a fault by itself, however well training went."""
    content: ClassVar[float] = 0.5
    """Progress from which on a finding is only a note: share of the constant prediction's loss that was taken away."""
    unfinished: ClassVar[bool] = False
    """Whether it says nothing of a run that is finished, in which the same numbers mean that nothing is left to do."""
    course: ClassVar[bool] = False
    """Whether it judges the course of a run, so that it says nothing of one that is too short to have one."""
    healthy: ClassVar[tuple[RunRecord, ...]]
    """Records on which the rule must stay silent."""
    sick: ClassVar[tuple[RunRecord, ...]]
    """Records on which it must speak."""

    @abstractmethod
    def examine(self, case: Case) -> Iterator[Sign]:
        """What it sees in a case, below its limit as well. Nothing, where the record does not say."""

    @classmethod
    def limits(cls) -> dict[str, float]:
        """The rule's limits by name."""
        return {f.name: f.default for f in fields(cls)}  # type: ignore[misc]
