"""Loss and predictions of a network on held-out rows, in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from chainrule.compiler import CompiledFunction, compile
from chainrule.data.batches import batch_slices
from chainrule.graph import Tensor
from chainrule.nn import Module


class Evaluation:
    """Evaluates one network with one loss, compiled once for each batch size.

    The mean is over rows, so that it does not depend on the batch size (for losses that are means over rows).
    """

    def __init__(self, net: Module, loss: Callable[..., Tensor], backend: str) -> None:
        self.net = net

        def both(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            prediction = net(x)
            return loss(prediction, y), prediction

        self.both: CompiledFunction = compile(both, backend=backend)

    def __call__(self, x: np.ndarray, y: np.ndarray, batch_size: int) -> tuple[float, np.ndarray]:
        """(mean loss over the rows, predictions [rows, ...])."""
        total, parts = 0.0, []
        with self.net.evaluating():
            for rows in batch_slices(len(x), min(batch_size, len(x))):
                loss, prediction = self.both(x[rows], y[rows])
                total += loss.item() * len(x[rows])
                parts.append(prediction.value("evaluation"))
        return total / len(x), np.concatenate(parts)
