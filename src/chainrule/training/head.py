"""Whether the last layer, the loss and the targets fit each other: checked before the first step."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError, DataError, ShapeError
from chainrule.graph import Graph, Tensor, shown
from chainrule.nn import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    Module,
    MSELoss,
)
from chainrule.ops import LOSSES

Loss = Callable[[Any, Any], Tensor]

_NAMES: dict[type, str] = {
    MSELoss: "mse", L1Loss: "mae", HuberLoss: "huber", CrossEntropyLoss: "cross_entropy", BCELoss: "binary_cross_entropy",
    BCEWithLogitsLoss: "binary_cross_entropy_with_logits",
}  # fmt: skip


def loss_named(loss: str | Loss) -> tuple[str, Loss]:
    """(name, function) of a loss given by name, as a function of (prediction, target), or as a loss object."""
    if callable(loss):
        named = next((n for n, f in LOSSES.items() if f is loss), None)
        return named or _NAMES.get(type(loss), getattr(loss, "__name__", type(loss).__name__)), loss
    if loss not in LOSSES:
        near = difflib.get_close_matches(str(loss), LOSSES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(f"no loss is called {loss!r}: use {', '.join(LOSSES)}, or a function of (prediction, target)"
                            f"{hint}")  # fmt: skip
    return loss, LOSSES[loss]


def task_of(loss: str, y: Any) -> str | None:
    """What kind of target a loss takes; None where only the values can tell."""
    if loss == "cross_entropy":
        array = np.asarray(y) if not hasattr(y, "columns") else np.zeros(1)
        soft = array.ndim > 1 and array.dtype.kind == "f" and array.shape[-1] > 1
        return "probabilities" if soft else "classification"
    if loss in ("mse", "mae", "huber"):
        return "regression"
    return None


def targets_for(loss: str, y: np.ndarray) -> np.ndarray:
    """Targets in the form that the loss takes: binary cross-entropy wants [rows, 1] floats."""
    if not loss.startswith("binary") or y.dtype.kind == "f":
        return y
    if y.size and y.max() > 1:
        raise DataError(f"{loss} is for two classes, the targets have {int(y.max()) + 1}: use loss='cross_entropy' with "
                        f"{int(y.max()) + 1} outputs")  # fmt: skip
    return y.astype(np.float32).reshape(len(y), 1)


def check_head(graph: Graph, loss: str, net: Module, classes: int) -> None:
    """Refuse what cannot learn or learns badly: softmax before cross_entropy, one class, too few outputs."""
    for node in graph.nodes():
        if node.primitive.name not in ("softmax_cross_entropy", "log_softmax") or node.origin is not None:
            continue
        if loss != "cross_entropy":
            continue
        z = node.inputs[0]
        before = z.node
        if before is not None and before.primitive.name == "softmax":
            raise ArgumentError(
                f"the network ends in softmax{_place(net, before)}, and cross_entropy contains it: the error would pass "
                f"through softmax twice and shrink. Delete the last line, nn.Softmax(), and keep loss='cross_entropy'"
            )
        if z.shape[-1] == 1:
            raise ShapeError(
                "cross_entropy over one output is always 0, so nothing would be learned: give the network one output a "
                "class, or use loss='binary_cross_entropy_with_logits'"
            )
        if classes > z.shape[-1]:
            raise ShapeError(f"the network has {z.shape[-1]} outputs, but the targets have {classes} classes: "
                             f"set out_features={classes} in the last layer")  # fmt: skip


def _place(net: Module, node: Any) -> str:
    line = shown(node.line)
    return f" (layer {node.scope!r})" if node.scope else f" ({line})" if line else ""


def check_probabilities(loss: str, prediction: np.ndarray) -> None:
    """Refuse binary_cross_entropy of outputs that are not probabilities."""
    if loss == "binary_cross_entropy" and prediction.size and (prediction.min() < 0 or prediction.max() > 1):
        raise ArgumentError(
            f"binary_cross_entropy takes probabilities, but the network's outputs range from {prediction.min():.3g} to "
            f"{prediction.max():.3g}: use loss='binary_cross_entropy_with_logits', or end the network in nn.Sigmoid()"
        )
