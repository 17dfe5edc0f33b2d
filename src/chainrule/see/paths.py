"""Paths: by which layers and units above an error came, so that the parts add up."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from chainrule.record.trace import INPUT, LOSS, LayerTrace, NetworkTrace, behind
from chainrule.see.place import Place, width_of

SHOWN = 3
"""Paths of one junction that are shown one by one; the others are summed."""


@dataclass(frozen=True, eq=False)
class Path:
    """One way from the place that is explained up to the loss, or what several of them add up to.

    value: what came by it; the values of all paths of one junction add up to that of the way to it.
    """

    name: str
    value: float
    trace: NetworkTrace = field(repr=False)
    kind: str = ""
    layer: int = LOSS
    direction: np.ndarray | None = field(default=None, repr=False)
    """How z there moves with the place that is explained."""

    @cached_property
    def above(self) -> tuple[Path, ...]:
        """The ways on from here, the largest first and the rest summed; none at the loss."""
        return self.expand()

    def expand(self, most: int = SHOWN) -> tuple[Path, ...]:
        """The ways on from here: the ``most`` largest one by one."""
        return () if self.direction is None else ways(self.trace, self.kind, self.layer, self.direction, most)

    def to_dict(self, depth: int = 2) -> dict[str, Any]:
        above = [path.to_dict(depth - 1) for path in self.above] if depth > 1 else []
        return {"name": self.name, "value": self.value, "above": above}


def ways(trace: NetworkTrace, kind: str, layer: int, direction: np.ndarray, most: int) -> tuple[Path, ...]:
    """By which units of the next layers the derivative along ``direction`` comes about.

    kind, layer: where the direction is, "z", "a" or "x". The paths' values add up to Σ direction x cotangent.
    """
    whole = float((direction.astype(np.float64) * cotangent(trace, kind, layer)).sum())
    moved = pushed(trace, kind, layer, direction)
    if moved is None:
        return (Path(f"through {_between(trace, layer)}, not followed", whole, trace),)
    parts = {child: _parts(trace, child, tangent) for child, tangent in moved.items()}
    single = np.concatenate([*(part.reshape(-1) for part in parts.values()), np.zeros(0)])
    count = int(np.count_nonzero(single))
    shown: list[Path] = []
    for at in np.argsort(-np.abs(single), kind="stable")[: min(most, count)]:
        shown.append(_unit(trace, parts, moved, int(at)))
    straight = whole - float(single.sum())
    ends = any(k.parent == layer and k.child == LOSS for k in trace.links) or not count
    if count > len(shown):
        rest = float(single.sum()) - sum(path.value for path in shown) + (0.0 if ends else straight)
        shown.append(Path(f"{count - len(shown)} others", rest, trace))
    if ends:
        shown.append(Path(trace.loss_name, straight, trace))
    return tuple(shown)


def cotangent(trace: NetworkTrace, kind: str, layer: int) -> np.ndarray:
    """dL by the values at a place, in float64."""
    if kind == "x":
        found = trace.x_delta
    else:
        own = trace.layers[layer]
        found = own.delta if kind == "z" or own.output_delta is None else own.output_delta
    assert found is not None
    return found.astype(np.float64) / trace.rows


def _parts(trace: NetworkTrace, child: int, tangent: np.ndarray) -> np.ndarray:
    """What comes by each unit of a layer that moves. [*features]"""
    uses = tuple(range(tangent.ndim - width_of(trace.layers[child])))
    found: np.ndarray = (tangent * cotangent(trace, "z", child)).sum(axis=uses)
    return found


def _unit(trace: NetworkTrace, parts: dict[int, np.ndarray], moved: dict[int, np.ndarray], at: int) -> Path:
    """The path by the unit that stands at a place of all layers' parts in a row."""
    for child, part in parts.items():
        if at < part.size:
            unit = tuple(int(i) for i in np.unravel_index(at, part.shape))
            name = _name(trace, "z", child, unit)
            return _Unit(name, float(part[unit]), trace, "z", child, None, moved[child], unit)
        at -= part.size
    raise IndexError(at)


@dataclass(frozen=True, eq=False)
class _Unit(Path):
    """A path by one unit, whose direction is made when somebody goes on from there."""

    tangent: np.ndarray | None = field(default=None, repr=False)
    unit: tuple[int, ...] = ()

    def expand(self, most: int = SHOWN) -> tuple[Path, ...]:
        assert self.tangent is not None
        alone = np.zeros_like(self.tangent)
        alone[behind(self.unit)] = self.tangent[behind(self.unit)]
        return ways(self.trace, self.kind, self.layer, alone, most)


def pushed(trace: NetworkTrace, kind: str, layer: int, direction: np.ndarray) -> dict[int, np.ndarray] | None:
    """How z of each next layer moves if the values at a place move by ``direction``; None where nobody can say."""
    parent = INPUT if kind == "x" else layer
    links = [k for k in trace.links if k.parent == parent and k.child != LOSS]
    moved: dict[int, np.ndarray] = {}
    for link in links:
        slope = link.derivative
        child = trace.layers[link.child]
        if kind == "a":
            own = trace.layers[layer]
            slope = np.ones((), child.a.dtype) if slope is not None and _reads(link.through, own) else None
        step = None if slope is None or direction.shape != child.a.shape else child.pushed(slope * direction)
        if step is None:
            return None if trace.push is None else trace.push(kind, layer, direction)
        moved[link.child] = step
    return moved


def _reads(through: tuple[str, ...], layer: LayerTrace) -> bool:
    """Whether a layer reads another's activation as it is."""
    return through == (() if layer.activation is None else (layer.activation,))


def _between(trace: NetworkTrace, layer: int) -> str:
    found = {name for k in trace.links if k.parent == layer for name in k.through}
    return ", ".join(sorted(found)) or "the layers above"


def _name(trace: NetworkTrace, kind: str, layer: int, unit: tuple[int, ...]) -> str:
    where = "x" if kind == "x" else f"{kind}{trace.numbers[layer]}"
    return f"{where}[{', '.join(map(str, unit))}]"


def direction_of(trace: NetworkTrace, place: Place, layer: int, rows: slice) -> np.ndarray:
    """How z of ``layer`` (or the place itself) moves with the place, in the rows that are asked for."""
    if place.kind != "parameter":
        found = np.zeros(cotangent(trace, place.kind, place.layer).shape)
        found[behind(place.index, rows)] = 1.0
        return found
    own = trace.layers[layer]
    found = np.zeros(own.delta.shape)
    parameter = own.parameters()[place.name]
    unit = unit_of(own, parameter, place.index)
    factor = own.use(place.name, place.index).activation.reshape(own.delta[behind(unit)].shape)
    found[behind(unit, rows)] = factor[rows]
    return found


def unit_of(layer: LayerTrace, parameter: np.ndarray, index: tuple[int, ...]) -> tuple[int, ...]:
    """The features of z that an entry of a parameter moves."""
    if parameter is not layer.weight or layer.form == "scale":
        return index
    if layer.form in ("matmul", "lookup"):
        return index[1:]
    return index[:1]


# ------------------------------------------------------------------------------------------------ the scalar chain


@dataclass(frozen=True)
class Factor:
    """One derivative of a chain: ``symbol`` as a lecture writes it, its number, and what it is."""

    symbol: str
    value: float
    words: str


@dataclass(frozen=True)
class Chain:
    """The scalar chain of one sample along its largest path: the product of its factors is ``value``.

    whole: what the sample adds to the derivative by all paths.
    """

    symbol: str
    sample: int
    factors: tuple[Factor, ...]
    value: float
    whole: float

    @property
    def others(self) -> float:
        """What the other paths (and uses) of this sample add."""
        return self.whole - self.value

    def __str__(self) -> str:
        symbols = " . ".join(f.symbol for f in self.factors)
        numbers = " x ".join(number(f.value) for f in self.factors)
        text = f"{self.symbol} = {symbols}\n  = {numbers} = {number(self.value)}"
        if abs(self.others) > 1e-9 * abs(self.whole):
            text += f"\n  and {number(self.others)} by other paths: {number(self.whole)} from sample {self.sample}"
        return text

    def to_dict(self) -> dict[str, Any]:
        return {"symbol": self.symbol, "sample": self.sample, "value": self.value, "whole": self.whole,
                "factors": [vars(f) for f in self.factors]}  # fmt: skip


def number(value: float) -> str:
    """Four digits."""
    return f"{value + 0.0:.4g}"  # + 0.0: no -0


def chain_of(trace: NetworkTrace, place: Place, short: str, layer: int, sample: int, whole: float) -> Chain:
    """The chain of ``sample`` from the loss to the place, link by link along the largest entry."""
    index = ", ".join(map(str, place.index))
    symbol = f"{short}[{index}]"
    direction = direction_of(trace, place, layer, slice(sample, sample + 1))
    kind = place.kind if place.kind != "parameter" else "z"
    at = place.layer if place.kind != "parameter" else layer
    found: list[Factor] = []
    if place.kind == "parameter":
        entry = _strongest(direction, cotangent(trace, "z", at))
        unit = _name(trace, "z", at, entry[direction.ndim - width_of(trace.layers[at]) :])
        words = "1 for a bias" if trace.layers[at].parameters()[place.name] is not trace.layers[at].weight else (
            "input activation" if trace.layers[at].form != "scale" else "normalised input")  # fmt: skip
        found.append(Factor(f"d{unit}/d{symbol}", float(direction[entry]), words))
    else:
        entry, unit = _strongest(direction, cotangent(trace, kind, at)), symbol
    while True:
        alone = np.zeros_like(direction)
        alone[entry] = 1.0
        moved = pushed(trace, kind, at, alone)
        step = _next(trace, moved or {})
        if step is None:
            break
        child, above = step
        gain = float((moved or {})[child][above])
        upper = _name(trace, "z", child, above[len(above) - width_of(trace.layers[child]) :])
        found.extend(_factors(trace, kind, at, entry, unit, upper, gain))
        kind, at, entry, unit = "z", child, above, upper
        direction = np.zeros_like(trace.layers[child].delta, dtype=np.float64)
    found.extend(_top(trace, kind, at, entry, unit))
    value = float(np.prod([f.value for f in found]))
    return Chain(f"dL/d{symbol}", sample, tuple(reversed(found)), value, whole)


def _strongest(direction: np.ndarray, error: np.ndarray) -> tuple[int, ...]:
    """The entry with the largest share; where all is 0, the first that moves."""
    shares = np.abs(direction * error)
    if not shares.any():
        shares = np.abs(direction)
    return tuple(int(i) for i in np.unravel_index(int(shares.argmax()), shares.shape))


def _next(trace: NetworkTrace, moved: dict[int, np.ndarray]) -> tuple[int, tuple[int, ...]] | None:
    best: tuple[float, float, int, tuple[int, ...]] | None = None
    for child, tangent in moved.items():
        entry = _strongest(tangent, cotangent(trace, "z", child))
        share = abs(float(tangent[entry] * cotangent(trace, "z", child)[entry]))
        if best is None or (share, abs(float(tangent[entry]))) > best[:2]:
            best = (share, abs(float(tangent[entry])), child, entry)
    return None if best is None else best[2:]


def _factors(
    trace: NetworkTrace, kind: str, layer: int, entry: tuple[int, ...], unit: str, upper: str, gain: float
) -> list[Factor]:
    """One link: the local derivative of the activation function, and what is between it and the next layer's z."""
    if kind != "z":
        return [Factor(f"d{upper}/d{unit}", gain, "weight")]
    own = trace.layers[layer]
    if own.local_derivative is None or own.activation is None:
        return [Factor(f"d{upper}/d{unit}", gain, "weight")]
    slope = float(own.local_derivative[entry])
    after = "a" + unit[1:]
    moved = pushed(trace, "a", layer, _alone(own.delta.shape, entry)) if slope == 0 else None
    rest = gain / slope if slope else max((float(abs(m).max()) for m in (moved or {}).values()), default=0.0)
    return [Factor(f"d{after}/d{unit}", slope, f"local derivative of {own.activation}"),
            Factor(f"d{upper}/d{after}", rest, "weight")]  # fmt: skip


def _alone(shape: tuple[int, ...], entry: tuple[int, ...]) -> np.ndarray:
    found = np.zeros(shape)
    found[entry] = 1.0
    return found


def _top(trace: NetworkTrace, kind: str, layer: int, entry: tuple[int, ...], unit: str) -> list[Factor]:
    """From the last z (or activation) of the chain to the loss."""
    own = trace.layers[layer] if kind != "x" else None
    if kind == "z" and own is not None and own.local_derivative is not None and own.output_delta is not None:
        after = "a" + unit[1:]
        if _is_prediction(trace, own.output):
            after = "f" if own.z.shape[-1] == 1 else "f" + unit[unit.index("[") :]
        slope, top = float(own.local_derivative[entry]), float(cotangent(trace, "a", layer)[entry])
        return [
            Factor(f"d{after}/d{unit}", slope, f"local derivative of {own.activation}"),
            Factor(f"dL/d{after}", top, "derivative of the loss"),
        ]
    return [Factor(f"dL/d{unit}", float(cotangent(trace, kind, layer)[entry]), "derivative of the loss")]


def _is_prediction(trace: NetworkTrace, output: np.ndarray | None) -> bool:
    last = trace.prediction
    return output is not None and last is not None and output.shape == last.shape and np.array_equal(output, last)
