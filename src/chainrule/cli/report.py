"""`chainrule report`: the doctor's report on a run, as a page or in another form."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from chainrule.cli.options import Force, Json, Out, Quiet, RunPath
from chainrule.cli.output import Output


class Form(StrEnum):
    """How a report is written."""

    HTML = "html"
    MARKDOWN = "md"
    JSON = "json"
    TEXT = "txt"


def report(
    run: RunPath,
    opened: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    out: Out = None,
    form: Annotated[
        Form | None, typer.Option("--format", "-f", help="By default that of --out, or html.", show_default=False)
    ] = None,
    treat: Annotated[bool, typer.Option("--treat", help="Prove the cure on replays first, and show it.")] = False,
    budget: Annotated[
        float, typer.Option("--budget", metavar="S", min=0.1, help="Seconds that --treat may take.")
    ] = 120.0,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the doctor's report on a run: one page that holds everything, without scripts.

    \b
    Examples:
      chainrule report runs/digits --open
      chainrule report runs/digits --treat --out report.html
      chainrule report runs/digits --format md --out report.md
    """
    from chainrule.cli.doctor_run import write_report

    write_report(run, out, None if form is None else form.value, (treat, budget), (opened, force), Output(json, quiet))
