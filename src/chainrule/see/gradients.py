"""Loss and gradients of a network as plain arrays, under the names of its state_dict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from chainrule.errors import ArgumentError, ShapeError
from chainrule.graph import (
    Graph,
    Tensor,
    as_array,
    context,
    evaluator,
    holding,
    no_grad,
    ones_cotangent,
    reason,
    trace,
    vjp,
)
from chainrule.graph.trace import Trace
from chainrule.nn import BatchNorm1d, Module
from chainrule.ops import LOSSES, key
from chainrule.spec import TensorSpec


class Gradients(dict[str, np.ndarray]):
    """Arrays by name, and for each that is zero because nothing reaches it the reason why."""

    def __init__(self, arrays: dict[str, np.ndarray], reasons: dict[str, str]) -> None:
        super().__init__(arrays)
        self.reasons = reasons


def gradients(
    net: Module,
    loss: str | Callable[..., Tensor],
    x: Any,
    y: Any,
    wrt: str = "parameters",
    per_sample: bool = False,
) -> tuple[float, Gradients]:
    """(loss, {name: its gradient}) of ``loss(net(x), y)``, in the mode that the network is in.

    wrt:        "parameters": every trainable parameter under its ``state_dict`` name; "inputs": also ``x``.
    per_sample: each array gets a leading axis of rows, whose entries add up to the gradient: what each sample
                contributes to it. The loss must be a mean over rows, and no layer may mix rows.

    A parameter that the loss does not depend on gets zeros, and ``reasons`` of the result says why.
    """
    function = LOSSES.get(loss) if isinstance(loss, str) else loss
    if function is None:
        raise ArgumentError(
            f"no loss is called {loss!r}: use {', '.join(LOSSES)}, or a function of (prediction, target)"
        )
    if wrt not in ("parameters", "inputs"):
        raise ArgumentError(f"wrt is 'parameters' or 'inputs', got {wrt!r}")
    inputs, targets = _rows(net, x), _truth(y)
    if not per_sample:
        return _gradients(net, function, inputs, targets, wrt)
    if inputs.shape[:1] != targets.shape[:1]:
        raise ShapeError(f"per_sample needs as many targets as rows, got {inputs.shape} and {targets.shape}")
    mixing = [n for n, m in net.named_modules() if isinstance(m, BatchNorm1d) and m.training]
    if mixing:
        raise ArgumentError(f"layer {mixing[0]!r} mixes the rows of a batch, so no sample has a part of its own: call "
                            "net.eval() first")  # fmt: skip
    rows = [_gradients(net, function, inputs[i : i + 1], targets[i : i + 1], wrt) for i in range(len(inputs))]
    n = max(len(rows), 1)
    stacked = {k: np.stack([g[k] for _, g in rows]) / n for k in rows[0][1]} if rows else {}
    return sum(v for v, _ in rows) / n, Gradients(stacked, rows[0][1].reasons if rows else {})


def _rows(net: Module, x: Any) -> np.ndarray:
    array = x.value("gradients()") if isinstance(x, Tensor) else as_array(x)
    return array.astype(net.dtype, copy=False) if array.dtype.kind == "f" else array


def _truth(y: Any) -> np.ndarray:
    return y.value("gradients()") if isinstance(y, Tensor) else as_array(y)


def _gradients(
    net: Module, loss: Callable[..., Tensor], x: np.ndarray, y: np.ndarray, wrt: str
) -> tuple[float, Gradients]:
    names = {id(p): n for n, p in net.named_parameters()}
    trainable = [p for p in net.parameters() if p.requires_grad]
    found: list[Any] = []

    def passes(x: Tensor, y: Tensor) -> list[Tensor]:
        value = loss(net(x), y)
        sources = [cast(Trace, context.trace).seen(p) for p in trainable] + ([x] if wrt == "inputs" else [])
        labels = [names[id(p)] for p in trainable] + (["x"] if wrt == "inputs" else [])
        pulled = vjp([value], [ones_cotangent(value)], sources)
        found.extend((n, None if g is not None else reason([value], s))
                     for n, s, g in zip(labels, sources, pulled, strict=True))  # fmt: skip
        return [value, *(g for g in pulled if g is not None)]

    with holding(key=key(0)):
        traced = trace(passes, TensorSpec(x.shape, x.dtype), TensorSpec(y.shape, y.dtype), names=("x", "y"))
    graph = Graph(traced.graph.inputs, traced.graph.outputs[: len(traced.graph.outputs) - len(traced.targets)])
    value, *arrays = evaluator(graph)(x, y, *(p.value("gradients()") for p in traced.captured))
    shapes = {names[id(p)]: p for p in trainable} | {"x": x}
    each = iter(arrays)
    gradients = {n: np.zeros(shapes[n].shape, shapes[n].dtype) if why else np.asarray(next(each)) for n, why in found}
    return float(value), Gradients(gradients, {n: why for n, why in found if why})


def activations(net: Module, x: Any) -> dict[str, np.ndarray]:
    """What each layer gives for ``x``, by the layer's name, in the mode that the network is in.

    Layers that hold other layers are left out; one that is used twice is listed at its last use.
    """
    found: dict[str, np.ndarray] = {}
    leaves = {id(m): n for n, m in net.named_modules() if not list(m.children())}

    def keep(module: Module, output: Any) -> None:
        if id(module) in leaves and isinstance(output, Tensor):
            found[leaves[id(module)]] = output.value("activations()").copy()

    with holding(observer=keep), no_grad():
        net(x)
    return {name: found[name] for name in leaves.values() if name in found}
