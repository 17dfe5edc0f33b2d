"""Pictures: small grey images side by side, as characters."""

from __future__ import annotations

import sys

import numpy as np

_SHADES = " ░▒▓█"
_ASCII = " .:*#"
# A character is about twice as high as it is wide: small images get two characters a pixel, others half the rows.
_DOUBLED = 16
_GAP = "  "


def pictures(images: np.ndarray, captions: list[str] | None, width: int) -> list[str]:
    """Lines of text that show the first of ``images`` [n, rows, columns], as many as fit in ``width`` characters."""
    grey = _scaled(images.astype(np.float64))
    drawn = [_drawn(image) for image in grey]
    each = len(drawn[0][0])
    count = max(1, min(len(drawn), (width + len(_GAP)) // (each + len(_GAP))))
    if each > width:
        return []
    lines = [_GAP.join(parts).rstrip() for parts in zip(*drawn[:count], strict=True)]
    if captions is not None:
        lines.append(_GAP.join(caption[:each].ljust(each) for caption in captions[:count]).rstrip())
    return lines


def _scaled(values: np.ndarray) -> np.ndarray:
    """Values from 0 (the least there is) to 1 (the most); what is not finite becomes 0."""
    finite = np.where(np.isfinite(values), values, 0.0)
    low, high = float(finite.min()), float(finite.max())
    return np.zeros_like(finite) if high <= low else (finite - low) / (high - low)


def _drawn(image: np.ndarray) -> list[str]:
    shades = _shades()
    if image.shape[1] > _DOUBLED:
        even = image[: len(image) // 2 * 2]
        image = even.reshape(-1, 2, image.shape[1]).mean(axis=1)
    times = 1 if image.shape[1] > _DOUBLED else 2
    levels = np.rint(image * (len(shades) - 1)).astype(int)
    return ["".join(shades[level] * times for level in row) for row in levels]


def _shades() -> str:
    try:
        _SHADES.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return _ASCII
    return _SHADES
