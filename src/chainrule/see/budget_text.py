"""A flow as a picture for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from chainrule.see.folding import folded

if TYPE_CHECKING:
    from chainrule.see.budget import Flow, Gain

WIDTH = 100
BAR, SHORTEST = 14, 4
"""Characters of a full bar; where there is room for fewer than the shortest, there are none."""
DECADES = 7.0
"""A full bar is the largest of its column, an empty one ten million times less."""


def text_of(it: Flow, width: int = WIDTH) -> str:
    """The table, then the links from the loss back, then the values forward and the verdict."""
    parts = [_table(it, width), _links(it, width), _forward(it, width), folded(_verdict(it), width, 2)]
    return "\n\n".join("\n".join(line.rstrip() for line in part) for part in parts if part)


def _with_bars(lines: list[str], sizes: list[float], width: int) -> list[str]:
    """Lines of a table with a bar behind each, as long as there is room for."""
    room = min(width - max(map(len, lines), default=0) - 2, BAR)
    if room < SHORTEST:
        return lines
    most = max((size for size in sizes if math.isfinite(size)), default=0.0)
    return [f"{line}  {_bar(size, most, room)}" for line, size in zip(lines, sizes, strict=True)]


def _table(it: Flow, width: int) -> list[str]:
    name = max([len(r.name) for r in it.rows] + [9])
    head = f"step {it.trace.step}, {it.trace.rows} samples, loss {it.trace.loss:.4g}"
    formula = "gradient = activation x error x agreement x uses (root mean squares)"
    lines = []
    for row in it.rows:
        faint = "~" if row.agreement is not None and row.agreement < row.noise else " "
        lines.append(
            f"{row.name:<{name}} {_number(row.activation):>10} {_number(row.error):>9} "
            f"{_number(row.agreement):>9}{faint} {row.uses:>4g} {_number(row.gradient):>9}"
        )
    columns = f"{'parameter':<{name}} {'activation':>10} {'error':>9} {'agreement':>9}  {'uses':>4} {'gradient':>9}"
    noise = it.rows[0].noise if it.rows else 1.0
    some = any(r.agreement is not None and r.agreement < r.noise for r in it.rows)
    note = [f"~ less than {noise:.3g} = 1/√n, by which unrelated samples agree: they mostly cancel"] if some else []
    whole = [head, *folded(formula, width, 2), columns, *_with_bars(lines, [r.gradient for r in it.rows], width)]
    return whole + [piece for line in note for piece in folded(line, width, 2)]


def _links(it: Flow, width: int) -> list[str]:
    if not it.links:
        return []
    names = [f"{k.source} -> {k.target}" for k in it.links]
    name = max([len(n) for n in names] + [15])
    lines = [f"{n:<{name}} {_split(k)} {_number(k.arrived):>8}" for n, k in zip(names, it.links, strict=True)]
    through = [", ".join(k.through) for k in it.links]
    longest = max(map(len, through))
    beside = longest + 2 <= width - max(map(len, lines))
    if beside:
        lines = [f"{line}  {words:<{longest}}" for line, words in zip(lines, through, strict=True)]
    head = f"{'the error, back':<{name}} {'gain':>8} = {'weights':>7} x {'local':>7} x {'cross':>5} {'arrived':>8}"
    meaning = "gain = weights x local derivative x cross; arrived: against what left the loss"
    return [*folded(meaning, width, 2), f"{head}  {'through' if longest and beside else ''}",
            *_with_bars(lines, [k.arrived for k in it.links], width)]  # fmt: skip


def _split(link: Gain) -> str:
    parts = f"{_number(link.weights):>7} x {_number(link.local):>7} x {_number(link.cross):>5}"
    return f"{_number(link.gain):>8} = {parts}"


def _forward(it: Flow, width: int) -> list[str]:
    name = max([len(_named(f)) for f in it.activations] + [19])
    lines = []
    for found in it.activations:
        off = "" if found["share_off"] is None else f"{100 * found['share_off']:.0f} %"
        sizes = " ".join(f"{_number(found[k]):>9}" for k in ("input", "z", "output", "local_derivative"))
        lines.append(f"{_named(found):<{name}} {sizes} {off:>8}")
    head = f"{'the values, forward':<{name}} {'input':>9} {'z':>9} {'output':>9} {'local':>9} {'local 0':>8}"
    return [head, *_with_bars(lines, [f["output"] for f in it.activations], width)]


def _named(found: dict) -> str:
    after = f", {found['activation_function']}" if found["activation_function"] else ""
    return f"{found['layer']} {found['kind']}{after}".strip()


def _verdict(it: Flow) -> str:
    arrived = [link.arrived for link in it.links if link.target != "x"]
    if it.first_trouble or not arrived:
        return it.first_trouble or "no layer is there for the error to reach"
    low, high = (_number(bound(arrived)) for bound in (min, max))
    return f"the error reaches every layer: {low} to {high} times what left the loss arrives"


def _number(value: float | None) -> str:
    return "" if value is None else "0" if value == 0 else f"{value:.3g}"


def _bar(value: float, most: float, length: int) -> str:
    """Logarithmic, so that equal lengths are equal factors."""
    if not (most > 0 and value > 0 and math.isfinite(value)):
        return "."
    share = 1 + math.log10(value / most) / DECADES
    return "█" * max(round(length * share), 0) or "."
