"""`chainrule show`: a run's training step at each stage, from the derivation down to machine code."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from chainrule.cli.options import Force, Json, Out, Quiet, RunPath
from chainrule.cli.output import Output


class Stage(StrEnum):
    """What the step is looked at as."""

    DERIVATION = "derivation"
    GRAPH = "graph"
    PROGRAM = "program"
    SOURCE = "source"
    FLOW = "flow"


class Format(StrEnum):
    """How a derivation is written."""

    TEXT = "text"
    LATEX = "latex"
    MARKDOWN = "markdown"
    HTML = "html"
    NUMPY = "numpy"


def show(
    run: RunPath,
    stage: Annotated[
        Stage, typer.Option("--stage", "-s", help="The derivation, line by line; the graph of operations; the program "
                            "of loops; the source of its machine code (LLVM); or the flow of the gradient.")
    ] = Stage.DERIVATION,
    form: Annotated[
        Format, typer.Option("--format", "-f", help="Of a derivation. numpy: a program that gives the same bits.")
    ] = Format.TEXT,
    weight: Annotated[
        str | None,
        typer.Option("--weight", "-w", metavar="NAME", help="With --format latex: the chain from the loss to a weight, "
                     "such as '0.weight[7, 2]'.", show_default=False),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show repeating layers too.")] = False,
    out: Out = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Show the next training step of a run: forward, backward, update.

    Numbers are those of the batch that the run kept of its training rows; a run that kept none (keep_rows=0) is shown
    with shapes.

    \b
    Examples:
      chainrule show runs/digits
      chainrule show runs/digits --format latex --weight '0.weight[7, 2]'
      chainrule show runs/digits --format numpy --out step.py
      chainrule show runs/digits --stage flow
      chainrule show runs/digits --stage program
    """
    from chainrule.cli.stages import Asked, show_stage

    text = stage in (Stage.DERIVATION, Stage.FLOW) and form is Format.TEXT
    output = Output(json, quiet, piped=not text and out is None and not json)
    show_stage(run, Asked(stage.value, form.value, weight, every, out, force), output)
