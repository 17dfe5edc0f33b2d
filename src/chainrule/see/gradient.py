"""Loss and gradients of a network as plain arrays, under the names of its state_dict."""

from __future__ import annotations

import difflib
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
from chainrule.nn import Module
from chainrule.nn.layers import BatchNorm
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

    wrt:        "parameters": every trainable parameter under its ``state_dict`` name; "inputs": also ``x``; "all": also
                the pre-activations and activations of every layer with parameters, "z1" and "a1", as a derivation
                names them, rows first.
    per_sample: each array gets a leading axis of rows, whose entries add up to the gradient: what each sample
                contributes to it (``x`` has that axis already). The loss must be a mean over rows, and no layer may
                mix rows.

    A parameter that the loss does not depend on gets zeros, and ``reasons`` of the result says why.
    """
    function = loss_function(loss)
    require_module(net, "gradients")
    if wrt not in ("parameters", "inputs", "all"):
        raise ArgumentError(f"wrt is 'parameters', 'inputs' or 'all', got {wrt!r}")
    if wrt == "all":
        return _all_gradients(net, function, x, y, per_sample)
    inputs, targets = rows_of(net, x), truth_of(y)
    if wrt == "inputs":
        inputs = inputs.astype(net.dtype, copy=False)  # only a number that can vary a little has a gradient
    if not per_sample:
        return _gradients(net, function, inputs, targets, wrt)
    if inputs.shape[:1] != targets.shape[:1]:
        raise ShapeError(f"per_sample needs as many targets as rows, got {inputs.shape} and {targets.shape}")
    mixing = [n for n, m in net.named_modules() if isinstance(m, BatchNorm) and m.training]
    if mixing:
        raise ArgumentError(f"layer {mixing[0]!r} mixes the rows of a batch, so no sample has a part of its own: call "
                            "net.eval() first")  # fmt: skip
    if len(inputs) == 0:
        raise ShapeError("per_sample needs rows, got none")
    rows = [_gradients(net, function, inputs[i : i + 1], targets[i : i + 1], wrt) for i in range(len(inputs))]
    n, mean = len(rows), sum(v for v, _ in rows) / len(rows)
    whole = _gradients(net, function, inputs, targets, wrt)[0]
    if abs(mean - whole) > TOLERANCE * max(abs(mean), abs(whole)):
        raise ArgumentError(
            f"the losses of the single rows average to {mean:.6g}, and the loss of the batch is {whole:.6g}: "
            "per_sample needs a loss that is a mean over rows, and layers that treat each row alone: call net.eval() "
            "for dropout"
        )
    return mean, Gradients(_by_row(rows, n, wrt), rows[0][1].reasons)


TOLERANCE = 1e-4
"""Relative; far above the rounding of float32, far below what another reduction or a random mask changes."""


def _all_gradients(
    net: Module, loss: Callable[..., Tensor], x: Any, y: Any, per_sample: bool
) -> tuple[float, Gradients]:
    """Gradients by everything that a derivation names."""
    value, found = gradients(
        net, loss, x, y, "inputs" if rows_of(net, x).dtype.kind == "f" else "parameters", per_sample
    )
    step = traced_step(net, loss, x, y, "gradients", None)
    for number, layer in zip(step.numbers, step.layers, strict=True):
        if f"z{number}" not in found:
            found[f"z{number}"] = layer.delta / step.rows
            found[f"a{number}"] = (layer.delta if layer.output_delta is None else layer.output_delta) / step.rows
    return value, found


def _by_row(rows: list[tuple[float, Gradients]], n: int, wrt: str) -> dict[str, np.ndarray]:
    """What each row contributes; a row of x has its own entry already, and the others contribute nothing to it."""
    stacked = {k: np.stack([g[k] for _, g in rows]) / n for k in rows[0][1] if k != "x"}
    return stacked | ({"x": np.concatenate([g["x"] for _, g in rows]) / n} if wrt == "inputs" else {})


def loss_function(loss: str | Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss given by name or as a function; ArgumentError for a name that no loss has."""
    if callable(loss):
        return loss
    if loss not in LOSSES:
        near = difflib.get_close_matches(str(loss), LOSSES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(
            f"no loss is called {loss!r}{hint}: use {', '.join(LOSSES)}, or a function of (prediction, target)"
        )
    return LOSSES[loss]


def require_module(net: Any, what: str) -> None:
    """ArgumentError unless ``net`` is a network; ``what`` is the function that was called."""
    if not isinstance(net, Module):
        raise ArgumentError(f"{what} takes a chainrule.nn.Module first, got {type(net).__name__}")


def rows_of(net: Module, x: Any) -> np.ndarray:
    """A batch of inputs as an array, floating numbers in the network's dtype."""
    array = x.value("gradients()") if isinstance(x, Tensor) else as_array(x)
    return array.astype(net.dtype, copy=False) if array.dtype.kind == "f" else array


def truth_of(y: Any) -> np.ndarray:
    """Targets as an array."""
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

    with holding(key=key(0, 1)):  # as in the first step with seed 0
        traced = trace(passes, TensorSpec(x.shape, x.dtype), TensorSpec(y.shape, y.dtype), names=("x", "y"))
    graph = Graph(traced.graph.inputs, traced.graph.outputs[: len(traced.graph.outputs) - len(traced.targets)])
    value, *arrays = evaluator(graph)(x, y, *(p.value("gradients()") for p in traced.captured))
    shapes = {names[id(p)]: p for p in trainable} | {"x": x}
    each = iter(arrays)
    gradients = {n: np.zeros(shapes[n].shape, shapes[n].dtype) if why else np.asarray(next(each)) for n, why in found}
    return float(value), Gradients(gradients, {n: why for n, why in found if why})


def traced_step(net: Any, loss: str | Callable[..., Tensor], x: Any, y: Any, what: str, backend: str | None) -> Any:
    """The pinned variant's trace of ``loss(net(x), y)``, of what people pass. what: the function that was called."""
    from chainrule.see.pinned import pinned

    require_module(net, what)
    inputs, targets = rows_of(net, x), truth_of(y)
    targets = targets.astype(net.dtype, copy=False) if targets.dtype.kind == "f" else targets
    if inputs.ndim == 0 or len(inputs) == 0:
        raise ShapeError(f"{what} needs rows, got x of shape {list(inputs.shape)}")
    return pinned(net, loss_function(loss), inputs, targets, backend)


def activations(net: Module, x: Any) -> dict[str, np.ndarray]:
    """What each layer gives for ``x``, by the layer's name, in the mode that the network is in.

    Layers that hold other layers are left out; one that is used twice is listed at its last use.
    """
    require_module(net, "activations")
    found: dict[str, np.ndarray] = {}
    leaves = {id(m): n for n, m in net.named_modules() if not list(m.children())}

    def keep(module: Module, output: Any) -> None:
        if id(module) in leaves and isinstance(output, Tensor):
            found[leaves[id(module)]] = output.value("activations()").copy()

    buffers = [(b, b.array.copy()) for b in net.buffers()]
    try:
        with holding(observer=keep), no_grad():
            net(x)
    finally:
        for buffer, before in buffers:  # looking moves no running statistics
            buffer.array[...] = before
    return {name: found[name] for name in leaves.values() if name in found}
