"""Look at one batch in a network: what comes into each layer, what goes out, and the error that comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from chainrule.errors import ArgumentError
from chainrule.graph import Graph, Node, Tensor, context, evaluator, holding, ones_cotangent, reason, trace, vjp
from chainrule.graph.trace import Trace
from chainrule.graph.vjp import pull_back
from chainrule.nn import Module
from chainrule.ops import key
from chainrule.record.trace import LayerTrace, NetworkTrace
from chainrule.spec import TensorSpec

ELEMENTWISE = frozenset(
    [
        "relu",
        "leaky_relu",
        "elu",
        "selu",
        "gelu",
        "gelu_tanh",
        "silu",
        "mish",
        "softplus",
        "softsign",
        "sigmoid",
        "tanh",
        "hardtanh",
        "hardsigmoid",
        "hardswish",
        "exp",
        "sin",
    ]
)
"""Functions that act on each element alone and stand between layers."""

PASSED_OVER = frozenset(
    ["identity", "reshape", "batch_norm", "layer_norm", "multiply", "max_pool2d", "avg_pool2d", "permute_dims"]
)
"""What may stand between a layer and the function that belongs to it."""

MULTIPLIES = ("linear", "conv2d", "matmul")
"""Primitives that multiply what comes in by weights: their second input, [out, in, ...] for the first two."""

LOSS_NAMES = {"softmax_cross_entropy": "cross_entropy"} | {
    n: n for n in ("binary_cross_entropy", "binary_cross_entropy_with_logits", "mse", "mae", "huber")
}
"""The loss that each primitive stands for."""

HEADS = frozenset((*ELEMENTWISE, "softmax", "log_softmax", "clip"))


@dataclass(frozen=True)
class _Layer:
    """Where one layer stands in the graph."""

    name: str
    a: Tensor
    z: Tensor
    weight: Tensor
    bias: Tensor | None
    function: Node | None


@dataclass(frozen=True)
class Look:
    """What one batch showed. gradients: by parameter; reasons: of those that nothing reaches."""

    trace: NetworkTrace
    prediction: np.ndarray
    gradients: dict[str, np.ndarray]
    reasons: dict[str, str]


class Observer:
    """A network and a loss, traced once for a shape of batch; `look` then measures any values and weights.

    The graph is read by NumPy, node by node, so nothing is compiled. The network is looked at in the mode that it is
    in, with the same random draws every time, and neither its weights nor its buffers change.
    """

    def __init__(self, net: Module, loss: Callable[..., Tensor], x: np.ndarray, y: np.ndarray) -> None:
        net.root().initialise_if_needed()
        self.names = {id(p): n for n, p in net.named_parameters()}
        self.grown = False
        """Whether the loss makes more numbers of the prediction than there are in it: a target that was broadcast."""
        self.activation: str | None = None
        """The last function of the network."""
        self.loss: str | None = None
        """The loss that the graph contains, whatever function of the user's it stands in."""
        self.shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
        """Of prediction and target."""
        self.kinds = {f"{n}.{k}" if n else k: type(m).__name__ for n, m in net.named_modules() for k in m._states}
        trainable = [p for p in net.parameters() if p.requires_grad]
        self.trainable = [self.names[id(p)] for p in trainable]
        self._layers: list[_Layer] = []
        self._present: list[list[bool]] = []

        def passes(x: Tensor, y: Tensor) -> list[Tensor]:
            prediction = net(x)
            if not isinstance(prediction, Tensor):
                raise ArgumentError(
                    f"the doctor needs a network that gives one Tensor, got {type(prediction).__name__}: wrap it in a "
                    "Module whose forward() returns what the loss takes"
                )
            value = loss(prediction, y)
            tracing = cast(Trace, context.trace)
            sources = [tracing.seen(p) for p in trainable]
            self._found(tracing, prediction, value)
            self.shapes = prediction.shape, y.shape
            between = [layer.z for layer in self._layers]
            pulled = _cotangents(value, [*sources, *between])
            self.reasons = {
                n: reason([value], s) for n, s, g in zip(self.trainable, sources, pulled, strict=False) if g is None
            }
            outputs = [value, prediction]
            for layer, delta in zip(self._layers, pulled[len(sources) :], strict=True):
                slope = _slope(layer.function)
                present = [layer.a, layer.z, delta, layer.weight, layer.bias, slope]
                self._present.append([p is not None for p in present])
                outputs += [p for p in present if p is not None]
            return outputs + [g for g in pulled[: len(sources)] if g is not None]

        specs = TensorSpec(x.shape, x.dtype), TensorSpec(y.shape, y.dtype)
        with holding(key=key(0)):
            traced = trace(passes, *specs, names=("x", "y"))
        count = len(traced.graph.outputs) - len(traced.targets)
        self._captured = traced.captured
        self._run = evaluator(Graph(traced.graph.inputs, traced.graph.outputs[:count]))

    def _found(self, tracing: Trace, prediction: Tensor, value: Tensor) -> None:
        """Note the layers, the functions behind them, and the last function, from the nodes of the forward pass."""
        weights = {tracing.seen(s).key: n for s, n in self._states(tracing)}
        nodes = _nodes(value)
        readers: dict[Any, list[Node]] = {}
        for node in nodes:
            for x in node.inputs:
                readers.setdefault(x.key, []).append(node)
        for node in nodes:
            if node.primitive.name in MULTIPLIES and len(node.inputs) > 1 and node.inputs[1].key in weights:
                bias = node.inputs[2] if len(node.inputs) > 2 else None
                name = weights[node.inputs[1].key].rpartition(".")[0]
                z = node.output(0)
                self._layers.append(_Layer(name, node.inputs[0], z, node.inputs[1], bias, _function(z, readers)))
        self.activation = _last_function(prediction)
        self.loss = next((LOSS_NAMES[n.primitive.name] for n in nodes if n.primitive.name in LOSS_NAMES), None)
        self.loss = self.loss or _written_cross_entropy(nodes, prediction)
        self.grown = any(node.output(0).size > prediction.size for node in _behind(nodes, prediction))

    def _states(self, tracing: Trace) -> list[tuple[Tensor, str]]:
        return [(s, self.names[id(s)]) for s, _ in tracing.captured if id(s) in self.names]

    def weights(self) -> list[np.ndarray]:
        """The arrays that `look` takes as weights, as they are in the network."""
        return [p.value("the doctor") for p in self._captured]

    def named(self, weights: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Weights of `look` by name."""
        return {self.names[id(p)]: w for p, w in zip(self._captured, weights, strict=True) if id(p) in self.names}

    def replaced(self, by: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Weights for `look` with those of ``by`` in place of the network's own of the same names."""
        own = self.weights()
        return [by.get(self.names.get(id(p), ""), w) for p, w in zip(self._captured, own, strict=True)]

    def redrawn(self, seed: int) -> list[np.ndarray]:
        """First weights of another seed, with the network's own initialisers."""
        return [
            np.asarray(p.initialiser.draw(p.shape, seed, p.stream or 0), p.dtype) if id(p) in self.names else p.array
            for p in cast(Any, self._captured)
        ]

    def look(self, x: np.ndarray, y: np.ndarray, weights: Sequence[np.ndarray] | None = None, step: int = 0) -> Look:
        """Everything about a batch of the shape that was traced, with the network's weights or those given."""
        value, prediction, *arrays = self._run(x, y, *(self.weights() if weights is None else weights))
        each, rows = iter(arrays), len(x)
        layers = []
        for layer, present in zip(self._layers, self._present, strict=True):
            a, z, delta, weight, bias, slope = (np.asarray(next(each)) if there else None for there in present)
            delta = np.zeros_like(z) if delta is None else delta * rows
            layers.append(self._traced(layer, cast(Any, a), cast(Any, z), delta, cast(Any, weight), bias, slope))
        gradients = {n: np.asarray(next(each)) for n in self.trainable if n not in self.reasons}
        shapes = {self.names[id(p)]: p for p in self._captured if id(p) in self.names}
        gradients |= {n: np.zeros(shapes[n].shape) for n in self.reasons if n in shapes}
        return Look(
            NetworkTrace(tuple(layers), float(value), rows, step), np.asarray(prediction), gradients, self.reasons
        )

    def _traced(self, layer: _Layer, a: Any, z: Any, delta: Any, weight: Any, bias: Any, slope: Any) -> LayerTrace:
        kind = next((k for n, k in self.kinds.items() if n.rpartition(".")[0] == layer.name), "")
        function = None if layer.function is None else layer.function.primitive.name
        if a.ndim == 4 and weight.ndim == 4:  # images: channels last, one row of positions a sample
            z, delta = (np.moveaxis(v, 1, -1).reshape(len(v), -1, v.shape[1]) for v in (z, delta))
            slope = None if slope is None else np.moveaxis(slope, 1, -1).reshape(len(slope), -1, slope.shape[1])
        elif a.ndim > 3:
            a, z, delta = (v.reshape(len(v), -1, v.shape[-1]) for v in (a, z, delta))
        return LayerTrace(layer.name, kind, a, z, delta, weight, bias, function, slope)


def _cotangents(value: Tensor, wrt: Sequence[Tensor]) -> list[Tensor | None]:
    """As `vjp` of a scalar, also where one entry of ``wrt`` is made from another: between two layers."""
    at: dict[Any, Tensor] = {value.key: ones_cotangent(value)}
    for node in reversed(_nodes(value)):
        dys = [at.get((node, i)) for i in range(len(node.specs))]
        if node.primitive.draw is None or all(dy is None for dy in dys):
            continue
        for x, dx in zip(node.inputs, pull_back(node, dys), strict=True):
            if dx is not None:
                at[x.key] = at[x.key] + dx if x.key in at else dx
    return [at.get(x.key) for x in wrt]


def _nodes(value: Tensor) -> list[Node]:
    return Graph((), (value,)).nodes() if value.node is not None else []


def _function(z: Tensor, readers: dict[Any, list[Node]]) -> Node | None:
    """The elementwise function that reads a layer's output, through what only rescales or moves it."""
    at = z
    for _ in range(4):
        for node in readers.get(at.key, []):
            if node.primitive.name in ELEMENTWISE:
                return node
        onward = [n for n in readers.get(at.key, []) if n.primitive.name in PASSED_OVER]
        if not onward:
            return None
        at = onward[0].output(0)
    return None


def _slope(function: Node | None) -> Tensor | None:
    """Derivative of an elementwise function at its input: its pullback of ones."""
    if function is None:
        return None
    output = function.output(0)
    ones = Tensor(output.spec, np.ones(output.shape, output.dtype), constant=True)
    return vjp([output], [ones], [function.inputs[0]])[0]


def _behind(nodes: list[Node], prediction: Tensor) -> Iterator[Node]:
    """The nodes that depend on the prediction."""
    after = {prediction.key}
    for node in nodes:
        if any(x.key in after for x in node.inputs):
            after |= {node.output(i).key for i in range(len(node.specs))}
            yield node


def _written_cross_entropy(nodes: list[Node], prediction: Tensor) -> str | None:
    """The cross-entropy that is written out with logarithms, by what stands between them and the network's outputs.

    Only logarithms that are multiplied by something else than the prediction, or picked from: Σ t log q.
    """
    after, logs, joined, count = {prediction.key}, set(), False, 0
    functions: set[str] = set()
    divided = False
    for node in nodes:
        reads = [x.key in after for x in node.inputs]
        if not any(reads):
            continue
        after |= {node.output(i).key for i in range(len(node.specs))}
        name = node.primitive.name
        if name in ("log", "log1p"):
            count += 1
            logs.add(node.output(0).key)
        elif any(x.key in logs for x in node.inputs):
            joined |= name in ("take_along_axis", "gather") or (name == "multiply" and not all(reads))
            logs |= {node.output(i).key for i in range(len(node.specs))}
        elif not count:
            functions.add(name)
            divided |= name == "divide" and all(reads)
    if not joined:
        return None
    if "softmax" in functions:
        return "cross_entropy"
    if "sigmoid" in functions:
        return "binary_cross_entropy_with_logits"
    if count > 1:
        return "binary_cross_entropy"
    return "share_cross_entropy" if divided else "probability_cross_entropy"


def _last_function(prediction: Tensor) -> str | None:
    node = prediction.node
    while node is not None and node.primitive.name in ("identity", "reshape"):
        node = node.inputs[0].node
    return node.primitive.name if node is not None and node.primitive.name in HEADS else None
