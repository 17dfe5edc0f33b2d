"""`chainrule compare`: where two runs part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainrule.cli.options import Json, Quiet
from chainrule.cli.output import Output, line_width


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Directory of a run, such as runs/digits.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Directory of another, such as runs/digits-2.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare two runs: the first step, tensor and value in which they part, then their flows side by side.

    Settings are compared first, then the loss of each update, then weights and the optimizer's memory at the steps of
    which both have a checkpoint; all bit by bit. The exit code is 0 whether they differ or not: "same" in --json tells.

    \b
    Examples:
      chainrule compare runs/digits runs/digits-2
      chainrule compare runs/digits runs/digits-2 --json
    """
    from chainrule.cli.explaining import WIDEST
    from chainrule.training import compare as compared

    output = Output(json, quiet)
    found = compared(first, second)
    output.show(found.text(min(line_width(), WIDEST)))
    output.next("show", str(second), "--stage", "flow")
    output.result(found.to_dict())
