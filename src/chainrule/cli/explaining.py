"""Explaining: one number of a run as text of the terminal's width and as plain data."""

from __future__ import annotations

from pathlib import Path

from chainrule.cli.output import Output, line_width
from chainrule.errors import ArgumentError
from chainrule.record import RunDirectory
from chainrule.see.explanation import Explanation
from chainrule.training import Run

WIDEST = 120
"""Characters of a line, however wide the terminal is: longer ones are hard to read."""


def show_explanation(path: Path, name: str | None, sample: int | None, step: int | None, output: Output) -> None:
    """Work out the explanation and print it."""
    _refuse_missing(path, step)
    found = Run.load(path).explain(name, step, sample)
    output.show(found.text(min(line_width(), WIDEST)))
    output.next(*_next(path, found, name))
    output.result({"run": str(path), **found.to_dict()})


def _refuse_missing(path: Path, step: int | None) -> None:
    with RunDirectory.open(path) as directory:
        there = directory.checkpoints()
    if step is not None and there and step not in there:
        raise ArgumentError(f"--step {step}: the run has no checkpoint of it. There are {', '.join(map(str, there))}")


def _next(path: Path, found: Explanation, name: str | None) -> tuple[str, ...]:
    """From the largest gradients to the sample that adds most to one; from a sample to the layers."""
    if name is None and found.gradient:
        return "explain", str(path), found.name, "--sample", str(found.sample)
    return "show", str(path), "--stage", "flow"
