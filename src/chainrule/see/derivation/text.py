"""A derivation as plain text: for a terminal of a given width."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from chainrule.see.derivation.fold import SHORT, Fold, folded
from chainrule.see.derivation.lines import Line

if TYPE_CHECKING:
    from chainrule.see.derivation.derive import Derivation

WIDTH = 100
LONGEST_LEFT = 44
"""Characters of the column of formulas; the words of a longer formula go to the next line."""
SECTIONS = {"forward": "forward", "backward": "backward   d[v] means dL/dv", "update": "update"}
SHOWN_NAMES = 12
"""Entries of the legend that are listed before it is shortened, unless all lines are shown."""


def as_text(derivation: Derivation, width: int = WIDTH) -> str:
    """All sections, the legend, and the numbers of one weight."""
    lengths = [len(_formula(line)) for line in derivation.lines if line.section != "update"]
    left = max((n for n in lengths if n <= LONGEST_LEFT), default=LONGEST_LEFT) + 2
    parts: list[str] = []
    for section in SECTIONS:
        entries = entries_of(derivation, section)
        if entries:
            parts.append(heading(derivation, section))
            parts.extend(_shown(entries, left, width, one_source(derivation.lines)))
    if derivation.change is not None:
        start = f"     {derivation.change.short}:"
        for k, words in enumerate(derivation.change.steps):
            parts.extend(_wrapped(start if k == 0 else " " * len(start), words, width))
    parts.extend(_wrapped("where", legend(derivation), width))
    return "\n".join(parts)


def heading(derivation: Derivation, section: str) -> str:
    """The title of a section, with the loss and the source line where they are known."""
    if section == "forward":
        source = one_source(derivation.lines)
        loss = "" if derivation.loss is None else f"L = {derivation.loss:.6g}"
        return "   ".join(part for part in ("forward", loss, source) if part)
    return SECTIONS[section]


def entries_of(derivation: Derivation, section: str) -> Sequence[Line | Fold]:
    """The lines of a section, folded if the derivation is long and not unfolded."""
    lines = [line for line in derivation.lines if line.section == section]
    return folded(lines) if derivation.folded and len(derivation.lines) > SHORT else lines


def one_source(lines: Sequence[Line]) -> str:
    """The user's line if there is only one, as for a Sequential that is called once."""
    sources = {line.source for line in lines if line.source}
    return sources.pop() if len(sources) == 1 else ""


def legend(derivation: Derivation) -> str:
    """What the names of parameters stand for."""
    entries = [f"{n} is {label}" for n, label in derivation.names.items()]
    if derivation.folded and len(entries) > SHOWN_NAMES:
        entries = [*entries[:4], "…", *entries[-2:]]
    return ", ".join(entries)


def _formula(line: Line) -> str:
    return f"{line.name} = {line.expression}"


def words_of(line: Line) -> str:
    """Where a line comes from and why."""
    start = f"from {', '.join(map(str, line.cites))}" if line.cites else ""
    return "  ".join(part for part in (start, line.equation, "; ".join(w for w in (line.rule, line.note) if w)) if part)


def _shown(entries: Sequence[Line | Fold], left: int, width: int, source: str) -> Iterator[str]:
    before = source
    for entry in entries:
        if isinstance(entry, Fold):
            yield f"  :    {entry.words}"
            continue
        place = entry.source if entry.source != before else ""
        before = entry.source
        shape = str(entry.shape) if entry.section == "forward" and entry.shape else ""
        words = "  ".join(part for part in (shape, words_of(entry), place) if part)
        yield from _wrapped(f"{entry.number:4} {_formula(entry)}", words, width, 5 + left)


def _wrapped(first: str, words: str, width: int, indent: int | None = None) -> list[str]:
    """``first`` and then the words from column ``indent`` on, below where ``first`` reaches that far."""
    indent = len(first) + 1 if indent is None else indent
    chunks = textwrap.wrap(words, max(width - indent, 24), break_long_words=False, break_on_hyphens=False)
    beside = chunks[:1] if len(first) < indent else []
    lines = [f"{first:<{indent}}{beside[0]}" if beside else first]
    return [*lines, *(" " * indent + chunk for chunk in chunks[len(beside) :])]


def names_by_label(names: Mapping[str, str]) -> dict[str, str]:
    """The legend the other way round."""
    return {label: name for name, label in names.items()}
