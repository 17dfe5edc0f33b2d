"""A derivation as Markdown: a table a section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainrule.see.derivation.fold import Fold
from chainrule.see.derivation.text import SECTIONS, entries_of, heading, legend, words_of

if TYPE_CHECKING:
    from chainrule.see.derivation.derive import Derivation


def as_markdown(derivation: Derivation) -> str:
    """Three tables, the numbers of one weight, and the legend."""
    parts = []
    for section in SECTIONS:
        entries = entries_of(derivation, section)
        if not entries:
            continue
        title, _, rest = heading(derivation, section).partition("   ")
        parts.append(f"**{title}**{'  ' + _escaped(rest) if rest else ''}\n")
        parts.append("| | line | why |\n|--:|---|---|")
        for entry in entries:
            if isinstance(entry, Fold):
                parts.append(f"| ⋮ | | {_escaped(entry.words)} |")
                continue
            why = words_of(entry) or (str(entry.shape) if section == "forward" else "")
            parts.append(f"| {entry.number} | `{_code(f'{entry.name} = {entry.expression}')}` | {_escaped(why)} |")
        parts.append("")
    if derivation.change is not None:
        parts.append(f"`{derivation.change.short}`: {_escaped('; '.join(derivation.change.steps))}\n")
    parts.append(f"Where {_escaped(legend(derivation))}.")
    return "\n".join(parts)


def _escaped(text: str) -> str:
    for sign in "\\`*_|<>[]":
        text = text.replace(sign, f"\\{sign}")
    return text


def _code(text: str) -> str:
    return text.replace("|", "\\|")
