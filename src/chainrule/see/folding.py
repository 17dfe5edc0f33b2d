"""Folding: a long line cut at spaces, the rest of it indented below."""

from __future__ import annotations

import re
import textwrap

_KEPT = "\x1f"


def folded(line: str, width: int, indent: int) -> list[str]:
    """The line in pieces of at most ``width`` characters where it can be cut; indices such as ``[7, 2]`` stay whole."""
    if len(line) <= width:
        return [line]
    start = len(line) - len(line.lstrip())
    whole = re.sub(r"\[[^\]]*\]", lambda found: found[0].replace(" ", _KEPT), line.strip())
    cut = textwrap.wrap(whole, max(width, 24), initial_indent=" " * start, subsequent_indent=" " * indent,
                        break_long_words=False, break_on_hyphens=False)  # fmt: skip
    return [piece.replace(_KEPT, " ") for piece in cut]
