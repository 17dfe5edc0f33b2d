"""`chainrule demo`: small networks that show one thing each, in numbers."""

from __future__ import annotations

from typing import Annotated

import typer

from chainrule.cli.options import Json, Quiet
from chainrule.cli.output import Output


def demo(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Which; without it: all there are.", show_default=False)
    ] = None,
    code: Annotated[bool, typer.Option("--code", help="Print the script that does the same in Python.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a demonstration, or list them.

    \b
    Examples:
      chainrule demo
      chainrule demo step
      chainrule demo step --code > step.py && python step.py
    """
    from chainrule.cli.demos import list_demos, run_demo

    output = Output(json, quiet)
    if name is None:
        list_demos(output)
    else:
        run_demo(name, code, output)
