"""The derivation of a run: its network, loss, optimizer and settings, where training stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.errors import ArgumentError
from chainrule.graph import Graph, Tensor, holding, trace
from chainrule.nn import Module
from chainrule.ops import key
from chainrule.optim import Clip
from chainrule.see.derivation import Derivation
from chainrule.see.derivation.derive import derived
from chainrule.see.derivation.update import Update
from chainrule.see.gradient import rows_of, truth_of
from chainrule.spec import INT64, UINT32, TensorSpec
from chainrule.training.head import Loss
from chainrule.training.looking import Kept, in_training, loss_of, stepping

if TYPE_CHECKING:
    from chainrule.training.run import Run


def derivation_of(run: Run, x: Any = None, y: Any = None, loss: Loss | None = None) -> Derivation:
    """The next update of a run as a derivation, on the rows that it kept unless others are given.

    Without rows it is made from shapes, and its lines have no values.
    """
    if (x is None) != (y is None):
        raise ArgumentError("derivation takes inputs and targets together: pass both x and y, or neither")
    config, kept = run.config, run.kept or Kept()
    if x is None and kept.batches:
        x, y = kept.batches[0]
    function = loss or kept.loss or loss_of(config)
    with in_training(run.net):
        rows: np.ndarray | TensorSpec
        truth: np.ndarray | TensorSpec
        rows, truth = shapes_of(run) if x is None else (rows_of(run.net, x), truth_of(y))
        return derived(
            run.net,
            function,
            rows,
            truth,
            _update(run, kept),
            penalties=(config.l1, config.l2),
            random_key=key(config.seed, run.step + 1),
        )


def _update(run: Run, kept: Kept) -> Update | None:
    """What the next update does; None for an optimizer that no configuration can hold."""
    held = stepping(run.config, kept)
    if held is None:
        return None
    rate = held.optimizer.lr if held.learning_rate is None else held.learning_rate
    memory = None if not held.moments else {slot: dict(arrays) for slot, arrays in held.moments.items()}
    return Update(held.optimizer, run.step + 1, rate, Clip(held.clip_norm, held.clip_value), memory)


def shapes_of(run: Run) -> tuple[TensorSpec, TensorSpec]:
    """Shapes of a batch, as far as they follow from the network: a first layer with a matrix of weights."""
    first = next((p for p in run.net.parameters()), None)
    if first is None or first.ndim != 2:
        raise ArgumentError("the shape of the inputs does not follow from this network's first layer: pass a batch, "
                            "as run.derivation(x, y)")  # fmt: skip
    x = TensorSpec((run.config.batch_size, first.shape[1]), run.net.dtype)
    prediction = _prediction(run.net, x).outputs[0]
    indices = run.config.loss.name == "cross_entropy"
    return x, TensorSpec(prediction.shape[:-1], INT64) if indices else TensorSpec(prediction.shape, prediction.dtype)


def _prediction(net: Module, x: TensorSpec) -> Graph:
    def forward(x: Tensor, step_key: Tensor) -> Tensor:
        with holding(key=step_key):
            found: Tensor = net(x)
            return found

    return trace(forward, x, TensorSpec((4,), UINT32)).graph
