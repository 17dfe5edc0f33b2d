"""An explanation as text of one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chainrule.see.folding import folded
from chainrule.see.paths import Path, number
from chainrule.see.place import short_name

if TYPE_CHECKING:
    from chainrule.see.explanation import Explanation

WIDTH = 100
SAMPLES = 5
DEPTH = 3


def text_of(it: Explanation, width: int = WIDTH) -> str:
    """Head, samples, factors, chain, paths, update and check, each a few lines of at most ``width`` characters."""
    parts = [_largest(it, width), _head(it), _samples(it), _factors(it), _chain(it), _paths(it), _below(it)]
    lines = [line for part in parts for line in part]
    return "\n".join(piece for line in lines for piece in folded(line, width, _indent(line)))


def _indent(line: str) -> int:
    """Where what is cut off a line goes on: behind its sign of equality or its heading."""
    start = len(line) - len(line.lstrip())
    return start + 4 if start else 9


def _largest(it: Explanation, width: int) -> list[str]:
    """The entries with the largest gradients, in columns."""
    if not it.largest:
        return []
    name, value = (max(len(text) for text in texts) for texts in zip(*((n, number(g)) for n, g in it.largest),
                                                                     strict=True))  # fmt: skip
    found = [f"{n:<{name}} {number(g):>{value}}" for n, g in it.largest]
    across = max((width - 2 + 4) // (name + 1 + value + 4), 1)
    rows = -(-len(found) // across)
    return ["largest gradients", *("  " + "    ".join(found[i::rows]) for i in range(rows)), ""]


def _head(it: Explanation) -> list[str]:
    index = ", ".join(map(str, it.place.index))
    short = f"{short_name(it.place.name, it.trace)}[{index}]"
    names = it.name if short == it.name else f"{it.name}  ({short})"
    value = "" if it.value is None else f" = {number(it.value)}"
    return [
        f"{names}{value}     loss {number(it.trace.loss)} over {it.trace.rows} samples",
        f"dL/d{short} = {number(it.gradient)}: {it.sensitivity}",
    ]


def _samples(it: Explanation) -> list[str]:
    n, shown = it.trace.rows, it.shown_samples(SAMPLES)
    lines = [f"by sample ({it.form}{' / ' + str(n) if it.factors else ''})"]
    for sample, part in shown:
        product = _product(it, sample)
        lines.append(f"  sample {sample:<5} {product:>30} {number(part):>11}")
    zeros = sum(it.zeros.values())
    left = it.trace.rows - len(shown) - zeros
    if left:
        rest = float(it.by_sample.sum() - sum(part for _, part in shown))
        lines.append(f"  {f'{left} more':<44} {number(rest):>11}")
    if it.penalty:
        lines.append(f"  {'penalty on the weight':<44} {number(it.penalty):>11}")
    for reason, count in it.zeros.items():
        lines.append(f"  {count} exactly 0: {reason}")
    return lines


def _product(it: Explanation, sample: int) -> str:
    """The one product of a sample that uses the number once."""
    uses = it._uses
    if len(uses) != 1 or uses[0][1].error.shape[1] != 1 or len(uses[0][1].error) != it.trace.rows:
        return ""
    a, e = uses[0][1]
    return f"{number(a[sample, 0])} x {number(e[sample, 0])} / {it.trace.rows}"


def _factors(it: Explanation) -> list[str]:
    f = it.factors
    if f is None or it.place.kind != "parameter":
        return []
    uses = f" x uses {number(f.uses)}" if f.uses != 1 else ""
    product = f"activation {number(f.activation)} x error {number(f.error)} x agreement {number(f.agreement)}{uses}"
    lines = [f"factors: {product} = {number(f.product)}"]
    if abs(f.agreement) < f.noise and it.gradient:
        lines.append(f"         the samples mostly cancel: unrelated ones would agree by {number(f.noise)}")
    return lines


def _chain(it: Explanation) -> list[str]:
    chain = it.chain
    if chain is None:
        return []
    lines = [f"chain of sample {chain.sample}"]
    return lines + ["  " + line for line in str(chain).splitlines()]


def _paths(it: Explanation) -> list[str]:
    if not it.paths or (len(it.paths) == 1 and not it.paths[0].above):
        return []
    of = "" if it.chosen is None else f" of sample {it.chosen}"
    lines = [f"by path{of} (unit by unit up to the loss; the parts add up)"]
    for path in it.paths:
        lines.extend(_branch(path, 1))
    return lines


def _branch(path: Path, depth: int, further: int = DEPTH - 1) -> list[str]:
    """A path and the ones above it, ``further`` levels on; behind the first level only the largest is followed."""
    lines = [f"{'  ' * depth}{path.name:<{24 - 2 * depth}} {number(path.value):>11}"]
    if further:
        for place, higher in enumerate(path.above):
            lines.extend(_branch(higher, depth + 1, further - 1 if place == 0 else 0))
    return lines


def _below(it: Explanation) -> list[str]:
    lines = []
    if it.update is not None:
        lines.extend([f"update: {it.update.move}", f"        by {it.update.causes}"])
    found = it.finite_difference
    if found is not None:
        apart = abs(found - it.gradient) / max(abs(found), abs(it.gradient), np.finfo(np.float64).tiny)
        lines.append(f"check: finite difference {number(found)}" + (f", {apart:.0e} apart" if apart and found else ""))
    return lines
