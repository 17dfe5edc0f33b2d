"""What treatments proved: each trial with its verdict, and all of one report with the cure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from chainrule.doctor.rule import Remedy

Verdict = Literal["proven", "no effect", "worse", "unsettled"]
"""unsettled: better so far, and the time or the seeds did not suffice to prove it."""

LINES = 12


@dataclass(frozen=True)
class Trial:
    """One treatment: remedies applied together, replayed beside the untreated training."""

    code: str
    name: str
    """Of the finding that named the remedies; code and name are empty for a treatment that somebody asked for."""
    remedies: tuple[Remedy, ...]
    verdict: Verdict
    before: tuple[float, ...]
    """Score of the untreated training by seed: 0 for a constant prediction, 1 for a perfect one, not below -1."""
    after: tuple[float, ...]
    """Score of the treated one, on the same seeds and batches."""
    measure: str
    """What the score is of: "loss", "accuracy" or "R2", and on which rows."""
    p: float
    """Share of the divisions of all results into two groups that gain as much by chance."""
    steps: int
    """Updates of each replay."""
    chainrule: str = ""
    """The lines to change, as a diff."""
    pytorch: str = ""
    """The same in PyTorch's words."""
    mended: tuple[Remedy, ...] = ()
    """Remedies that both sides have: what was proven before, of stacked faults."""
    said: str = ""
    """Why it ended as it did, if there is more to say."""
    seconds: float = 0.0
    begins: int = 0
    """Updates made before its replays begin: those of a checkpoint of the run, or 0."""

    @property
    def proven(self) -> bool:
        return self.verdict == "proven"

    @property
    def effect(self) -> float:
        """Mean gain in score."""
        if not self.before or not self.after:
            return 0.0
        return sum(self.after) / len(self.after) - sum(self.before) / len(self.before)

    @property
    def seeds(self) -> int:
        return len(self.after)

    @property
    def title(self) -> str:
        """The remedies in words: "change-activation(activation=ReLU)"."""
        return " and ".join(map(titled, self.remedies))

    @property
    def figures(self) -> str:
        """The mean scores, how many seeds they are of, and p: "3% -> 97% of the training loss, 3 seeds (p 0.05)"."""
        spread = f" (p {self.p:.2g})" if self.seeds > 1 else ""
        seeds = f"{self.seeds} seed{'s' if self.seeds != 1 else ''}"
        begins = f", from the checkpoint at update {self.begins:,}" if self.begins else ""
        return f"{_mean(self.before)} -> {_mean(self.after)} of the {self.measure}, {seeds}{spread}{begins}"

    @property
    def row(self) -> tuple[str, ...]:
        """The trial as a row of a table: treatment, finding, verdict, before, after, seeds, p."""
        p = f"{self.p:.2g}" if self.seeds > 1 else ""
        cause = f"{self.code} {self.name}".strip()
        return (
            f"{self.title}{' (' + self.said + ')' if self.said else ''}", cause, self.verdict,
            _mean(self.before), _mean(self.after), str(self.seeds), p,
        )  # fmt: skip

    def __str__(self) -> str:
        said = f"; {self.said}" if self.said else ""
        cause = f" for {self.code} {self.name}" if self.code else ""
        return f"{self.verdict}: {self.title}{cause}: {self.figures}{said}"

    def to_dict(self) -> dict[str, Any]:
        """The trial as plain data."""
        return {
            "code": self.code, "name": self.name, "verdict": self.verdict,
            "remedies": [_plain(r) for r in self.remedies], "mended": [_plain(r) for r in self.mended],
            "before": list(self.before), "after": list(self.after),
            "effect": self.effect, "measure": self.measure, "p": self.p, "steps": self.steps, "said": self.said,
            "chainrule": self.chainrule, "pytorch": self.pytorch, "seconds": self.seconds, "begins": self.begins,
        }  # fmt: skip


@dataclass(frozen=True)
class Trials:
    """All that was tried for one report. Iterating gives the trials in the order in which they ended."""

    trials: tuple[Trial, ...]
    cure: Trial | None = None
    """The smallest treatment that is proven: of stacked faults all remedies together, beside the untreated training."""
    untried: tuple[str, ...] = ()
    """Remedies for which there was no time."""
    by_hand: tuple[str, ...] = ()
    """Remedies that only a person can carry out, with the reason."""
    not_applicable: tuple[str, ...] = ()
    """Remedies that change nothing here, with the reason."""
    notes: tuple[str, ...] = ()
    budget: float = 0.0
    seconds: float = 0.0
    left: tuple[str, ...] = ()
    """Findings that are still flagged with the cure applied; empty if there are none or nobody looked."""

    @property
    def proven(self) -> tuple[Trial, ...]:
        """The trials that are proven, the best first."""
        return tuple(sorted((t for t in self.trials if t.proven), key=lambda t: -sum(t.after) / max(t.seeds, 1)))

    @property
    def best(self) -> Trial | None:
        """The cure; None if nothing is proven."""
        return self.cure

    @property
    def remarks(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """What was not tried and why, under a heading each; empty ones left out."""
        found = (
            ("still flagged with the cure", self.left),
            ("not tried, for the time was up", self.untried),
            ("needs you", self.by_hand),
            ("changes nothing here", self.not_applicable),
            ("note", self.notes),
        )
        return tuple((word, said) for word, said in found if said)

    def __iter__(self) -> Any:
        return iter(self.trials)

    def __len__(self) -> int:
        return len(self.trials)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data; the schema is in docs/doctor.md."""
        return {
            "schema": 1, "cure": None if self.cure is None else self.cure.to_dict(),
            "trials": [t.to_dict() for t in self.trials], "untried": list(self.untried), "by_hand": list(self.by_hand),
            "not_applicable": list(self.not_applicable), "left": list(self.left), "notes": list(self.notes),
            "budget": self.budget if math.isfinite(self.budget) else None, "seconds": self.seconds,
        }  # fmt: skip

    def __str__(self) -> str:
        cure, lines = self.cure, []
        if cure is not None:
            lines += [f"proven cure: {cure.title}", f"  {cure.figures}"]
            lines += [f"  {line}" for line in cure.chainrule.splitlines()[:6]]
            if self.left:
                lines.append(f"  still flagged with it: {', '.join(self.left)}")
        else:
            lines.append("no cure is proven" if self.trials or self.untried else "nothing to treat")
        others = [t for t in self.trials if cure is None or t.remedies != cure.remedies]
        tail = [f"{word}: {'; '.join(found)}" for word, found in (
            ("not tried, for the time was up", self.untried), ("needs you", self.by_hand), ("note", self.notes),
        ) if found]  # fmt: skip
        room = LINES - len(lines) - len(tail)
        shown = others if len(others) <= room else others[: max(room - 1, 0)]
        lines += [_short(str(t)) for t in shown]
        if len(shown) < len(others):
            lines.append(f"and {len(others) - len(shown)} more trials")
        return "\n".join([*lines, *map(_short, tail)][:LINES])


def titled(remedy: Remedy) -> str:
    """A remedy by its id and parameters."""
    given = ", ".join(f"{k}={v}" for k, v in remedy.parameters.items() if v is not None)
    return f"{remedy.id}({given})" if given else remedy.id


def _plain(remedy: Remedy) -> dict[str, Any]:
    return {"id": remedy.id, "text": remedy.text, "parameters": dict(remedy.parameters)}


def _mean(scores: tuple[float, ...]) -> str:
    return f"{round(sum(scores) / len(scores), 2) + 0.0:.0%}" if scores else "?"


def _short(line: str, width: int = 150) -> str:
    return line if len(line) <= width else line[: width - 2] + " …"
