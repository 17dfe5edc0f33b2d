"""An explanation as text of one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chainrule.see.paths import Path, number
from chainrule.see.place import short_name

if TYPE_CHECKING:
    from chainrule.see.explain import Explanation

SAMPLES = 5
DEPTH = 3


def text_of(it: Explanation) -> str:
    """Head, samples, factors, chain, paths, update and check, each a few lines."""
    parts = [_head(it), _samples(it), _factors(it), _chain(it), _paths(it), _below(it)]
    return "\n".join("\n".join(part) for part in parts if part)


def _head(it: Explanation) -> list[str]:
    index = ", ".join(map(str, it.place.index))
    short = f"{short_name(it.place.name, it.trace)}[{index}]"
    names = it.name if short == it.name else f"{it.name}  ({short})"
    value = "" if it.value is None else f" = {number(it.value)}"
    lines = []
    if it.largest:
        lines.append("largest gradients: " + ", ".join(f"{n} {number(g)}" for n, g in it.largest))
        lines.append("")
    lines.append(f"{names}{value}     loss {number(it.trace.loss)} over {it.trace.rows} samples")
    lines.append(f"dL/d{short} = {number(it.gradient)}: {it.sensitivity}")
    return lines


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
        lines.append(f"  {left} more{'':>31} {number(rest):>15}" if left < 10 else f"  {left} more {'':>32} {number(rest):>11}")
    if it.penalty:
        lines.append(f"  penalty on the weight {number(it.penalty):>33}")
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
    few = "; samples cancel: no more than chance" if abs(f.agreement) < f.noise and it.gradient else ""
    return [
        f"factors: activation {number(f.activation)} x error {number(f.error)} x agreement {number(f.agreement)}{uses} = "
        f"{number(f.product)}   (agreement of chance {number(f.noise)}{few})"
    ]


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
    lines = [f"by path{of} (unit by unit up to the loss; each adds up to the one it hangs on)"]
    for path in it.paths:
        lines.extend(_branch(path, 1))
    return lines


def _branch(path: Path, depth: int) -> list[str]:
    """The way by the largest unit is followed further; the others stand for what is above them."""
    lines = [f"{'  ' * depth}{path.name:<{24 - 2 * depth}} {number(path.value):>11}"]
    if path.direction is None and not hasattr(path, "tangent"):
        return lines
    if depth < DEPTH and path.value == max((path.value,), key=abs):
        above = path.above if depth < DEPTH else ()
        if depth == 1 or len(above) > 1:
            for higher in above[: 3 if depth == 1 else 2]:
                lines.extend(_branch(higher, depth + 1) if higher is above[0] and depth + 1 < DEPTH else
                             [f"{'  ' * (depth + 1)}{higher.name:<{22 - 2 * depth}} {number(higher.value):>11}"])  # fmt: skip
    return lines


def _below(it: Explanation) -> list[str]:
    lines = []
    if it.update is not None:
        lines.append(f"update: {it.update}")
    found = it.finite_difference
    if found is not None:
        apart = abs(found - it.gradient) / max(abs(found), abs(it.gradient), np.finfo(np.float64).tiny)
        lines.append(f"check: finite difference {number(found)}" + (f", {apart:.0e} apart" if apart and found else ""))
    return lines
