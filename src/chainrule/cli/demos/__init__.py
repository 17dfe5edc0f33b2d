"""Demonstrations: each is one file with its words, its numbers and its script."""

from __future__ import annotations

import difflib

from chainrule.cli.demos import (
    cancellation,
    dead_relu,
    exploding,
    initialisation,
    learning_rate,
    mystery,
    pairing,
    saturation,
    scale,
    small_activation,
    step,
    vanishing,
)
from chainrule.cli.demos.demo import Demo
from chainrule.cli.demos.fault import Fault
from chainrule.cli.output import Output
from chainrule.errors import ArgumentError

FAULTS: dict[str, Fault] = {
    module.FAULT.name: module.FAULT
    for module in (
        vanishing, exploding, dead_relu, saturation, small_activation, initialisation, learning_rate, scale, pairing,
        cancellation,
    )
}  # fmt: skip
"""By name, in the order of the list."""

DEMOS: dict[str, Demo] = {demo.name: demo for demo in (step.DEMO, *(fault.demo() for fault in FAULTS.values()))}


MYSTERY = ("mystery", "one of these faults, planted by seed: find it (--seed N, then --reveal)")


def list_demos(output: Output) -> None:
    """A line a demonstration."""
    rows = [*((d.name, d.summary) for d in DEMOS.values()), MYSTERY]
    output.table(["demo", "shows"], rows)
    output.next("demo", next(iter(DEMOS)))
    output.result({"schema": 1, "demos": [{"name": n, "summary": s} for n, s in rows]})


def run_demo(name: str, code: bool, output: Output) -> None:
    """Show one demonstration, or its scripts. ArgumentError: there is none of that name."""
    if name not in DEMOS:
        names = [*DEMOS, MYSTERY[0]]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(f"no demo is called {name!r}{hint}: there are {', '.join(names)}")
    demo = DEMOS[name]
    if code:
        output.show("\n\n".join(script.rstrip() for script in demo.scripts.values()))
        pytorch = {"pytorch": demo.scripts["pytorch"]} if "pytorch" in demo.scripts else {}
        output.result({"schema": 1, "demo": name, "code": demo.scripts["chainrule"], **pytorch})
        return
    found = demo.run(output)
    output.next(*demo.next)
    output.result(found)


def run_mystery(seed: int, reveal: bool, output: Output) -> int:
    """Plant the fault that ``seed`` chooses, or tell it; the exit code. ArgumentError: the seed is negative."""
    if seed < 0:
        raise ArgumentError(f"--seed is a whole number from 0 on, got {seed}")
    chosen = mystery.mystery_of(seed, list(FAULTS.values()))
    if reveal:
        return mystery.reveal(chosen, output)
    mystery.plant(chosen, output)
    return 0
