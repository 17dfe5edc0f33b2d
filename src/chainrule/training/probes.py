"""Probes: what a step measures at each layer while it runs, as further outputs of the same graph.

A probe is a sum over a value that the step has anyway; nothing that the step makes is made otherwise for it. The sums
become the quantities of the record afterwards. Activations, errors and gradients, which can be tiny and huge, are
squared in float64, so that no square vanishes or overflows; weights, updates and slopes in their own dtype, row by row.
"""

from __future__ import annotations

import builtins
import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import numpy as np

from chainrule.graph import Graph, Node, Tensor
from chainrule.nn import Module
from chainrule.ops import abs, add, any, astype, equal, less, multiply, not_equal, sign, sum
from chainrule.record import Quantity, Series
from chainrule.record.measure import LEFT_WHEN_SATURATED, STEEPEST
from chainrule.see.pinned import Layer
from chainrule.see.rows import Strides, row_strides
from chainrule.see.sites import Site, sites_of
from chainrule.spec import FLOAT32, FLOAT64, TensorSpec

PRODUCTS = ("linear", "conv", "matmul", "lookup")
"""Forms in which the gradient is activation x error, summed over rows and uses."""

Sums = Mapping[str, np.ndarray]
"""What one layer's probes added up to, float64 [steps] by name."""


Columns = dict[tuple[str, str], np.ndarray]
"""(layer, quantity) -> float64 [steps]"""


@dataclass(frozen=True, eq=False)
class Measured:
    """What the probes of some steps found. steps: the updates made before each. [n]"""

    steps: np.ndarray
    columns: Columns


def series_of(measured: Iterable[Measured]) -> dict[tuple[str, str], Series]:
    """By (layer, quantity), in the order of steps."""
    parts: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for each in measured:
        for place, values in each.columns.items():
            parts.setdefault(place, []).append((each.steps, values))
    found = {}
    joined: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}
    """(steps, order) by identity: what is measured together shares its steps."""
    for place, pairs in parts.items():
        same = tuple(id(steps) for steps, _ in pairs)
        if same not in joined:
            steps = np.concatenate([steps for steps, _ in pairs])
            order = np.argsort(steps, kind="stable")
            joined[same] = steps[order], order
        steps, order = joined[same]
        found[place] = Series(steps, np.concatenate([values for _, values in pairs])[order])
    return found


@dataclass(frozen=True)
class ProbedLayer:
    """What is summed at one layer with weights, and over how many numbers."""

    name: str
    weights: tuple[str, ...]
    """Its parameters but the biases; only biases where it has nothing else."""
    entries: int
    """Of those parameters."""
    rows: int
    uses: float = 1.0
    is_product: bool = False
    """Whether its gradient is that of a product alone, so that agreement has a meaning."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Numbers behind each mean."""
    above: str = ""
    """The layer that it feeds."""
    moving: tuple[str, ...] = ("weight", "gradient", "update", "zero gradient")
    """The sums that the update gives."""


@dataclass(frozen=True)
class Probes:
    """The layers that a step measures. names: of the sums, in the order of the graph's outputs."""

    layers: tuple[ProbedLayer, ...]
    names: tuple[tuple[str, str], ...]
    """(layer, sum) of those that the forward and the backward pass give."""
    decay: tuple[float, float] = (0.0, 0.0)

    @cached_property
    def moving(self) -> tuple[tuple[str, str], ...]:
        """(layer, sum) of those that the update gives, in the order of ``sums_of_update``."""
        return tuple((layer.name, name) for layer in self.layers for name in layer.moving)

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """What the sums of the passes are called in the memory of a step."""
        return tuple(f"probe {layer} {name}" for layer, name in self.names)

    @cached_property
    def update_tables(self) -> tuple[str, ...]:
        """The same for those of the update."""
        return tuple(f"probe {layer} {name}" for layer, name in self.moving)

    def sums_of_update(
        self, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], moved: Mapping[str, Tensor]
    ) -> tuple[Tensor, ...]:
        """The sums over weights, gradients and by how much weights moved.

        All by name of the parameter, as matrices.
        """
        made: dict[tuple[str, str], Tensor] = {}
        for layer in self.layers:
            for n in layer.weights:
                w, g = weights[n], gradients[n]
                of = {"weight": _narrow_squares(w), "gradient": _squares(g), "update": _narrow_squares(moved[n])}
                of["zero gradient"] = _counted(equal(g, 0.0))
                if "product" in layer.moving:
                    of["product"] = _squares(_without_penalty(g, w, self.decay))
                for name, x in of.items():
                    made[layer.name, name] = x if (layer.name, name) not in made else made[layer.name, name] + x
        return tuple(made[place] for place in self.moving)

    def quantities(self, sums: np.ndarray) -> Columns:
        """Every quantity that applies. sums: float64 [tables, steps], those of the update last."""
        table: dict[str, dict[str, np.ndarray]] = {layer.name: {} for layer in self.layers}
        for (layer, name), values in zip((*self.names, *self.moving), sums, strict=True):
            table[layer][name] = values
        with np.errstate(all="ignore"):
            roots = {layer.name: _roots(layer, table[layer.name]) for layer in self.layers}
            return {
                (layer.name, str(quantity)): values
                for layer in self.layers
                for quantity, values in (
                    *_sizes(layer, roots[layer.name], table[layer.name]),
                    *_gains(roots[layer.name], table[layer.name], layer, roots.get(layer.above)),
                )
            }


def _roots(layer: ProbedLayer, sums: Sums) -> dict[str, np.ndarray]:
    """Root mean squares; of cotangents times n, which makes them errors."""
    found = {n: np.sqrt(sums[n] / count) for n, count in layer.counts.items() if n in sums and count}
    return {n: v * layer.rows if n in ("error", "output error") else v for n, v in found.items()}


def _sizes(layer: ProbedLayer, roots: Sums, sums: Sums) -> Iterator[tuple[Quantity, np.ndarray]]:
    """Activation, error, their agreement and the gradient that is their product; the weights and what moved them."""
    yield Quantity.WEIGHT, roots["weight"]
    yield Quantity.GRADIENT, roots["gradient"]
    yield Quantity.ZERO_GRADIENT, sums["zero gradient"] / layer.entries
    yield Quantity.UPDATE, roots["update"]
    if "error" in roots:
        yield Quantity.ERROR, roots["error"]
        yield Quantity.USES, np.full(len(roots["error"]), layer.uses)
    if "activation" in roots:
        yield Quantity.ACTIVATION, roots["activation"]
    if "z" in roots and "activation" in roots:
        yield Quantity.FORWARD_GAIN, _shares(roots["z"], roots["activation"])
    if layer.is_product:
        whole = layer.uses * roots["activation"] * roots["error"]
        yield Quantity.AGREEMENT, _shares(roots.get("product", roots["gradient"]), whole)
    if "noise" in sums:
        # Mean over entries and rows of (a_i delta_j)²: the squared lengths of a row's a and delta part.
        squares = sums["noise"] * layer.rows**2 / layer.counts["noise"]
        mean = roots.get("product", roots["gradient"]) ** 2
        yield Quantity.NOISE, np.sqrt(np.maximum(squares - mean, 0.0) / (layer.rows - 1))
    met = [sums[n] for n in ("activation", "z", "error") if n in sums]
    if met:
        # The share itself would cost a pass of its own: that it is not 0 is what matters.
        bad = ~np.isfinite(np.add.reduce(met))
        yield Quantity.NOT_FINITE, bad / np.add.reduce([layer.counts[n] for n in ("activation", "z", "error")
                                                        if n in sums])  # fmt: skip


def _gains(roots: Sums, sums: Sums, layer: ProbedLayer, above: Sums | None) -> Iterator[tuple[Quantity, np.ndarray]]:
    """The local derivative, units without one, and what the link from the layer above does to the error."""
    if "slope" in roots:
        yield Quantity.LOCAL_DERIVATIVE, roots["slope"]
        yield Quantity.DEAD, 1 - sums["alive"] / layer.counts["alive"]
    if "saturated" in sums:
        yield Quantity.SATURATED, sums["saturated"] / layer.counts["slope"]
    behind = roots.get("output error", roots.get("error"))
    if above is None or behind is None or "error" not in above:
        return
    yield Quantity.WEIGHT_GAIN, _shares(behind, above["error"])
    yield Quantity.DERIVATIVE_GAIN, _shares(roots["error"], behind)


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)


# ------------------------------------------------------------------------------------------------ the graph


class _Reading:
    """The traced step, as layers are found in it."""

    def __init__(
        self, graph: Graph, strides: Strides, rows: int, weights: dict[str, Tensor],
        passed: dict[Node, tuple[list[Tensor | None], tuple]],
    ) -> None:  # fmt: skip
        self.rows, self.strides, self.weights, self.passed = rows, strides, weights, passed
        self.readers: dict[Any, list[Node]] = {}
        for node in graph.nodes():
            for value in node.inputs:
                self.readers.setdefault(value.key, []).append(node)

    def cotangent(self, site: Site) -> Tensor | None:
        passed = None if site.z.node is None else self.passed.get(site.z.node)
        return None if passed is None else passed[0][site.z.index]

    def want(self, value: Tensor | None) -> Tensor | None:
        return value


def probes_of(
    net: Module,
    loss: Tensor,
    batch: Sequence[Tensor],
    weights: dict[str, Tensor],
    passed: dict[Node, tuple[list[Tensor | None], tuple]],
    decay: tuple[float, float],
) -> tuple[Probes, tuple[Tensor, ...]]:
    """(what is measured, the sums) of a step that is being traced.

    loss: without penalties, of which ``decay`` tells. passed: what ``vjp`` saw on its way.
    """
    rows = batch[0].shape[0] if batch[0].shape else 1
    graph = Graph((*batch, *weights.values()), (loss,))
    whole = {t.key: math.prod(t.shape[1:]) for t in batch if t.shape[:1] == (rows,)}
    reading = _Reading(graph, row_strides(graph, whole, rows), rows, weights, passed)
    modules = dict(net.named_modules())
    sites = sites_of(graph, {w.key: n for n, w in weights.items()}, {t.key for t in batch})
    by_layer: dict[str, list[Layer]] = {}
    for layer in (Layer(reading, site, modules) for site in sites):
        by_layer.setdefault((layer.site.weight or layer.site.bias).rpartition(".")[0], []).append(layer)
    for name in weights:  # those that the loss does not reach
        by_layer.setdefault(name.rpartition(".")[0], [])
    made: list[ProbedLayer] = []
    names: list[tuple[str, str]] = []
    outputs: list[Tensor] = []
    for name, layers in by_layer.items():
        own = [n for n in weights if n.rpartition(".")[0] == name]
        biases = {layer.site.bias for layer in layers}
        chosen = tuple(n for n in own if weights[n].ndim > 1) or tuple(n for n in own if n not in biases) or tuple(own)
        probed, sums = _probed(name, layers, chosen, weights, decay, rows)
        made.append(probed)
        names += [(name, n) for n in sums]
        outputs += sums.values()
    order = [n for n in by_layer if _linked(by_layer[n])]
    above = dict(itertools.pairwise(order))
    return Probes(tuple(replace(p, above=above.get(p.name, "")) for p in made), tuple(names), decay), tuple(outputs)


def _linked(layers: list[Layer]) -> bool:
    return len(layers) == 1 and layers[0].site.form in ("linear", "conv", "matmul")


def _probed(
    name: str, layers: list[Layer], chosen: tuple[str, ...], weights: dict[str, Tensor],
    decay: tuple[float, float], rows: int,
) -> tuple[ProbedLayer, dict[str, Tensor]]:  # fmt: skip
    """One layer. Where its weight is used in several places, they count together as uses of it."""
    forms = {layer.site.form for layer in layers}
    by_row = None
    whole = bool(layers) and "none" not in forms and all(layer.dz is not None for layer in layers)
    entries = builtins.sum(weights[n].size for n in chosen)
    sums: dict[str, Tensor] = {}
    counts = {"weight": entries, "gradient": entries, "product": entries, "update": entries}
    if whole:
        by_row = _errors(layers, sums, counts)
    if layers:
        _slopes(layers[-1], sums, counts)
    is_product = whole and forms <= set(PRODUCTS) and len(chosen) == 1
    if is_product and rows > 1 and by_row is not None:
        sums["noise"] = sum(multiply(*by_row))
        counts["noise"] = rows * layers[0].t.shape[-1] * layers[0].z.shape[-1]  # type: ignore[union-attr]
    features = [math.prod(layer.z.shape[i] for i in layer.outgoing.features) for layer in layers]
    uses = math.fsum(layer.z.size / (rows * max(f, 1)) for layer, f in zip(layers, features, strict=True))
    made = ProbedLayer(name, chosen, entries, rows, uses, is_product, counts)
    if is_product and builtins.any(decay) and weights[chosen[0]].ndim >= 2:
        made = replace(made, moving=(*made.moving, "product"))
    return made, sums


def _without_penalty(gradient: Tensor, weight: Tensor, decay: tuple[float, float]) -> Tensor:
    """The gradient of the loss alone; see ``penalty``."""
    l1, l2 = decay
    if l1:
        gradient = gradient - l1 * sign(weight)
    return gradient - 2 * l2 * weight if l2 else gradient


def _errors(layers: list[Layer], sums: dict[str, Tensor], counts: dict[str, int]) -> tuple[Tensor, Tensor] | None:
    """Add what comes in, z and the cotangent there; gives squared lengths of a and of the cotangent by row, if that is
    what one dense layer has."""
    errors = [_by_row(cast(Tensor, layer.dz)) for layer in layers]
    sums["error"] = _added(map(sum, errors))
    sums["z"] = _added(_squares(layer.z) for layer in layers)
    counts["error"] = counts["z"] = builtins.sum(layer.z.size for layer in layers)
    activations = [found for found in map(_incoming, layers) if found is not None]
    if len(activations) < len(layers):
        return None
    sums["activation"] = _added(sum(a) for a, _ in activations)
    counts["activation"] = builtins.sum(n for _, n in activations)
    dense = len(layers) == 1 and layers[0].site.form in ("linear", "matmul")
    flat = dense and layers[0].z.ndim == 2 and cast(Tensor, layers[0].t).ndim == 2
    return (activations[0][0], errors[0]) if flat and layers[0].outgoing.place == (0, 1) else None


def _incoming(layer: Layer) -> tuple[Tensor, int] | None:
    """(squares of all that the weights are multiplied with, of how many numbers); None where they are not."""
    site, t = layer.site, layer.t
    if site.form == "bias":
        return None
    if site.form == "norm":
        normal = cast(Tensor, layer.normal)
        return _by_row(normal), normal.size
    t = cast(Tensor, t)
    if site.form == "lookup":  # a one-hot row for each index
        ones = Tensor(TensorSpec((), FLOAT64), np.array(float(t.size)), constant=True)
        return ones, t.size * site.node.inputs[0].shape[0]
    if site.form == "scale":
        times = layer.z.size // t.size
        return multiply(_by_row(t), float(times)), layer.z.size
    if site.form != "conv":
        return _by_row(t), t.size
    seen = _times_seen(site.node)
    squares = multiply(_square(t), Tensor(TensorSpec(seen.shape, FLOAT64), seen, constant=True))
    windows = layer.z.size // layer.z.shape[1]
    kernel = math.prod(site.node.inputs[1].shape[2:])
    return _by_row(squares, squared=True), windows * t.shape[1] * kernel


def _times_seen(node: Node) -> np.ndarray:
    """How many windows of a convolution hold each pixel. [height, width]"""
    given = node.parameters
    counts = []
    for axis in (0, 1):
        length, kernel, outputs = (x.shape[2 + axis] for x in (node.inputs[0], node.inputs[1], node.specs[0]))
        found = np.zeros(length)
        first = np.arange(outputs) * given["strides"][axis] - given["padding"][axis][0]
        for k in range(kernel):
            places = first + k * given["dilations"][axis]
            np.add.at(found, places[(places >= 0) & (places < length)], 1)
        counts.append(found)
    return np.outer(*counts)


def _slopes(layer: Layer, sums: dict[str, Tensor], counts: dict[str, int]) -> None:
    """Add the local derivative of the function that follows."""
    slope = layer.slope
    if slope is None or layer.doutput is None:
        return
    sums["slope"], counts["slope"] = _narrow_squares(slope), slope.size
    sums["output error"], counts["output error"] = _squares(layer.doutput), layer.doutput.size
    others = tuple(a for a in range(slope.ndim) if a not in layer.outgoing.features)
    alive = any(not_equal(slope, 0.0), axis=others)
    sums["alive"], counts["alive"] = _counted(alive), alive.size
    steepest = STEEPEST.get(layer.activation or "")
    if steepest is not None:
        sums["saturated"] = _counted(less(abs(slope), LEFT_WHEN_SATURATED * steepest))


def _square(x: Tensor) -> Tensor:
    wide = astype(x, FLOAT64)
    return multiply(wide, wide)


def _by_row(x: Tensor, squared: bool = False) -> Tensor:
    """The squares of each entry of the first axis, added up: with it, so that the sum joins the loop that makes x."""
    square = x if squared else _square(x)
    return sum(square, axis=tuple(range(1, x.ndim))) if x.ndim > 1 else square


def _squares(x: Tensor) -> Tensor:
    return sum(_by_row(x))


def _narrow_squares(x: Tensor) -> Tensor:
    """The same, each row in the dtype of x, at a third of the price: for what is not tiny or huge where it counts."""
    return _total(multiply(x, x))


def _counted(found: Tensor) -> Tensor:
    return _total(astype(found, FLOAT32))


def _total(x: Tensor) -> Tensor:
    """The sum in float64 of what each entry of the first axis adds up to in its own dtype."""
    return sum(astype(sum(x, axis=tuple(range(1, x.ndim))) if x.ndim > 1 else x, FLOAT64))


def _added(parts: Iterable[Tensor]) -> Tensor:
    return functools.reduce(add, parts)
