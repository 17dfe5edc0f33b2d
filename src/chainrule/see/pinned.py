"""The pinned variant of a step: forward, loss and backward with every layer's inputs and errors kept."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import numpy as np

from chainrule.compiler import chosen_backend, compile_graph
from chainrule.errors import ShapeError
from chainrule.graph import (
    Graph,
    Node,
    Tensor,
    context,
    evaluator,
    holding,
    nodes_between,
    ones_cotangent,
    placeholder,
    reason,
    trace,
    vjp,
    zeros_like,
)
from chainrule.graph.trace import Trace
from chainrule.graph.vjp import pull_back
from chainrule.nn import Module
from chainrule.ops import key as key_of
from chainrule.optim import penalty
from chainrule.record.trace import INPUT, LOSS, LayerTrace, Link, NetworkTrace, behind, patches_of, rms
from chainrule.see.rows import Layout, Strides, row_strides
from chainrule.see.sites import Site, opened, place_of, sites_of
from chainrule.spec import UINT32, TensorSpec

Loss = Callable[..., Tensor]

VARIANTS = 8
"""Compiled variants that are kept for a network: by loss, shapes, modes and backend; the oldest goes first."""

_variants: weakref.WeakKeyDictionary[Module, dict[Any, Pinned]] = weakref.WeakKeyDictionary()
"""They live as long as the network does: nothing else holds them, and they do not hold it."""


def pinned(
    net: Module,
    loss: Loss,
    x: np.ndarray,
    y: np.ndarray,
    backend: str | None = None,
    *,
    seed: int = 0,
    step: int = 0,
    decay: tuple[float, float] = (0.0, 0.0),
    states: Mapping[str, np.ndarray] | None = None,
) -> NetworkTrace:
    """What one step of ``loss(net(x), y)`` saw at every layer, in the mode that the network is in.

    x, y: arrays as the network and the loss take them. seed, step: of the random numbers, as in the step after ``step``
    updates. decay: the step's penalties (l1, l2). states: parameters and buffers by name instead of the network's
    own, as of a checkpoint. Traced and compiled once for each loss, shape and mode.
    """
    net.root().initialise_if_needed()
    modes = tuple((m.training, tuple(p.requires_grad for p in m._states.values())) for m in net.modules())
    place = (loss, x.shape, x.dtype, y.shape, y.dtype, modes, net.dtype, chosen_backend(backend), decay)
    held = _variants.setdefault(net, {})
    if place not in held:
        if len(held) >= VARIANTS:
            del held[next(iter(held))]
        held[place] = Pinned(net, loss, TensorSpec(x.shape, x.dtype), TensorSpec(y.shape, y.dtype), backend, decay)
    present = states or {name: p.value("explain") for name, p in net._all_states()}
    return held[place].run(x, y, key_of(seed, step + 1).value("explain"), step, present)


class Pinned:
    """One network with one loss, for one set of shapes and modes."""

    def __init__(
        self, net: Module, loss: Loss, x: TensorSpec, y: TensorSpec, backend: str | None, decay: tuple[float, float]
    ) -> None:
        self.rows = x.shape[0] if x.shape else 1
        self.decay = decay
        self.loss_name = getattr(loss, "name", None) or getattr(loss, "__name__", type(loss).__name__)
        self._read(net, loss, x, y)
        self._differentiate(decay)
        self._find_layers(net)
        self._find_links()
        first = [self.total, *(g for g in self.gradients.values() if g is not None)]
        # Each value once: a bias's gradient over one row is the error itself.
        self.kept = {v.key: v for v in (*first, *self.wanted.values()) if v.node is not None}
        self.compiled = compile_graph(Graph(self.inputs, tuple(self.kept.values())), backend)
        self.pushes: dict[tuple[str, int], Any] = {}

    # ------------------------------------------------------------------------------------------------ building

    def _read(self, net: Module, loss: Loss, x: TensorSpec, y: TensorSpec) -> None:
        """The forward pass as a graph, and where parameters meet data in it."""
        names = {id(p): n for n, p in net.named_parameters()}
        every = {id(p): n for n, p in net._all_states()} | names
        self.aliases = {n: names[id(p)] for n, p in net._all_states() if id(p) in names and n != names[id(p)]}

        def forward(x: Tensor, y: Tensor, key: Tensor) -> tuple[Tensor, ...]:
            with holding(key=key):
                prediction = net(x)
                value = loss(prediction, y)
            for p in net.parameters():
                cast(Trace, context.trace).seen(p)
            if value.shape != ():
                raise ShapeError(f"the loss must be a scalar, got {value.spec}: reduce it with mean() or sum()")
            return (value, prediction) if isinstance(prediction, Tensor) else (value,)

        traced = trace(forward, x, y, TensorSpec((4,), UINT32), names=("x", "y", "key"))
        outputs = traced.graph.outputs[: len(traced.graph.outputs) - len(traced.targets)]
        self.inputs = traced.graph.inputs
        self.captured = [every[id(p)] for p in traced.captured]
        stands = {id(p): t for p, t in zip(traced.captured, self.inputs[3:], strict=True)}
        self.parameters = {n: stands[id(p)] for n, p in net.named_parameters()}
        self.weights = {n: stands[id(p)] for n, p in net.named_parameters() if p.requires_grad}
        roles = {t.key: n for n, t in self.weights.items()}
        graph, inner = opened(Graph(self.inputs, outputs), roles)
        self.loss, self.prediction = graph.outputs[0], graph.outputs[1] if len(outputs) > 1 else None
        data = {t.key for t in self.inputs[:3]}
        known = frozenset(n for s in inner for n in (s.weight, s.bias) if n)
        self.sites = sites_of(graph, roles, data, known)
        self.sites += inner
        self.sites.sort(key=lambda s: (s.cut if s.tap is None else cast(Tensor, s.stacked_z)).serial)
        self.graph = graph
        whole = {t.key: math.prod(t.shape[1:]) for t in self.inputs[:2] if t.shape[:1] == (self.rows,)}
        self.strides = row_strides(graph, whole, self.rows)

    def _differentiate(self, decay: tuple[float, float]) -> None:
        """The backward pass of the step itself, with what passed each node kept."""
        extra = penalty(self.weights, *decay)
        self.total = self.loss if extra is None else self.loss + extra
        taps = {s: s.tap for s in self.sites if s.tap is not None}
        x = [self.inputs[0]] if self.inputs[0].spec.floating else []
        self.passed: dict[Node, tuple[list[Tensor | None], tuple]] = {}
        wrt = [*self.weights.values(), *taps.values(), *x]
        pulled = vjp([self.total], [ones_cotangent(self.total)], wrt, self.passed)
        count = len(self.weights)
        self.gradients = dict(zip(self.weights, pulled[:count], strict=True))
        self.reasons = {n: reason([self.total], self.weights[n]) for n, g in self.gradients.items() if g is None}
        self.at_tap = dict(zip(taps, pulled[count : count + len(taps)], strict=True))
        self.at_x = pulled[-1] if x else None

    def cotangent(self, site: Site) -> Tensor | None:
        if site.tap is not None:
            return self.at_tap[site]
        passed = self.passed.get(cast(Node, site.z.node))
        return None if passed is None else passed[0][site.z.index]

    def want(self, value: Tensor | None) -> Tensor | None:
        """Have the run keep ``value``."""
        if value is not None and value.node is not None:
            self.wanted[value.key] = value
        return value

    def _find_layers(self, net: Module) -> None:
        """What each site's trace is made of."""
        self.wanted: dict[Any, Tensor] = {}
        self.readers: dict[Any, list[Node]] = {}
        for node in self.graph.nodes():
            for value in node.inputs:
                self.readers.setdefault(value.key, []).append(node)
        modules = dict(net.named_modules())
        self.layers = [Layer(self, site, modules) for site in self.sites]
        for kept in (self.prediction, self.at_x, self.loss):
            self.want(kept)
        self.row_losses = self.want(self._losses_of_rows())

    def _losses_of_rows(self) -> Tensor | None:
        """The loss before its mean is taken, where it is the mean over rows of one primitive's values."""
        node = self.loss.node
        if node is None or node.parameters.get("reduction") != "mean":
            return None
        each = node.primitive(*node.inputs, **{**node.parameters, "reduction": "none"})
        known = row_strides(Graph(node.inputs, (each,)), {k: self.strides[k] for k in (x.key for x in node.inputs)
                                                          if k in self.strides}, self.rows)  # fmt: skip
        self.row_layout = Layout(each.shape, known.get(each.key), self.rows, ())
        return each if self.row_layout.place is not None else None

    # ------------------------------------------------------------------------------------------------ links

    def _find_links(self) -> None:
        """Which layer feeds which, and what the error becomes between them: values for the run to keep."""
        self.links: list[dict[str, Any]] = []
        cuts = [(i, s.cut) for i, s in enumerate(self.sites) if s.links]
        if self.at_x is not None:
            cuts.append((INPUT, self.inputs[0]))
        values = [cut for _, cut in cuts]
        feeding = [(LOSS, self.loss, ones_cotangent(self.loss))]
        for i, site in enumerate(self.sites):
            behind = self.passed.get(site.node, ([], ()))[1] if site.tap is None else ()
            if site.links and site.t is not None and behind:
                back = behind[place_of(site.t, site.node.inputs)]
                if back is not None:
                    feeding.append((i, site.t, back))
        messages = [vjp([t], [back], values) for _, t, back in feeding]
        for place, (parent, cut) in enumerate(cuts):
            fed = [f for f, message in zip(feeding, messages, strict=True) if message[place] is not None]
            for child, t, back in fed:
                whole = self.at_x if parent == INPUT else self.cotangent(self.sites[parent])
                # All that arrives comes this way: the same value, and no second pass for it.
                index = [f[0] for f in feeding].index(child)
                arriving = whole if len(fed) == 1 else messages[index][place]
                between = nodes_between(values, [t])
                self.links.append({
                    "parent": parent, "child": child, "back": self.want(back), "arriving": self.want(arriving),
                    "through": tuple(n.primitive.name for n in between if _depends(n, cut, between)),
                    "derivative": self.want(self._diagonal(cut, t, between, values)) if child != LOSS else None,
                })  # fmt: skip

    def _diagonal(self, cut: Tensor, t: Tensor, between: list[Node], values: list[Tensor]) -> Tensor | None:
        """The derivative of each entry of ``t`` by the same entry of ``cut``, if it depends on no other."""
        stretched = any(
            not n.primitive.elementwise or n.specs[0].shape != cut.shape for n in between if _depends(n, cut, between)
        )
        if cut.shape != t.shape or stretched:
            return None
        ones = Tensor(t.spec, np.ones(t.shape, t.dtype), constant=True)
        return vjp([t], [ones], values)[place_of(cut, values)]

    # ------------------------------------------------------------------------------------------------ running

    def run(
        self, x: np.ndarray, y: np.ndarray, key: np.ndarray, step: int, states: Mapping[str, np.ndarray]
    ) -> NetworkTrace:
        """One step's numbers."""
        arrays = (x, y, key, *(states[n].copy() for n in self.captured))
        values = _Values(dict(zip([t.key for t in self.inputs], arrays, strict=True)))
        values.known.update(zip(self.kept, self.compiled(*arrays), strict=True))
        gradients = {n: np.zeros(self.weights[n].shape, self.weights[n].dtype) if g is None else values.of(g)
                     for n, g in self.gradients.items()}  # fmt: skip
        layers = tuple(layer.trace(values, gradients) for layer in self.layers)
        n = self.rows
        rows = self.row_losses
        return NetworkTrace(
            layers, float(values.of(self.total)), n, step, x,
            None if self.at_x is None else values.of(self.at_x) * n,
            None if self.prediction is None else values.of(self.prediction),
            None if rows is None else self.row_layout.to_rows(values.of(rows)).reshape(n, -1).mean(1),
            tuple(self._link(link, values, layers) for link in self.links),
            gradients, {name: values.of(t) for name, t in self.parameters.items()}, self.reasons, self.aliases,
            str(self.loss_name), functools.partial(self._pushed, arrays), _Nudge(self, arrays, values), self.decay,
        )  # fmt: skip

    def _link(self, link: dict[str, Any], values: _Values, layers: tuple[LayerTrace, ...]) -> Link:
        child, n = link["child"], self.rows
        error = 1.0 if child == LOSS else rms(layers[child].delta)
        behind = 1.0 if child == LOSS else rms(values.of(link["back"])) * n
        derivative = link["derivative"]
        if derivative is not None:
            array = values.of(derivative)
            layer = self.layers[child]
            derivative = layer.incoming.to_rows(np.broadcast_to(array, layer.incoming.shape))
        return Link(link["parent"], child, error, behind, rms(values.of(link["arriving"])) * n, derivative,
                    link["through"])  # fmt: skip

    def _origin(self, kind: str, layer: int) -> tuple[Tensor, Layout]:
        if kind == "x":
            x = self.inputs[0]
            return x, Layout(x.shape, self.strides.get(x.key), self.rows, tuple(range(1, x.ndim)))
        found = self.layers[layer]
        if kind == "a" and found.output is not None:
            return found.output, found.outgoing
        return found.site.cut, found.outgoing

    def _pushed(self, arrays: tuple[np.ndarray, ...], kind: str, layer: int, direction: np.ndarray) -> dict[int, Any]:
        """See ``NetworkTrace.push``. The derivative of a pullback by its cotangent is the derivative forward."""
        origin, layout = self._origin(kind, layer)
        if (kind, layer) not in self.pushes:
            self.pushes[kind, layer] = self._pusher(origin, layer if kind != "x" else INPUT)
        run, children, zeros = self.pushes[kind, layer]
        moved = run(*arrays, layout.from_rows(direction), *zeros)
        return {c: self.layers[c].outgoing.to_rows(np.asarray(m)) for c, m in zip(children, moved, strict=True)}

    def _pusher(self, origin: Tensor, parent: int) -> tuple[Callable[..., Any], list[int], list[np.ndarray]]:
        children = sorted({k["child"] for k in self.links if k["parent"] == parent and k["child"] != LOSS})
        direction = placeholder(origin.spec)
        moved, cotangents = [], []
        for child in children:
            z = self.sites[child].z
            others = [s.cut for s in self.sites if s.links and s.cut.key not in {z.key, origin.key}]
            cotangent = placeholder(z.spec)
            cotangents.append(cotangent)
            back = vjp([z], [cotangent], [origin, *others])[0]
            forward = None if back is None else vjp([back], [direction], [cotangent])[0]
            moved.append(zeros_like(z) if forward is None else forward)
        # The cotangents drop out of what is linear in them; those that stay in the graph by name are 0.
        run = evaluator(Graph((*self.inputs, direction, *cotangents), tuple(moved)))
        return run, children, [np.zeros(c.shape, c.dtype) for c in cotangents]


def _depends(node: Node, on: Tensor, between: list[Node]) -> bool:
    """Whether ``node`` reads ``on``, directly or by others between."""
    reached = {on.key}
    for other in between:
        if any(v.key in reached for v in other.inputs):
            reached.update((other, i) for i in range(len(other.specs)))
        if other is node:
            return (node, 0) in reached
    return False


class _Values:
    """What a run gave, by value."""

    def __init__(self, known: dict[Any, np.ndarray]) -> None:
        self.known = known

    def of(self, value: Tensor) -> np.ndarray:
        return self.known[value.key] if value.key in self.known else value.value("explain")


class _Nudge:
    """The loss with one number raised, by the reference in float64."""

    def __init__(self, pinned: Pinned, arrays: tuple[np.ndarray, ...], values: _Values) -> None:
        self.pinned, self.values, self.given = pinned, values, arrays

    @functools.cached_property
    def arrays(self) -> list[np.ndarray]:
        return [a.astype(np.float64) if a.dtype.kind == "f" else a for a in self.given]

    def __call__(self, kind: str, place: int | str, index: tuple[int, ...], by: float) -> float:
        pinned, arrays = self.pinned, list(self.arrays)
        if kind == "parameter":
            at = 3 + pinned.captured.index(cast(str, place))
            arrays[at] = arrays[at].copy()
            arrays[at][index] += by
            return float(evaluator(Graph(pinned.inputs, (pinned.total,)))(*arrays)[0])
        origin, layout = pinned._origin(kind, cast(int, place))
        raised = layout.to_rows(np.array(self.values.of(origin), np.float64)).copy()
        raised[behind(index)] += by
        graph = Graph((*(t for t in pinned.inputs if t is not origin), origin), (pinned.total,))
        own = [a for a, t in zip(arrays, pinned.inputs, strict=True) if t is not origin]
        return float(evaluator(graph)(*own, layout.from_rows(raised))[0])


class Reading(Protocol):
    """A forward and a backward pass in which layers are found."""

    rows: int
    strides: Strides
    weights: dict[str, Tensor]
    """The trainable parameters by name, as they stand in the graph."""
    readers: dict[Any, list[Node]]
    passed: dict[Node, tuple[list[Tensor | None], tuple]]
    """What passed each node on the way back; see ``vjp``."""

    def cotangent(self, site: Site) -> Tensor | None:
        """The cotangent at a site's z."""
        ...

    def want(self, value: Tensor | None) -> Tensor | None:
        """Told of each value that a layer's trace is made of."""
        ...


class Layer:
    """One site: the values that its trace is made of, and their layouts."""

    def __init__(self, reading: Reading, site: Site, modules: dict[str, Module]) -> None:
        self.reading, self.site = reading, site
        parameter = site.weight or site.bias
        owner = parameter.rpartition(".")[0]
        scope = site.node.scope
        held = modules.get(scope)
        shared = held is not None and scope != owner and not list(held.children())
        self.name = scope if shared else owner
        module = modules.get(self.name)
        own = module is not None and (not list(module.children()) and self.name == scope)
        self.kind = type(module).__name__ if own else site.node.primitive.name
        self.z = site.z if site.tap is None else cast(Tensor, site.stacked_z)
        self.t = site.t if site.tap is None else site.stacked_t
        self._lay_out()
        self.dz = reading.cotangent(site)
        self._follow()
        for value in (self.z, self.t, self.dz, self.output, self.doutput, self.slope):
            reading.want(value)
        if site.form == "norm":
            self._normalised()

    def _lay_out(self) -> None:
        site, rows, strides = self.site, self.reading.rows, self.reading.strides
        z, t = self.z, self.t
        last: tuple[int, ...] = (z.ndim - 1,) if z.ndim > 1 else ()
        features: tuple[int, ...] = last
        inputs: tuple[int, ...] = () if t is None else (t.ndim - 1,)
        width = self._width()
        if site.form == "lookup":
            features, inputs = tuple(range(z.ndim - width + 1, z.ndim)), ()
        if site.form in ("scale", "bias") or site.node.primitive.name == "layer_norm":
            features = tuple(range(z.ndim - width, z.ndim))
            inputs = () if t is None else tuple(range(t.ndim - width, t.ndim))
        if site.form == "conv" or site.node.primitive.name == "batch_norm":
            features = inputs = (1,)
        if site.form == "none":
            inputs = () if t is None or t.ndim < 2 else (t.ndim - 1,)
        self.outgoing = Layout(z.shape, strides.get(z.key), rows, features)
        shape, stride = ((), None) if t is None else (t.shape, strides.get(t.key))
        self.incoming = Layout(shape, stride, rows, inputs)
        if t is not None and (self.incoming.place is None) != (self.outgoing.place is None):
            self.outgoing = Layout(z.shape, None, rows, features)
            self.incoming = Layout(shape, None, rows, inputs)

    def _width(self) -> int:
        return self.reading.weights[self.site.weight or self.site.bias].ndim

    def _follow(self) -> None:
        """The activation function behind it."""
        self.activation: str | None = None
        self.output = self.doutput = self.slope = None
        readers = self.reading.readers.get(self.z.key, []) if self.site.tap is None else []
        if len(readers) != 1:
            return
        node = readers[0]
        name = node.primitive.name
        alone = node.primitive.elementwise and len(node.inputs) == 1 and name not in NO_ACTIVATION
        if not alone and name not in ("softmax", "log_softmax"):
            return
        self.activation, self.output = name, node.output(0)
        passed = self.reading.passed.get(node)
        self.doutput = None if passed is None else passed[0][0]
        if alone:
            ones = Tensor(node.specs[0], np.ones(node.specs[0].shape, node.specs[0].dtype), constant=True)
            self.slope = pull_back(node, [ones])[0]

    def _normalised(self) -> None:
        """What a normalising layer's scale multiplies."""
        x, weight, bias = self.site.node.inputs
        ones = Tensor(weight.spec, np.ones(weight.shape, weight.dtype), constant=True)
        made = self.site.node.primitive(x, ones, zeros_like(bias), **self.site.node.parameters)
        self.normal = self.reading.want(made[0] if isinstance(made, tuple) else made)

    def trace(self, values: _Values, gradients: dict[str, np.ndarray]) -> LayerTrace:
        site, n = self.site, self.reading.rows
        z = self.outgoing.to_rows(values.of(self.z))
        delta = np.zeros_like(z) if self.dz is None else self.outgoing.to_rows(values.of(self.dz)) * (site.sign * n)
        rows_out = functools.partial(self._rows_out, values)
        weights = self.reading.weights
        by_row = _ByRow(self, values) if site.form == "none" else None
        return LayerTrace(
            self.name, self.kind, self._a(values, z), z, delta,
            values.of(weights[site.weight]) if site.weight else None,
            values.of(weights[site.bias]) if site.bias else None,
            self.activation, rows_out(self.slope), FORM_OF_TRACE.get(site.form, "linear"),
            site.weight, site.bias, gradients.get(site.weight), gradients.get(site.bias), rows_out(self.output),
            None if self.doutput is None else cast(np.ndarray, rows_out(self.doutput)) * n,
            self._uses(z), int(site.node.parameters.get("groups", 1)), by_row,
        )  # fmt: skip

    def _rows_out(self, values: _Values, value: Tensor | None) -> np.ndarray | None:
        if value is None:
            return None
        return self.outgoing.to_rows(np.broadcast_to(values.of(value), self.outgoing.shape))

    def _a(self, values: _Values, z: np.ndarray) -> np.ndarray:
        """What comes in, as the trace lays it out."""
        site = self.site
        if self.t is None:
            return z
        t = values.of(self.t)
        if site.form == "norm":
            return self.outgoing.to_rows(values.of(cast(Tensor, self.normal)))
        if site.form == "conv":
            given = site.node.parameters
            kernel = site.node.inputs[1].shape[2:]
            cut = patches_of(t, kernel, given["strides"], given["padding"], given["dilations"])  # type: ignore[arg-type]
            return cut.reshape(z.shape[0], *([] if len(cut) == z.shape[0] else [-1]), *cut.shape[1:])
        if site.form == "none" and (self.t.ndim == 0 or self.incoming.to_rows(t).shape[0] != z.shape[0]):
            return z
        if site.form == "scale":
            t = np.broadcast_to(t, self.outgoing.shape)
            return self.outgoing.to_rows(t)
        return self.incoming.to_rows(t)

    def _uses(self, z: np.ndarray) -> str:
        if self.site.tap is not None:
            return "time step"
        return "position" if z.ndim - 1 - len(self.outgoing.features) > 0 else ""


NO_ACTIVATION = ("astype", "negative", "identity", "stop_gradient", "abs", "logical_not", "isfinite", "isnan")
"""Functions of one element that nobody calls an activation function."""

FORM_OF_TRACE = {"norm": "scale", "matmul": "matmul", "lookup": "lookup", "scale": "scale", "none": "none"}


class _ByRow:
    """What each row adds to the gradient of a parameter that enters by anything else than a product.

    A pullback is linear in the cotangent: with that of one row alone it gives the part of this row.
    """

    def __init__(self, layer: Layer, values: _Values) -> None:
        self.layer, self.values = layer, values
        node, entry = layer.site.node, layer.site.entry
        arriving, _ = layer.reading.passed.get(node, ([None] * len(node.specs), ()))
        self.arriving = list(arriving)
        data = [x for i, x in enumerate(node.inputs) if i != entry and x.node is not None]
        own = [placeholder(y) if dy is not None else None for y, dy in zip(node.specs, arriving, strict=True)]
        back = pull_back(node, own)[entry] if any(o is not None for o in own) else None
        weight = layer.reading.weights[layer.site.weight]
        pulled = None if back is None else vjp([node.inputs[entry]], [back], [weight])[0]
        for x in (*data, *arriving):
            layer.reading.want(x)
        self.graph = None if pulled is None else (data, [o for o in own if o is not None], pulled)

    def __call__(self, name: str, index: tuple[int, ...]) -> np.ndarray:
        return self.parts[behind(index)]

    @functools.cached_property
    def parts(self) -> np.ndarray:
        """[n, *weight.shape]"""
        layer, values = self.layer, self.values
        pinned = cast(Pinned, layer.reading)
        weight = pinned.weights[layer.site.weight]
        if self.graph is None:
            return np.zeros((pinned.rows, *weight.shape), weight.dtype)
        data, own, pulled = self.graph
        inputs = list(pinned.inputs)
        run = evaluator(Graph((*inputs, *data, *own), (pulled,)))
        fixed = [values.of(t) for t in (*inputs, *data)]
        given = [(values.of(dy), Layout(dy.shape, self._stride(i), pinned.rows, ()))
                 for i, dy in enumerate(self.arriving) if dy is not None]  # fmt: skip
        if any(layout.place is None for _, layout in given):
            return run(*fixed, *(dy for dy, _ in given))[0][None]
        found = []
        for row in range(pinned.rows):
            alone = []
            for dy, layout in given:
                kept = np.zeros_like(split := layout.to_rows(dy))
                kept[row] = split[row]
                alone.append(layout.from_rows(kept))
            found.append(run(*fixed, *alone)[0])
        return np.stack(found)

    def _stride(self, output: int) -> int | None:
        return self.layer.reading.strides.get((self.layer.site.node, output))
