"""Whether the last layer, the loss and the targets fit each other: checked before the first step."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.data.checks import array_of
from chainrule.errors import ArgumentError, DataError, ShapeError
from chainrule.graph import Node, Tensor, shown
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

LOSS_CLASSES: dict[type, str] = {
    MSELoss: "mse",
    L1Loss: "mae",
    HuberLoss: "huber",
    CrossEntropyLoss: "cross_entropy",
    BCELoss: "binary_cross_entropy",
    BCEWithLogitsLoss: "binary_cross_entropy_with_logits",
}
"""The name of each loss that can be given as an object."""


def loss_named(loss: str | Loss) -> tuple[str, Loss]:
    """(name, function) of a loss given by name, as a function of (prediction, target), or as a loss object."""
    if isinstance(loss, type):
        raise ArgumentError(f"a loss is an object: write {loss.__name__}(), not the class {loss.__name__}")
    if getattr(loss, "reduction", "mean") == "none":
        raise ArgumentError("the loss has reduction='none', and training needs one number a batch: use 'mean'")
    if callable(loss):
        named = next((n for n, f in LOSSES.items() if f is loss), None)
        return named or LOSS_CLASSES.get(type(loss), getattr(loss, "__name__", type(loss).__name__)), loss
    if loss not in LOSSES:
        near = difflib.get_close_matches(str(loss), LOSSES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(
            f"no loss is called {loss!r}{hint}: use {', '.join(LOSSES)}, or a function of (prediction, target)"
        )
    return loss, LOSSES[loss]


def task_of(loss: str, y: Any, whole: bool = True) -> str | None:
    """What kind of target a loss takes; None where the values tell.

    y:     the targets, if they are an array; None: a column of a table, or batches to come.
    whole: whether all rows are there: batches of a stream tell by their own dtype.
    """
    if loss in ("mse", "mae", "huber"):
        return "regression"
    if loss not in ("cross_entropy",) and not loss.startswith("binary"):
        return None
    if y is None:
        return "classification" if whole else None
    array = array_of(y, "y")
    wide = array.ndim > 1 and array.shape[-1] > 1
    if loss == "cross_entropy":
        return "probabilities" if wide and array.dtype.kind == "f" else "classification"
    # Several yes-or-no answers a row, or shares between no and yes, are numbers.
    between = array.dtype.kind == "f" and bool((array != np.floor(array)).any())
    return "regression" if wide or between else "classification"


def targets_for(loss: str, y: np.ndarray) -> np.ndarray:
    """Targets in the form that the loss takes: binary cross-entropy wants [rows, outputs] floats from 0 to 1."""
    if not loss.startswith("binary_cross_entropy"):
        return y
    if y.dtype.kind != "f":
        if y.size and y.max() > 1:
            raise DataError(f"{loss} is for two classes, the targets have {int(y.max()) + 1}: use loss='cross_entropy' "
                            f"with {int(y.max()) + 1} outputs")  # fmt: skip
        y = y.astype(np.float32)
    outside = (y < 0) | (y > 1)
    if outside.any():
        row = int(np.argmax(outside.reshape(len(y), -1).any(axis=1)))
        raise DataError(f"{loss} takes targets from 0 to 1, and {int(outside.sum()):,} are outside (first: "
                        f"{y[outside][0]:g} in row {row}): use a regression loss, or rescale them")  # fmt: skip
    return y.reshape(len(y), -1)


def check_head(prediction: Tensor, loss: str, net: Module, classes: int) -> None:
    """Refuse what cannot learn or learns badly: softmax before cross_entropy, one class, too few outputs.

    prediction: what the network gave, in a trace. classes: of the targets; 0 where they are not known.
    """
    last = _last_node(prediction)
    if loss == "binary_cross_entropy_with_logits" and last is not None and last.primitive.name == "sigmoid":
        raise ArgumentError(
            f"the network ends in sigmoid{_place(net, last)}, and binary_cross_entropy_with_logits contains it: delete "
            f"the last line, nn.Sigmoid(), and keep the loss"
        )
    if loss != "cross_entropy":
        return
    if last is not None and last.primitive.name == "softmax":
        raise ArgumentError(
            f"the network ends in softmax{_place(net, last)}, and cross_entropy contains it: the error would pass "
            f"through softmax twice and shrink. Delete the last line, nn.Softmax(), and keep loss='cross_entropy'"
        )
    outputs = prediction.shape[-1] if prediction.ndim else 0
    if outputs == 1:
        raise ShapeError(
            "cross_entropy over one output is always 0, so nothing would be learned: give the network one output a "
            "class, or use loss='binary_cross_entropy_with_logits'"
        )
    if classes > outputs:
        raise ShapeError(f"the network has {outputs} outputs, but the targets have {classes} classes: "
                         f"set out_features={classes} in the last layer")  # fmt: skip


def _last_node(prediction: Tensor) -> Node | None:
    """The node that gave the prediction its values; those that only move values are passed over."""
    node = prediction.node
    while node is not None and node.primitive.name in ("identity", "reshape"):
        node = node.inputs[0].node
    return node


def _place(net: Module, node: Node) -> str:
    line = shown(node.line)
    return f" (layer {node.scope!r})" if node.scope else f" ({line})" if line else ""


def check_probabilities(prediction: np.ndarray) -> None:
    """Refuse outputs that are no probabilities, for binary_cross_entropy."""
    if prediction.size and (prediction.min() < 0 or prediction.max() > 1):
        raise ArgumentError(
            f"binary_cross_entropy takes probabilities, but the network's outputs range from {prediction.min():.3g} to "
            f"{prediction.max():.3g}: use loss='binary_cross_entropy_with_logits', or end the network in nn.Sigmoid()"
        )
