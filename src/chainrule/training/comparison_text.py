"""A comparison of two runs as text."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from chainrule.see.folding import folded

if TYPE_CHECKING:
    from chainrule.see.budget import Flow
    from chainrule.training.compare import Comparison

SHOWN = 12
"""Settings that are listed one by one."""


def text_of(it: Comparison, width: int) -> str:
    """Names, settings, data, the losses, the checkpoints, the verdict; then the flows."""
    lines = [f"A  {it.names[0]}, {_updates(it.steps[0])}", f"B  {it.names[1]}, {_updates(it.steps[1])}", ""]
    for title, words in _found(it):
        for place, line in enumerate(words):
            lines.extend(folded(f"{title if place == 0 else '':<10} {line}", width, 13))
    lines.extend(["", *_flows(it, width)])
    return "\n".join(line.rstrip() for line in lines)


def _found(it: Comparison) -> list[tuple[str, list[str]]]:
    settings = [f"{s.name}: {_shown(s.first)} and {_shown(s.second)}" for s in it.settings[:SHOWN]]
    if len(it.settings) > SHOWN:
        settings.append(f"and {len(it.settings) - SHOWN} more")
    return [
        ("settings", settings or ["the same"]),
        ("rows", ["those that both kept are the same" if it.rows is None else f"not the same: {it.rows}"]),
        ("losses", [_losses(it)]),
        ("weights", [_weights(it)]),
    ]


def _losses(it: Comparison) -> str:
    if it.parting is None:
        both = min(it.steps)
        more = f"; {'AB'[it.steps[1] > it.steps[0]]} went on" if it.steps[0] != it.steps[1] else ""
        return f"the same to the last bit in all {both:,} updates that both made{more}"
    step = it.parting.step
    when = f"the same until update {step - 1:,}, not in {step:,}"
    when = "not the same from the first update on" if step == 1 else when
    return f"{when}: {it.parting.first!r} and {it.parting.second!r}"


def _weights(it: Comparison) -> str:
    if not it.checkpoints:
        return "no step at which both have a checkpoint"
    if it.checkpoint is None or it.difference is None:
        steps = ", ".join(f"{step:,}" for step in it.checkpoints)
        return f"the same to the last bit at every common checkpoint: after update {steps}"
    alike = [step for step in it.checkpoints if step < it.checkpoint]
    until = f"the same after update {alike[-1]:,}; " if alike else ""
    earlier = "" if alike else ", the earliest that both kept"
    return f"{until}not after update {it.checkpoint:,}{earlier}: {it.difference}"


def _flows(it: Comparison, width: int) -> list[str]:
    if it.flows is None:
        return folded(f"no flows to show: {it.why_no_flows}", width, 2)
    a, b = it.flows
    if a.trace.step == b.trace.step:
        when = f"the flows after update {a.trace.step:,}"
    else:
        when = f"the flows, A after update {a.trace.step:,} and B after update {b.trace.step:,}: no step is common"
    head = f"{when}; loss {a.trace.loss:.4g} and {b.trace.loss:.4g}"
    return [*folded(head, width, 2), *_table(a, b, width), *_verdicts(a, b, width)]


COLUMNS = ("activation", "error", "agreement", "gradient")
"""Where there is no room for all, the first are left out: the gradient is what is compared."""


def _table(a: Flow, b: Flow, width: int) -> list[str]:
    """A row for each parameter: each factor of A and of B, side by side."""
    first, second = ({row.name: row for row in flow.rows} for flow in (a, b))
    names = list(dict.fromkeys([*first, *second]))
    wide = max([len(name) for name in names] + [8])
    columns = COLUMNS[-max((width - wide) // 18, 1) :]
    lines = [
        f"{'':<{wide}} " + " ".join(f"{column:>17}" for column in columns),
        f"{'':<{wide}} " + " ".join(f"{'A':>8} {'B':>8}" for _ in columns),
    ]
    for name in names:
        cells = [_number(getattr(rows.get(name), column, None)) for column in columns for rows in (first, second)]
        lines.append(f"{name:<{wide}} {' '.join(f'{cell:>8}' for cell in cells)}")
    return lines


def _verdicts(a: Flow, b: Flow, width: int) -> list[str]:
    troubles = [(name, flow.first_trouble) for name, flow in zip_longest("AB", (a, b)) if flow.first_trouble]
    return [piece for name, words in troubles for piece in folded(f"{name}: {words}", width, 3)]


def _updates(count: int) -> str:
    return f"{count:,} update{'' if count == 1 else 's'}"


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _number(value: float | None) -> str:
    return "" if value is None else "0" if value == 0 else f"{value:.3g}"
