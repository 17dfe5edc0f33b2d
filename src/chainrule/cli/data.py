"""`chainrule data`: the data sets that come with the package, and what is in a source."""

from __future__ import annotations

from typing import Annotated

import typer

from chainrule.cli.options import Json, Quiet
from chainrule.cli.output import Output

commands = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@commands.callback()
def data() -> None:
    """Look at data sets.

    \b
    Examples:
      chainrule data list
      chainrule data show digits
    """


@commands.command("list")
def list_sets(json: Json = False, quiet: Quiet = False) -> None:
    """List the data sets that come with the package.

    \b
    Examples:
      chainrule data list
      chainrule data list --json
    """
    from chainrule.cli.catalogue import list_builtin

    list_builtin(Output(json, quiet))


@commands.command("show")
def show_source(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A built-in data set, a file, or a folder of IDX files.")
    ],
    target: Annotated[
        str | None, typer.Option("--target", metavar="COLUMN", help="The column to predict.", show_default=False)
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what is in a source of rows.

    Columns with missing values and ranges, classes with counts, and the first images as pictures.

    \b
    Examples:
      chainrule data show digits
      chainrule data show houses.csv --target price
    """
    from chainrule.cli.catalogue import show

    show(source, target, Output(json, quiet))
