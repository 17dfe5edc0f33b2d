"""`chainrule doctor`: what keeps a training from learning, and what to change first."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from chainrule.cli.options import Json, Quiet
from chainrule.cli.output import Output


class FailOn(StrEnum):
    """The severity from which on the exit code is 1."""

    ERROR = "error"
    WARNING = "warning"
    NEVER = "never"


def doctor(
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="A run's directory, or a PyTorch training script such as train.py.")
    ],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[-- ARGUMENTS]", help="Of the script.")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", help="Of a script: stop after N updates.")
    ] = None,
    treat: Annotated[
        bool, typer.Option("--treat", help="Of a run: replay it with each remedy, and prove what helps.")
    ] = False,
    budget: Annotated[
        float, typer.Option("--budget", metavar="S", min=0.1, help="Seconds that --treat may take.")
    ] = 120.0,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="The severity of findings from which on the exit code is 1.")
    ] = FailOn.ERROR,
    select: Annotated[
        list[str] | None,
        typer.Option(
            "--select", metavar="CODE", help="Only these rules: codes, beginnings (CR2) or names. Repeatable."
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="CODE", help="Not these rules. Repeatable.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what keeps a training from learning: of a run, or of a PyTorch script as it is.

    A run is judged by its record, its weights and its rows; chainrule.toml holds limits and selections. With --treat
    each remedy is tried on replays of the same run: same seed, same batches, one thing changed.

    A script runs unedited; its models, optimizers and losses are found, and nothing of its training changes. The
    verdict comes at its end, also where it raises.

    Exit code 1: something was found (see --fail-on), or the script failed.

    \b
    Examples:
      chainrule doctor runs/digits
      chainrule doctor runs/digits --treat --budget 60
      chainrule doctor runs/digits --fail-on warning --ignore CR5 --json
      chainrule doctor train.py --steps 200
      chainrule doctor train.py --json -- --lr 0.1
    """
    output = Output(json, quiet)
    if target.is_dir() or (not target.exists() and target.suffix != ".py"):
        from chainrule.cli.doctor_run import Asked, examine_run

        _refuse_of_scripts(steps, arguments)
        asked = Asked(treat, budget, fail_on.value, _codes(select), _codes(ignore))
        code = examine_run(target, asked, output)
    else:
        from chainrule.cli.doctor_script import examine_script

        _refuse_of_runs(treat, select, ignore)
        code = examine_script(target, arguments or [], steps, output)
        if fail_on is FailOn.NEVER and code == 1:
            code = 0
    if code:
        raise typer.Exit(code)


def _codes(given: list[str] | None) -> tuple[str, ...]:
    """Codes of a repeated option, each of which may hold several with commas between."""
    return tuple(code.strip() for text in given or () for code in text.split(",") if code.strip())


def _refuse_of_scripts(steps: int | None, arguments: list[str] | None) -> None:
    from chainrule.errors import ArgumentError

    if steps is not None or arguments:
        raise ArgumentError("--steps and arguments behind -- are for a script such as train.py, not for a run")


def _refuse_of_runs(treat: bool, select: list[str] | None, ignore: list[str] | None) -> None:
    from chainrule.errors import ArgumentError

    if treat or select or ignore:
        raise ArgumentError("--treat, --select and --ignore are for a run's directory; a script is only watched")
