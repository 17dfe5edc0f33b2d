"""A demonstration of one fault: a network that fails, the factor to blame, the verdict, the cure before and after."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chainrule.cli.demos.demo import WIDTH, Demo
from chainrule.cli.demos.program import Program
from chainrule.cli.demos.script import chainrule_script, pytorch_script
from chainrule.cli.output import Output

if TYPE_CHECKING:
    from chainrule.doctor import Report

BUDGET = 20.0
"""Seconds for the proof at most: a busy machine too ends a demonstration within a minute."""


@dataclass(frozen=True)
class Fault:
    """One way in which the product activation x error comes out wrong.

    story: what happens, in the words of the lectures. look: ``flow``, or the weight that is explained. blame: what to
    see in that picture. code: the finding that must come first. cured: the same training with one thing changed, and
    change: that thing in words. sizes: (width, depth) that ``demo mystery`` draws from.
    """

    name: str
    summary: str
    code: str
    story: str
    sick: Program
    look: str
    blame: str
    cured: Program
    change: str
    sizes: tuple[tuple[int, int], ...] = ()

    def demo(self) -> Demo:
        """The demonstration of it."""
        title = f"{self.summary[0].upper()}{self.summary[1:]}."
        scripts = {
            "chainrule": chainrule_script(title, self.look, self.sick, self.cured, self.change),
            "pytorch": pytorch_script(title, self.sick, self.cured, self.change),
        }
        return Demo(self.name, self.summary, self.run, scripts, ("demo", self.name, "--code"))

    def run(self, output: Output) -> dict[str, Any]:
        """Train, look, ask, cure; each part is shown when it is known."""
        output.show(f"{self.name}: {self.summary}")
        wrapped(output, self.sick.description)
        wrapped(output, self.story)
        run = self.sick.fit()
        loss, right = self.sick.score(run.net)
        output.show(f"\nafter {run.step:,} updates the loss went {run.losses[0]:.4g} -> {loss:.4g}; {right:.0%} right")
        picture = run.flow() if self.look == "flow" else run.explain(self.look)
        output.show(f"\n{'where the gradient goes' if self.look == 'flow' else 'one weight'}")
        for line in str(picture).splitlines():
            wrapped(output, line)
        wrapped(output, f"=> {self.blame}")
        report = run.examine()
        output.show("\nthe doctor")
        for line in verdict_lines(report):
            wrapped(output, line)
        found = report.flags[0].code if report.flags else ""
        cure = self.prove(report, (loss, right), output)
        return {
            "schema": 1, "demo": self.name, "expected": self.code, "found": found,
            "before": {"loss": loss, "accuracy": right}, "report": _data(report), self._kind: picture.to_dict(),
            "cure": cure,
        }  # fmt: skip

    @property
    def _kind(self) -> str:
        return "flow" if self.look == "flow" else "explanation"

    def prove(self, report: Report, before: tuple[float, float], output: Output, seed: int = 0) -> dict[str, Any]:
        """The doctor's remedies, each replayed from the same first weights and batches; then the cure of this file on
        rows that no training saw. seed: of the run that is treated."""
        output.show("\nthe proof: the same training, replayed over seeds with each remedy")
        trials = report.treat(budget=BUDGET, on_trial=lambda _: None, workers=0)
        for line in str(trials).splitlines():
            wrapped(output, line)
        loss, right = self.cured.score(self.cured.fit(seed).net)
        output.show()
        wrapped(output, f"the cure: {self.change}")
        output.show(f"before: loss {before[0]:.4f}, {before[1]:.0%} right; after: loss {loss:.4f}, {right:.0%} right")
        return {"change": self.change, "after": {"loss": loss, "accuracy": right}, "trials": trials.to_dict()}


def verdict_lines(report: Report) -> list[str]:
    """The standing, then of each flag where, how much, and what to change first."""
    lines = [f"standing: {report.standing.name}: {report.standing.sentence}"]
    for flag in report.flags:
        share = "" if flag.share is None else f" ({flag.share:.0%} of the blame: {flag.factor})"
        lines.append(f"{flag.severity}: {flag.code} {flag.name}{flag.place}{share}")
        lines += [f"  {flag.evidence}", f"  change: {flag.remedy[0].text}"]
        if flag.symptoms:
            lines.append(f"  symptoms: {', '.join(s.name for s in flag.symptoms)}")
    return lines


def _data(report: Report) -> dict[str, Any]:
    from chainrule.doctor.reports.plain_data import as_data

    return as_data(report)


def wrapped(output: Output, line: str) -> None:
    """Text in the width of a demonstration; what is too long goes on under itself."""
    indent = " " * (len(line) - len(line.lstrip()) + (4 if _is_row(line) else 0))
    output.show(textwrap.fill(line, WIDTH, subsequent_indent=indent) if len(line) > WIDTH else line)


def _is_row(line: str) -> bool:
    """Whether a line is one of a table or list, and no sentence."""
    return line.startswith(" ") or "  " in line
