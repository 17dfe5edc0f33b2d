"""Escape what users named, so that no column or class can move the cursor, colour a line or turn it round."""

import unicodedata

# Control, format (bidirectional marks among them), surrogate, private, unassigned; separators of lines and paragraphs.
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def escaped(text: object, limit: int | None = None) -> str:
    r"""Text in which every character that is not seen as itself is written out; cut with … at `limit`.

    >>> escaped("price\x1b[31m")
    'price\\x1b[31m'
    """
    written = "".join(_written(character) for character in str(text))
    return written if limit is None or len(written) <= limit else written[: limit - 1] + "…"


def _written(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape").decode("ascii")
