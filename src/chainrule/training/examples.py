"""A few predictions beside their truth, the worst first, as people read them."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import numpy as np

from chainrule.data import Target
from chainrule.graph import constant
from chainrule.ops import LOSSES
from chainrule.training.head import Loss

MOST_ROWS = 1000
"""Examples are chosen among this many rows: looking at each costs time, and three are shown."""


@dataclass(frozen=True)
class Example:
    """One row: what was predicted, what is true, and the loss between them."""

    row: int
    prediction: str
    truth: str
    loss: float

    def __str__(self) -> str:
        return f"row {self.row}: predicted {self.prediction}, truth {self.truth}, loss {self.loss:.3g}"


def chosen_examples(
    prediction: np.ndarray, truth: np.ndarray, loss: Loss, loss_name: str, target: Target
) -> list[Example]:
    """The rows with the largest, the middle and the smallest loss."""
    losses = losses_of_rows(prediction[:MOST_ROWS], truth[:MOST_ROWS], loss)
    order = np.argsort(-losses, kind="stable")
    rows = dict.fromkeys(int(order[place]) for place in (0, len(order) // 2, -1))
    return [
        Example(i, _predicted(prediction[i], loss_name, target), _true(truth[i], target), float(losses[i]))
        for i in rows
    ]


def losses_of_rows(prediction: np.ndarray, truth: np.ndarray, loss: Loss) -> np.ndarray:
    """The loss of each row, float64 [rows]."""
    if loss in LOSSES.values():
        each = loss(constant(prediction), constant(truth), reduction="none")  # type: ignore[call-arg]
    elif is_dataclass(loss) and hasattr(loss, "reduction"):
        each = replace(loss, reduction="none")(constant(prediction), constant(truth))
    else:
        rows = range(len(prediction))
        return np.array(
            [loss(constant(prediction[i : i + 1]), constant(truth[i : i + 1])).item() for i in rows], np.float64
        )
    return each.numpy().astype(np.float64).reshape(len(prediction), -1).mean(axis=1)


def _predicted(outputs: np.ndarray, loss: str, target: Target) -> str:
    names = target.classes
    if len(names) == 2 and outputs.size == 1 and loss.startswith("binary"):
        z = float(outputs.reshape(()))
        share = z if loss == "binary_cross_entropy" else 1 / (1 + np.exp(-z))
        return f"{names[int(share > 0.5)]} ({100 * max(share, 1 - share):.0f} %)"
    if names and outputs.size == len(names) > 1:
        best = names[int(outputs.argmax())]
        if loss != "cross_entropy":
            return best
        share = np.exp(outputs.astype(np.float64) - outputs.max())
        return f"{best} ({100 * share.max() / share.sum():.0f} %)"
    return _numbers(outputs, target)


def _true(truth: Any, target: Target) -> str:
    array = np.asarray(truth)
    if target.task == "classification" and array.size == 1:
        # Binary losses take the class as a float.
        index = int(array.reshape(()))
        return target.classes[index] if 0 <= index < len(target.classes) else str(index)
    return _numbers(array, target)


def _numbers(array: np.ndarray, target: Target) -> str:
    values = target.invert(array.reshape(1, *array.shape))[0].reshape(-1)
    return ", ".join(f"{v:.4g}" for v in values[:8]) + (", …" if values.size > 8 else "")
