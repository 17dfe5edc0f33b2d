"""What a rule says of a run, as people and programs read it."""

from dataclasses import dataclass

from chainrule.doctor.rule import Factor, Remedy, Severity


@dataclass(frozen=True)
class Finding:
    """One cause, with its symptoms under it. A note never counts as a flag."""

    code: str
    name: str
    severity: Severity
    where: str
    """Layer, parameter or part; empty for the whole network."""
    step: int
    """The first step at which it was seen."""
    share: float | None
    """Share of the blame, from 0 to 1; the shares of a report's causes add to 1. None for a note."""
    evidence: str
    """The numbers, with the limit they crossed."""
    why: str
    remedy: tuple[Remedy, ...]
    """The most likely one first."""
    source: str
    factor: Factor
    ratio: float
    """Measured over its limit."""
    proof: bool
    """Whether it is a proof or a fact, rather than a judgement of sizes."""
    symptoms: tuple["Finding", ...] = ()

    @property
    def place(self) -> str:
        """ " in layer '0' at step 7", or nothing."""
        at = f" in {self.where!r}" if self.where else ""
        return at + (f" at step {self.step:,}" if self.step else "")

    def __str__(self) -> str:
        share = "" if self.share is None else f" ({self.share:.0%} of the blame: {self.factor})"
        return f"{self.code} {self.name}{self.place}: {self.evidence}{share}"
