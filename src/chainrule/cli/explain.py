"""`chainrule explain`: why one weight of a run has the gradient that it has."""

from __future__ import annotations

from typing import Annotated

import typer

from chainrule.cli.options import Json, Quiet, RunPath
from chainrule.cli.output import Output


def explain(
    run: RunPath,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A weight or bias such as '0.weight[7, 2]' or 'W1[7, 2]'; an input "
                       "'x[2]' or a column's name; a pre-activation 'z1[7]' or an activation 'a1[3]'; 'top(5)' or "
                       "'0.top(5)' for the largest gradients of all or of a layer. Without it: the ten largest, and "
                       "the first explained.", show_default=False),
    ] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", "-s", help="Follow this row of the batch.", show_default=False)
    ] = None,
    step: Annotated[
        int | None, typer.Option("--step", help="Look at the checkpoint after so many updates; without it: the latest.",
                                 show_default=False)
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Explain one weight of a run: input activation x error, sample by sample, and where the error came from.

    The numbers are those of the update that comes next, on the batch that the run kept of its training rows.

    \b
    Examples:
      chainrule explain runs/digits
      chainrule explain runs/digits '0.weight[7, 2]'
      chainrule explain runs/digits 'W1[7, 2]' --sample 4
      chainrule explain runs/digits 'x[20]' --json
    """
    from chainrule.cli.explaining import show_explanation

    show_explanation(run, name, sample, step, Output(json, quiet))
