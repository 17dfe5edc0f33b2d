"""`chainrule info`: the machine and the packages, or what is in a run's directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainrule.cli.options import Json, Quiet
from chainrule.cli.output import Output


def info(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="Directory of a run; without it: this machine.", show_default=False),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tell about this machine, or about a run.

    Of the machine: versions, processor and packages. Of a run: settings, status, history and checkpoints.

    \b
    Examples:
      chainrule info
      chainrule info runs/digits
    """
    output = Output(json, quiet)
    if run is None:
        from chainrule.cli.machine import show_machine

        show_machine(output)
    else:
        from chainrule.cli.story import show_run

        show_run(run, output)
