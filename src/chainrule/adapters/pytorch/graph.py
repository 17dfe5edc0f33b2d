"""Graph: what a PyTorch loss was made of, read from its autograd graph."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from chainrule.record.facts import Range

FUNCTIONS = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softmax": "softmax", "LogSoftmax": "log_softmax",
    "LeakyRelu": "leaky_relu", "Elu": "elu", "Gelu": "gelu", "Silu": "silu", "Softplus": "softplus",
    "LogSigmoid": "log_sigmoid", "Hardtanh": "hardtanh", "Mish": "mish", "Hardswish": "hardswish",
    "PreluKernel": "prelu", "Exp": "exp", "Hardsigmoid": "hard_sigmoid",
}  # fmt: skip
"""Activation functions by the name of their autograd node, without "Backward0"."""

RANGES: dict[str, Range] = {
    "sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, math.inf), "exp": (0.0, math.inf),
    "softplus": (0.0, math.inf), "log_softmax": (-math.inf, 0.0), "log_sigmoid": (-math.inf, 0.0),
    "hard_sigmoid": (0.0, 1.0),
}  # fmt: skip

SHAPES = {
    "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Transpose", "Permute", "T", "Clone",
    "ToCopy", "Alias", "Expand", "Contiguous", "Select", "Slice", "AsStrided", "Unbind",
    "Flatten", "Index", "MulDropout", "NativeDropout",
}  # fmt: skip
"""Nodes that only give values another shape, type or place (or drop some)."""

LOSSES = {
    "MseLoss": "mse", "HuberLoss": "huber", "SmoothL1Loss": "smooth_l1", "BinaryCrossEntropy": "binary_cross_entropy",
    "BinaryCrossEntropyWithLogits": "binary_cross_entropy_with_logits", "NllLoss": "nll", "NllLoss2D": "nll",
    "NllLossNd": "nll", "SoftMarginLoss": "soft_margin", "MultiMarginLoss": "multi_margin", "KlDiv": "kl_div",
}  # fmt: skip

NEAR = 60
"""Nodes between the loss and the network's output that are looked at; PyTorch's own losses have at most eight."""


@dataclass(frozen=True, eq=False)
class Seen:
    """The head as the graph shows it. saved: tensors that the loss node kept (prediction, target) or None."""

    loss: str
    activation: str | None
    chain: tuple[str, ...]
    prediction: Any = None
    """For a residual written out: the residual."""
    target: Any = None
    nodes: frozenset = frozenset()
    """Nodes that belong to the loss, not to the network."""


def plain(node: Any) -> str:
    """Name of a node without its suffix: "AddmmBackward0" is "Addmm"."""
    return type(node).__name__.partition("Backward")[0]


def inputs_of(node: Any) -> Iterable[Any]:
    """The nodes below, parameters left out."""
    return (below for below, _ in node.next_functions if below is not None and plain(below) != "AccumulateGrad")


def following(loss: Any, nodes: Iterable[Any], of_loss: frozenset = frozenset()) -> dict[Any, str]:
    """The activation function that takes each node's output, where that is its only use beside changes of shape."""
    wanted, users = set(nodes), _users(loss.grad_fn)
    found = {}
    for node in wanted:
        above = _past_shapes(node, users)
        name = FUNCTIONS.get(plain(above)) if above is not None and above not in of_loss else None
        if name is not None:
            found[node] = name
    return found


def feeders(node: Any, layers: frozenset) -> dict[Any, tuple[str, ...]]:
    """The layers whose outputs reach a node by no other layer, each with the functions between, from below."""
    found: dict[Any, tuple[str, ...]] = {}
    waiting: list[tuple[Any, tuple[str, ...]]] = [(below, ()) for below in inputs_of(node)]
    known = set()
    while waiting:
        at, through = waiting.pop()
        if at in layers:
            found.setdefault(at, through)
            continue
        if at in known:
            continue
        known.add(at)
        name = FUNCTIONS.get(plain(at), plain(at).lower())
        onward = through if plain(at) in SHAPES else (name, *through)
        waiting.extend((below, onward) for below in inputs_of(at))
    return found


def readers(loss: Any) -> dict[int, int]:
    """How many nodes read each parameter, by its id."""
    found: dict[int, int] = {}
    waiting, known = [loss.grad_fn], {loss.grad_fn}
    while waiting:
        for below, _ in waiting.pop().next_functions:
            if below is None:
                continue
            if hasattr(below, "variable"):
                found[id(below.variable)] = found.get(id(below.variable), 0) + 1
            elif below not in known:
                known.add(below)
                waiting.append(below)
    return found


def _users(root: Any) -> dict[Any, list[Any]]:
    users: dict[Any, list[Any]] = {root: []}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        for below in inputs_of(node):
            if below not in users:
                waiting.append(below)
            users.setdefault(below, []).append(node)
    return users


def _past_shapes(node: Any, users: dict[Any, list[Any]]) -> Any:
    above = users.get(node, [])
    while len(above) == 1 and plain(above[0]) in SHAPES:
        above = users.get(above[0], [])
    return above[0] if len(above) == 1 else None


def head(loss: Any, layers: Iterable[Any] = ()) -> Seen | None:
    """What stands between the network's last layer and the loss; None for a loss without a graph."""
    if loss.grad_fn is None:
        return None
    ends = set(layers)
    waiting, looked = [loss.grad_fn], 0
    chain: list[str] = []
    while waiting and looked < NEAR:
        node = waiting.pop(0)
        looked += 1
        if node in ends:
            break
        chain.append(plain(node))
        if plain(node) in LOSSES or plain(node) == "LogSoftmax" or _residual(node):
            return _read(node, tuple(chain))
        waiting.extend(inputs_of(node))
    return Seen("custom", None, tuple(chain))


def _residual(node: Any) -> bool:
    """Whether it is |p - y| or (p - y)^2, written out."""
    return plain(node) in ("Abs", "Pow", "Mul") and any(plain(b) in ("Sub", "Rsub") for b in inputs_of(node))


def _read(node: Any, chain: tuple[str, ...]) -> Seen:
    name = plain(node)
    saved, target = _saved(node, "self"), _saved(node, "target")
    if name == "LogSoftmax":  # targets are probabilities: -sum(y log softmax(z))
        return Seen("cross_entropy", _function(_only(node)), chain, None, None, frozenset({node}))
    if _residual(node):
        below = next(b for b in inputs_of(node) if plain(b) in ("Sub", "Rsub"))
        return Seen("mae" if name == "Abs" else "mse", _function(_only(below)), chain, saved)
    below = _only(node)
    joined = {"LogSoftmax": "cross_entropy", "Log": "probability_cross_entropy"}
    if LOSSES[name] == "nll" and below is not None and plain(below) in joined:
        return Seen(joined[plain(below)], _function(_only(below)), chain, None, target, frozenset({node, below}))
    return Seen(LOSSES[name], _function(below), chain, saved, target, frozenset({node}))


def _only(node: Any) -> Any:
    """The node below, past changes of shape."""
    below = next(iter(inputs_of(node)), None)
    while below is not None and plain(below) in SHAPES:
        below = next(iter(inputs_of(below)), None)
    return below


def _function(node: Any) -> str | None:
    return None if node is None else FUNCTIONS.get(plain(node))


def _saved(node: Any, name: str) -> Any:
    """A tensor that the node kept for its backward pass, if it has one of that name and was not used up."""
    try:
        found = getattr(node, f"_saved_{name}", None)
    except RuntimeError:
        return None
    return None if found is None or not hasattr(found, "detach") else found.detach()
