"""A derivation as HTML for notebooks and pages: tables that fold by themselves, no script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from chainrule.see.derivation.fold import Fold
from chainrule.see.derivation.lines import Line
from chainrule.see.derivation.text import SECTIONS, entries_of, heading, legend, one_source

if TYPE_CHECKING:
    from chainrule.see.derivation.derive import Derivation

# Colours are the page's own where there is a choice, so that dark notebooks stay dark.
STYLE = """
.cr-derivation { font: 13px/1.5 system-ui, sans-serif; max-width: 72rem; overflow-x: auto }
.cr-derivation summary { cursor: pointer; padding: .25rem 0 }
.cr-derivation .cr-head { font-weight: 600 }
.cr-derivation table { border-collapse: collapse; margin: 0 0 .25rem; width: 100% }
.cr-derivation td { text-align: left; vertical-align: top; padding: .12rem .6rem .12rem 0; border: 0; background: none }
.cr-derivation td:first-child { text-align: right; opacity: .55; width: 2.5rem; font-variant-numeric: tabular-nums }
.cr-derivation td:nth-child(2) { width: 24rem }
.cr-derivation code { font: 13px/1.5 ui-monospace, monospace; background: none; padding: 0; color: inherit }
.cr-derivation b { font-weight: 650 }
.cr-derivation .cr-soft { opacity: .65 }
.cr-derivation .cr-tag { border: 1px solid; border-radius: .25rem; padding: 0 .3rem; font-size: 11px; opacity: .7 }
"""


def as_html(derivation: Derivation) -> str:
    """A ``<div>`` with its own style: a fold a section, and folds for repeating layers."""
    parts = [f"<style>{STYLE}</style>", '<div class="cr-derivation">']
    for section in SECTIONS:
        entries = entries_of(derivation, section)
        if entries:
            title, _, rest = heading(derivation, section).partition("   ")
            soft = f' <span class="cr-soft">{escape(rest)}</span>' if rest else ""
            parts.append(f'<details open><summary><span class="cr-head">{title}</span>{soft}</summary>')
            parts.append(_table(entries, one_source(derivation.lines)))
            parts.append("</details>")
    if derivation.change is not None:
        steps = "<br>".join(f"<code>{escape(step)}</code>" for step in derivation.change.steps)
        parts.append(f"<p><b>{escape(derivation.change.short)}</b> ({escape(derivation.change.name)})<br>{steps}</p>")
    parts.append(f'<p class="cr-soft">where {escape(legend(derivation))}</p></div>')
    return "\n".join(parts)


def _table(entries: Sequence[Line | Fold], source: str) -> str:
    """source: the user's line that the heading names already."""
    rows = []
    for entry in entries:
        if isinstance(entry, Fold):
            inside = "".join(_row(line, source) for line in entry.lines)
            rows.append(
                f'<tr><td>⋮</td><td colspan="2"><details><summary>{escape(entry.words)}</summary>'
                f"<table>{inside}</table></details></td></tr>"
            )
        else:
            rows.append(_row(entry, source))
    return f"<table>{''.join(rows)}</table>"


def _row(line: Line, source: str) -> str:
    code = f"<b>{escape(line.name)}</b> = {escape(line.expression)}"
    parts = []
    if line.section == "forward" and line.shape:
        parts.append(f'<span class="cr-soft">{escape(re.sub(r",[)]", ")", str(line.shape)))}</span>')
    if line.cites:
        parts.append(f'<span class="cr-soft">from {", ".join(map(str, line.cites))}</span>')
    if line.equation:
        parts.append(f'<span class="cr-tag">{line.equation}</span>')
    parts.append(escape(line.rule))
    if line.note:
        parts.append(f'<span class="cr-soft">{escape(line.note)}</span>')
    if line.source != source:
        parts.append(f'<span class="cr-soft">{escape(line.source)}</span>')
    return f"<tr><td>{line.number}</td><td><code>{code}</code></td><td>{' '.join(p for p in parts if p)}</td></tr>"
