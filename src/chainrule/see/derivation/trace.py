"""The step of a derivation as a graph: forward pass, loss, and each application of a backward rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from chainrule.graph import Graph, Node, Tensor, context, holding, ones_cotangent, reason, trace, vjp
from chainrule.graph.trace import Trace
from chainrule.nn import Module
from chainrule.ops import add
from chainrule.optim import penalty
from chainrule.spec import UINT32, TensorSpec


@dataclass(frozen=True)
class TracedStep:
    """Forward and backward pass of one batch."""

    inputs: tuple[Tensor, ...]
    """x, y, the random key, then the network's parameters and buffers."""
    state: Mapping[Any, str]
    """Key of each placeholder that stands for a parameter or buffer -> its name in ``state_dict``."""
    captured: tuple[Tensor, ...]
    """The tensors that the inputs after the third stand for."""
    loss: Tensor
    sources: Mapping[str, Tensor]
    """What the loss is differentiated by: parameters by name, "x" if asked for."""
    gradients: Mapping[str, Tensor | None]
    reasons: Mapping[str, str]
    """Why a gradient is None."""
    pulled: tuple[tuple[Node, tuple, tuple], ...]
    """Each application of a backward rule, in order: node, cotangents of its outputs, those of its inputs."""


def trace_step(
    net: Module,
    loss: Callable[..., Tensor],
    x: TensorSpec,
    y: TensorSpec,
    inputs: bool,
    penalties: tuple[float, float] = (0.0, 0.0),
) -> TracedStep:
    """The step on batches of these shapes. penalties: l1 and l2 on the weights."""
    names = {id(p): n for n, p in net.named_parameters()} | {id(b): n for n, b in net.named_buffers()}
    trainable = {n: p for n, p in net.named_parameters() if p.requires_grad}
    found: dict[str, Any] = {}

    def step(x: Tensor, y: Tensor, key: Tensor) -> Tensor:
        seen = cast(Trace, context.trace).seen
        sources = {n: seen(p) for n, p in trainable.items()} | ({"x": x} if inputs else {})
        with holding(key=key):
            value = loss(net(x), y)
        extra = penalty({n: seen(p) for n, p in trainable.items()}, *penalties)
        value = value if extra is None else add(value, extra)
        passed: dict[Node, tuple[list[Tensor | None], tuple]] = {}
        gradients = vjp([value], [ones_cotangent(value)], list(sources.values()), passed)
        pulled = [(node, tuple(dys), dxs) for node, (dys, dxs) in passed.items()]
        found.update(loss=value, sources=sources, gradients=dict(zip(sources, gradients, strict=True)), pulled=pulled)
        return value

    traced = trace(step, x, y, TensorSpec((4,), UINT32), names=("x", "y", "key"))
    stand = traced.graph.inputs[3:]
    return TracedStep(
        traced.graph.inputs,
        {p.key: names.get(id(t), t.name) for p, t in zip(stand, traced.captured, strict=True)},
        traced.captured,
        found["loss"],
        found["sources"],
        found["gradients"],
        {n: reason([found["loss"]], found["sources"][n]) for n, g in found["gradients"].items() if g is None},
        tuple(found["pulled"]),
    )


def graph_of(step: TracedStep, outputs: list[Tensor]) -> Graph:
    """The graph from the step's inputs to some of its values."""
    return Graph(step.inputs, tuple(outputs))
