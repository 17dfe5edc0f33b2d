"""`chainrule check`: a run's gradients against finite differences, and why backpropagation."""

from __future__ import annotations

from typing import Annotated

import typer

from chainrule.cli.options import Json, Quiet, RunPath
from chainrule.cli.output import Output


def check(
    run: RunPath,
    weights: Annotated[
        int, typer.Option("--weights", metavar="N", help="Entries of each parameter to move, chosen at random.")
    ] = 20,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the choice.")] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check a run's gradients by finite differences.

    In float64, with the worst error of each layer and a verdict. Finite differences move one weight at a time, and run
    the network forward for each. Backpropagation finds all derivatives in one forward and one backward pass; both times
    are measured.

    \b
    Examples:
      chainrule check runs/digits
      chainrule check runs/digits --weights 100 --json
    """
    from chainrule.cli.differences import check_run

    if not check_run(run, weights, seed, Output(json, quiet)):
        raise typer.Exit(1)
