"""The report: where training stands, what was found, and how near the rest came; as text, Markdown, JSON and a page."""

import os
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from chainrule.doctor.finding import Finding
from chainrule.doctor.rule import Remedy
from chainrule.doctor.standing import Standing
from chainrule.doctor.trials import Trial, Trials
from chainrule.errors import ArgumentError, ChainruleError
from chainrule.record import RunRecord

LINES = 8
WIDTH = 110


class DiagnosisError(ChainruleError, RuntimeError):
    """A report has findings of the severity that `raise_for` was asked for."""


@dataclass(frozen=True)
class Near:
    """How near a silent rule came: ratio of what was measured to the limit."""

    code: str
    name: str
    ratio: float
    evidence: str


@dataclass(frozen=True, eq=False)
class Report:
    """standing: where training stands. findings: causes, the gravest first, each with its symptoms.

    looked: rules that looked. near: the silent ones that came nearest. seconds: the judgement took.
    """

    standing: Standing
    findings: tuple[Finding, ...]
    looked: int
    near: tuple[Near, ...]
    record: RunRecord = field(repr=False)
    title: str = ""
    seconds: float = 0.0
    treatment: Callable[..., Trials] | None = field(default=None, repr=False)
    """What `treat` calls with the report: whoever made the report knows how the training can be replayed."""
    tried: list[Trials] = field(default_factory=list, repr=False)
    """What `treat` found, the latest last."""

    @property
    def trials(self) -> Trials | None:
        """What `treat` found; None before it was called."""
        return self.tried[-1] if self.tried else None

    def treat(
        self,
        budget: float = 120.0,
        on_trial: Callable[[Trial], None] | None = None,
        *,
        data: Any = None,
        workers: int | None = None,
        remedies: Sequence[Remedy] = (),
    ) -> Trials:
        """Try the remedies on replays of the same training, for at most `budget` seconds; what is proven is the cure.

        on_trial: called with each Trial as it is settled; without it each is printed. data: (x, y) as the network and
        the loss take them, for a run that was loaded. workers: processes for replays; 0: this one. remedies: a
        treatment of your own, all of them together, in place of the findings'.

        ArgumentError: the report is of a record alone, or what a replay needs is gone, which is named.
        NotApplicable: a remedy of yours changes nothing here.
        """
        if self.treatment is None:
            raise ArgumentError(
                "treat: this report was made from a record alone, and a replay needs the network, its rows and its "
                "loss: use run.examine().treat(), or beforehand chainrule.diagnose(net, (x, y), loss=...).treat(). "
                "Of a PyTorch model: watch.examine().treat() after watching it, or chainrule.diagnose(model, loader, "
                "loss=criterion, optimizer=optimizer).treat() on a fresh one"
            )
        found = self.treatment(self, data, budget=budget, on_trial=on_trial, workers=workers, remedies=tuple(remedies))
        self.tried.append(found)
        return found

    @property
    def ok(self) -> bool:
        """Whether nothing was flagged; a note does not count."""
        return not self.flags

    @property
    def flags(self) -> tuple[Finding, ...]:
        """The findings that count: errors and warnings."""
        return tuple(f for f in self.findings if f.severity != "note")

    def raise_for(self, severity: Literal["error", "warning", "note"] = "error") -> None:
        """DiagnosisError if there is a finding of that severity or a graver one."""
        grave = {"error": ("error",), "warning": ("error", "warning"), "note": ("error", "warning", "note")}
        if severity not in grave:
            raise ArgumentError(f"raise_for takes 'error', 'warning' or 'note', got {severity!r}")
        found = [f for f in self.findings if f.severity in grave[severity]]
        if found:
            raise DiagnosisError(f"{len(found)} findings; first: {found[0]}. {found[0].remedy[0]}")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as .html (one self-contained page), .md, .json or .txt; gives the path."""
        from chainrule.doctor.reports import html, markdown, plain_data

        path = Path(path)
        writers = {".html": html.page, ".md": markdown.text, ".json": plain_data.json_text, ".txt": plain}
        if path.suffix not in writers:
            raise ArgumentError(f"a report is saved as {', '.join(writers)}, got {path.name!r}")
        path.write_text(writers[path.suffix](self), encoding="utf-8")
        return path

    def show(self) -> None:
        """Print the whole report in the terminal, in colour where there is colour."""
        from chainrule.doctor.reports.terminal import show

        show(self)

    def __str__(self) -> str:
        lines = [_short(f"standing: {self.standing.name} ({self.standing.sentence})")]
        flags = self.flags
        if not flags:
            lines.append(f"nothing found: {self.looked} rules looked{self._nearest()}")
            lines += [_short(f"note: {f}") for f in self.findings[: LINES - len(lines)]]
            return "\n".join(lines)
        first = flags[0]
        lines.append(_short(f"{first.severity}: {first}"))
        lines += [_short(f"  why: {first.why}"), _short(f"  change: {first.remedy[0]}")]
        if first.symptoms:
            lines.append(_short(f"  symptoms: {', '.join(s.name for s in first.symptoms)}"))
        lines += [_short(f"{f.severity}: {f}") for f in flags[1:]]
        if first.factor == "none":
            lines.insert(1, "not a gradient problem")
        return "\n".join(lines[:LINES])

    def _nearest(self) -> str:
        close = [n for n in self.near[:2] if n.ratio > 0]
        said = " and ".join(f"{n.code} {n.name} at {n.ratio:.0%} of its limit" for n in close)
        return f"; nearest came {said}" if said else ""


def plain(report: Report) -> str:
    """The report's lines, and under them those of its trials."""
    return f"{report}\n" + ("" if report.trials is None else f"{report.trials}\n")


def _short(line: str) -> str:
    return textwrap.shorten(line.replace("\n", " "), WIDTH, placeholder=" …") if len(line) > WIDTH else line
