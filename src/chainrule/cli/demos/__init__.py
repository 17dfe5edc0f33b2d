"""Demonstrations: each is one file with its words, its numbers and its script."""

from __future__ import annotations

import difflib

from chainrule.cli.demos import step
from chainrule.cli.demos.demo import Demo
from chainrule.cli.output import Output
from chainrule.errors import ArgumentError

DEMOS: dict[str, Demo] = {demo.name: demo for demo in (step.DEMO,)}
"""By name, in the order of the list."""


def list_demos(output: Output) -> None:
    """A line a demonstration."""
    output.table(["demo", "shows"], [(d.name, d.summary) for d in DEMOS.values()])
    output.next("demo", next(iter(DEMOS)))
    output.result({"schema": 1, "demos": [{"name": d.name, "summary": d.summary} for d in DEMOS.values()]})


def run_demo(name: str, code: bool, output: Output) -> None:
    """Show one demonstration, or its script. ArgumentError: there is none of that name."""
    if name not in DEMOS:
        near = difflib.get_close_matches(name, DEMOS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(f"no demo is called {name!r}{hint}: there are {', '.join(DEMOS)}")
    demo = DEMOS[name]
    if code:
        output.show(demo.script.rstrip())
        output.result({"schema": 1, "demo": name, "code": demo.script})
        return
    numbers = demo.numbers()
    output.show("\n".join(demo.lines(numbers)))
    output.next(*demo.next)
    output.result({"schema": 1, "demo": name, **numbers})
