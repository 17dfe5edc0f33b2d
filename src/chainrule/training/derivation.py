"""The derivation of a run: its network, loss, optimizer and settings, where training stands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.errors import ArgumentError
from chainrule.graph import Graph, Tensor, holding, trace
from chainrule.nn import Module
from chainrule.ops import LOSSES, key
from chainrule.optim import Clip, Optimizer, from_description
from chainrule.record import RunDirectory
from chainrule.see.derivation import Derivation
from chainrule.see.derivation.derive import derived
from chainrule.see.derivation.update import Update
from chainrule.see.gradients import rows_of, truth_of
from chainrule.spec import INT64, UINT32, TensorSpec
from chainrule.training.head import LOSS_CLASSES, Loss

if TYPE_CHECKING:
    from chainrule.training.run import Run


def derivation_of(run: Run, x: Any = None, y: Any = None, loss: Loss | None = None) -> Derivation:
    """The next update of a run as a derivation. Without rows it is made from shapes, and its lines have no values."""
    if (x is None) != (y is None):
        raise ArgumentError("derivation takes inputs and targets together: pass both x and y, or neither")
    function = loss or loss_of(run)
    config = run.config
    with in_training(run.net):
        rows: np.ndarray | TensorSpec
        truth: np.ndarray | TensorSpec
        rows, truth = shapes_of(run) if x is None else (rows_of(run.net, x), truth_of(y))
        return derived(
            run.net,
            function,
            rows,
            truth,
            _update(run),
            penalties=(config.l1, config.l2),
            random_key=key(config.seed, run.step + 1),
        )


def loss_of(run: Run) -> Loss:
    """The loss that the run was trained with; ArgumentError if it was a function of the user's own."""
    choice = run.config.loss
    if choice.arguments:
        made = next((cls for cls, name in LOSS_CLASSES.items() if name == choice.name), None)
        if made is not None:
            found: Loss = made(**choice.arguments)
            return found
    if choice.name not in LOSSES:
        raise ArgumentError(f"the run was trained with a loss of your own, {choice.name!r}: pass it as loss=")
    return LOSSES[choice.name]


def _update(run: Run) -> Update:
    """What the next update does. A run without checkpoints has no memory, so its optimizer starts afresh."""
    config = run.config
    optimizer: Optimizer = from_description({"name": config.optimizer.name, "arguments": config.optimizer.arguments})
    rates = run.history.get("learning_rate") or [optimizer.lr]
    memory, step = None, 1
    if run.path is not None and run.step:
        with RunDirectory.open(run.path) as directory:
            arrays = directory.load(run.step).arrays
        memory, step = _memory(arrays, optimizer), run.step + 1
    return Update(optimizer, step, rates[-1], Clip(config.clip_norm, config.clip_value), memory)


def _memory(arrays: dict[str, np.ndarray], optimizer: Optimizer) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for slot in optimizer.slots:
        start = f"optimizer.{slot}."
        found[slot] = {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
    return found


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


@contextmanager
def in_training(net: Module) -> Iterator[None]:
    """The network in the mode that it is trained in, for the duration of a block."""
    before = [(module, module.training) for module in net.modules()]
    net.train()
    try:
        yield
    finally:
        for module, training in before:
            module.train(training)
