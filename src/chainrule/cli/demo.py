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
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Of `mystery`: which fault is planted.")
    ] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Of `mystery`: tell the fault.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a demonstration, or list them.

    \b
    Examples:
      chainrule demo
      chainrule demo step
      chainrule demo step --code > step.py && python step.py
      chainrule demo vanishing
      chainrule demo mystery --seed 3
      chainrule demo mystery --seed 3 --reveal
    """
    from chainrule.cli.demos import list_demos, run_demo, run_mystery
    from chainrule.errors import ArgumentError

    output = Output(json, quiet)
    if name == "mystery":
        if code:
            raise ArgumentError("demo mystery shows no script, which would tell the fault; --reveal tells it")
        if exit_code := run_mystery(0 if seed is None else seed, reveal, output):
            raise typer.Exit(exit_code)
        return
    if seed is not None or reveal:
        raise ArgumentError("--seed and --reveal are for chainrule demo mystery")
    if name is None:
        list_demos(output)
    else:
        run_demo(name, code, output)
