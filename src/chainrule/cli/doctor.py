"""`chainrule doctor`: what keeps a training from learning, and what to change first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainrule.cli.options import Json, Quiet
from chainrule.cli.output import Output


def doctor(
    target: Annotated[Path, typer.Argument(metavar="SCRIPT", help="A PyTorch training script, such as train.py.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[-- ARGUMENTS]", help="Of the script.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", help="Stop after N updates.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Watch a PyTorch script as it is, and say what keeps it from learning.

    The script runs unedited; its models, optimizers and losses are found, and nothing of its training changes.
    The verdict
    comes at its end, also where it raises. Exit code 1: an error was found, or the script failed.

    \b
    Examples:
      chainrule doctor train.py --steps 200
      chainrule doctor train.py --json -- --lr 0.1
    """
    from chainrule.cli.doctor_script import examine_script

    code = examine_script(target, arguments or [], steps, Output(json, quiet))
    if code:
        raise typer.Exit(code)
