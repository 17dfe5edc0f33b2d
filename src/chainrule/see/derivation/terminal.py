"""A derivation in colours, for a terminal by rich."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from chainrule.see.derivation.text import SECTIONS

if TYPE_CHECKING:
    from chainrule.see.derivation.derive import Derivation


def as_rich(derivation: Derivation) -> Any:
    """The text, wrapped to the console's width, with names, numbers and words told apart."""
    return _Coloured(derivation)


class _Coloured:
    def __init__(self, derivation: Derivation) -> None:
        self.derivation = derivation

    def __rich_console__(self, console: Any, options: Any) -> Any:
        from rich.text import Text

        for line in self.derivation.text(min(options.max_width, 140)).splitlines():
            yield _coloured(Text(line, no_wrap=True, overflow="fold"))


def _coloured(text: Any) -> Any:
    plain = text.plain
    if plain.split(" ")[0] in SECTIONS:
        text.stylize("bold", 0, len(plain.split(" ")[0]))
        text.stylize("dim", len(plain.split(" ")[0]))
        return text
    numbered = re.match(r" *(\d+) (\S+)( = )", plain)
    if numbered:
        text.stylize("dim", 0, numbered.end(1))
        text.stylize("bold cyan", numbered.start(2), numbered.end(2))
    text.highlight_regex(r"\bfrom \d+(, \d+)*", "dim")
    text.highlight_regex(r"\bBP[1-4]\b", "magenta")
    text.highlight_regex(r"-> \S+", "bold green")
    if plain.startswith(("where", "      ")) and not numbered:
        text.stylize("dim", 0, 0)
    return text
