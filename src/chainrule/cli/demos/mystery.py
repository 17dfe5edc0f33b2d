"""The demonstration ``mystery``: a run with a planted fault, to be found with the tools; and the answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chainrule.cli.demos.fault import Fault, verdict_lines, wrapped
from chainrule.cli.demos.program import Program
from chainrule.cli.failure import FAILED, FINE
from chainrule.cli.output import Output

if TYPE_CHECKING:
    from chainrule.training.run import Run

BATCHES = 8
"""Batches whose rows the run keeps: what `explain` and `flow` look at, and enough for the doctor to judge."""


@dataclass(frozen=True)
class Mystery:
    """The fault that a seed plants: in a program of the size that the seed chooses, and the same one mended."""

    seed: int
    fault: Fault

    @property
    def program(self) -> Program:
        """What has the fault."""
        return self.fault.sick

    @property
    def place(self) -> Path:
        """Its run directory, which does not give the fault away."""
        return Path("runs") / f"mystery-{self.seed}"


def mystery_of(seed: int, faults: Sequence[Fault]) -> Mystery:
    """The fault and the sizes that ``seed`` chooses, among those that a run directory can hold."""
    chance = random.Random(seed)
    fault = chance.choice([f for f in faults if f.sizes])
    width, depth = chance.choice(fault.sizes)
    sick, cured = (replace(program, width=width, depth=depth) for program in (fault.sick, fault.cured))
    return Mystery(seed, replace(fault, sick=sick, cured=cured))


def _planted(mystery: Mystery) -> Run:
    """The run as its directory holds it; it is made first if it is not there."""
    from chainrule.training.run import Run

    if not mystery.place.is_dir():
        mystery.program.fit(mystery.seed, run_dir=mystery.place, keep_rows=BATCHES)
    return Run.load(mystery.place)


def plant(mystery: Mystery, output: Output) -> None:
    """Train it, leave the run directory, and say how to look for the fault."""
    run = _planted(mystery)
    loss, right = mystery.program.score(run.net)
    output.show(f"{run.step:,} updates, the loss went {run.losses[0]:.4g} -> {loss:.4g}; {right:.0%} right")
    output.show(f"The run is in {mystery.place}. Something keeps it from learning. Which factor is to blame?")
    output.show(f"  chainrule show {mystery.place}       its next update, line by line")
    output.show(f"  chainrule explain {mystery.place}    its weights with the largest gradients")
    output.show(f"  chainrule doctor {mystery.place}     the verdict")
    output.show(f'  in Python: print(cr.Run.load("{mystery.place}").flow())')
    output.next("demo", "mystery", "--seed", str(mystery.seed), "--reveal")
    output.result({"schema": 1, "demo": "mystery", "seed": mystery.seed, "run": str(mystery.place),
                   "loss": [run.losses[0], loss], "accuracy": right})  # fmt: skip


def reveal(mystery: Mystery, output: Output) -> int:
    """Tell the fault, whether the doctor finds it, and the proven cure; the exit code. A missing run is made first."""
    fault, program = mystery.fault, mystery.program
    run = _planted(mystery)
    report = run.examine()
    found = report.flags[0].code if report.flags else ""
    output.show(f"It is {fault.name}: {fault.summary}")
    wrapped(output, program.description)
    wrapped(output, fault.story)
    output.show("\nthe doctor, from the run directory alone")
    for line in verdict_lines(report):
        wrapped(output, line)
    # A directory keeps too few rows to train on; the demonstration knows the others.
    cure = fault.prove(run.examine(program.rows()[0]), program.score(run.net), output, mystery.seed)
    said = f"the doctor's first finding is {found or 'none'}, and the planted fault is {fault.code}"
    output.show(f"{'found' if found == fault.code else 'not found'}: {said}")
    output.next("demo", fault.name)
    data: dict[str, Any] = {"planted": fault.code, "found": found, "fault": fault.name, "program": program.description,
                            "cure": cure}  # fmt: skip
    output.result({"schema": 1, "demo": "mystery", "seed": mystery.seed, "run": str(mystery.place), **data})
    return FINE if found == fault.code else FAILED
