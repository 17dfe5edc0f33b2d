"""`chainrule predict`: what a run's network says about rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainrule.cli.options import Json, Quiet, RunPath
from chainrule.cli.output import Output


def predict(
    run: RunPath,
    rows: Annotated[
        str | None,
        typer.Argument(metavar="[ROWS]", help="A file with the columns of training, or a built-in data set. "
                       "Without it: the rows that the run held out.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the CSV here.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of --out.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Predict rows with a trained network, as CSV.

    A class comes with its probability, a number in the units of the target. Where the rows hold the truth, it stands
    beside the prediction.

    \b
    Examples:
      chainrule predict runs/digits
      chainrule predict runs/houses new.csv --out predictions.csv
    """
    from chainrule.cli.answer import answer

    answer(run, rows, out, force, Output(json, quiet, piped=out is None and not json))
