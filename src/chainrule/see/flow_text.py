"""A flow as a picture for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chainrule.see.flow import Flow, Gain

BAR = 14
DECADES = 7.0
"""A full bar is the largest of its column, an empty one ten million times less."""


def text_of(it: Flow) -> str:
    """The table, then the links from the loss back, then the verdict."""
    return "\n".join([*_table(it), "", *_links(it), "", *_forward(it), "", _verdict(it)])


def _table(it: Flow) -> list[str]:
    width = max([len(r.name) for r in it.rows] + [9])
    lines = [
        f"step {it.trace.step}, {it.trace.rows} samples, loss {it.trace.loss:.4g}      "
        "gradient = uses x activation x error x agreement (root mean squares)",
        f"{'parameter':<{width}} {'activation':>10} {'error':>9} {'agreement':>9} {'uses':>5} {'gradient':>9}",
    ]
    most = max((r.gradient for r in it.rows), default=0.0)
    for row in it.rows:
        faint = "~" if row.agreement is not None and row.agreement < row.noise else " "
        lines.append(
            f"{row.name:<{width}} {_number(row.activation):>10} {_number(row.error):>9} "
            f"{_number(row.agreement):>8}{faint} {row.uses:>5g} {_number(row.gradient):>9}  {_bar(row.gradient, most)}"
        )
    noise = it.rows[0].noise if it.rows else 1.0
    if any(r.agreement is not None and r.agreement < r.noise for r in it.rows):
        lines.append(f"~ below {noise:.3g} = 1/√n, what samples agree by chance")
    return lines


def _links(it: Flow) -> list[str]:
    if not it.links:
        return []
    names = [f"{k.source} -> {k.target}" for k in it.links]
    width = max(map(len, names))
    lines = [
        f"{'the error, back':<{width}} {'gain':>9} = {'weights':>8} x {'local':>8} x {'cross':>6}   {'arrived':>8}  so far"
    ]
    most = max((k.arrived for k in it.links if math.isfinite(k.arrived)), default=0.0)
    for name, link in zip(names, it.links, strict=True):
        through = f"  {', '.join(link.through)}" if link.through else ""
        lines.append(f"{name:<{width}} {_split(link)}   {_number(link.arrived):>8}  {_bar(link.arrived, most)}{through}")
    return lines


def _split(link: Gain) -> str:
    return f"{_number(link.gain):>9} = {_number(link.weights):>8} x {_number(link.local):>8} x {_number(link.cross):>6}"


def _forward(it: Flow) -> list[str]:
    width = max([len(_named(f)) for f in it.activations] + [19])
    lines = [f"{'the values, forward':<{width}} {'input':>9} {'z':>9} {'output':>9} {'slope':>9} {'slope 0':>8}"]
    most = max((f["output"] for f in it.activations), default=0.0)
    for found in it.activations:
        off = "" if found["share_off"] is None else f"{100 * found['share_off']:.0f} %"
        lines.append(
            f"{_named(found):<{width}} {_number(found['input']):>9} {_number(found['z']):>9} "
            f"{_number(found['output']):>9} {_number(found['local_derivative']):>9} {off:>8}  {_bar(found['output'], most)}"
        )
    return lines


def _named(found: dict) -> str:
    after = f", {found['activation_function']}" if found["activation_function"] else ""
    return f"{found['layer']} {found['kind']}{after}".strip()


def _verdict(it: Flow) -> str:
    return it.first_trouble or "the error reaches every layer with a size of its own order"


def _number(value: float | None) -> str:
    return "" if value is None else "0" if value == 0 else f"{value:.3g}"


def _bar(value: float, most: float) -> str:
    """Logarithmic, so that equal lengths are equal factors."""
    if not (most > 0 and value > 0 and math.isfinite(value)):
        return "."
    share = 1 + math.log10(value / most) / DECADES
    return "█" * max(round(BAR * share), 0) or "."
