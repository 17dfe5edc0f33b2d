"""Looking at a run: a step of it traced anew from the rows it kept, at the weights of now or of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.errors import ArgumentError, CheckpointError
from chainrule.optim import Optimizer, from_description
from chainrule.record import RunConfig, RunDirectory
from chainrule.record.trace import NetworkTrace
from chainrule.see.pinned import pinned
from chainrule.see.update import Stepping
from chainrule.training.head import LOSS_CLASSES, Loss, loss_named

if TYPE_CHECKING:
    from chainrule.nn import Module

Batch = tuple[np.ndarray, np.ndarray]
Moments = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Kept:
    """What a run keeps so that its steps can be looked at: rows of the first batches, the loss, the optimizer's state.

    Without a loss or optimizer of its own it is taken from the configuration.
    """

    batches: tuple[Batch, ...] = ()
    loss: Loss | None = None
    optimizer: Optimizer | None = None
    moments: Moments | None = None
    learning_rate: float | None = None
    states: Mapping[str, np.ndarray] | None = field(default=None, repr=False)
    """Weights and buffers of an earlier step; None: those that the network has."""
    step: int = 0


def save_kept(directory: RunDirectory, batches: tuple[Batch, ...]) -> None:
    """Write the rows of the kept batches into a run's directory."""
    arrays = {f"{i}.{name}": a for i, batch in enumerate(batches) for name, a in zip("xy", batch, strict=True)}
    directory.save_rows(arrays)


def load_kept(directory: RunDirectory, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], step: int) -> Kept:
    """What a checkpoint and the rows beside it let one look at."""
    rows = directory.rows()
    batches = tuple((rows[f"{i}.x"], rows[f"{i}.y"]) for i in range(len(rows) // 2))
    moments: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        if name.startswith("optimizer."):
            _, slot, parameter = name.split(".", 2)
            moments.setdefault(slot, {})[parameter] = array
    states = {n.removeprefix("net."): a for n, a in arrays.items() if n.startswith("net.")}
    return Kept(batches, None, None, moments, header.get("learning_rate"), states, step)


def kept_at(kept: Kept | None, path: Path | None, present: int, step: int | None) -> Kept:
    """What there is to look at after ``step`` updates: the run itself, or one of its checkpoints."""
    if step is None or (step == present and kept is not None):
        if kept is None or not kept.batches:
            raise ArgumentError("the run kept no rows to look at (keep_rows=0): fit with keep_rows=1, or use "
                                "cr.explain(run.net, loss, x, y)")  # fmt: skip
        return kept
    if path is None:
        raise CheckpointError(f"the run has no directory, so it has no checkpoints: it can be looked at at step {present}, "
                              "where it is; fit with run_dir= to keep earlier ones")  # fmt: skip
    with RunDirectory.open(path) as directory:
        found = directory.load(step)
        then = load_kept(directory, found.header, found.arrays, found.step)
    return kept_at(then, path, step, None)


def traced(net: Module, config: RunConfig, kept: Kept) -> NetworkTrace:
    """The next step of the run on its first kept batch, in training mode, as ``fit`` would make it."""
    x, y = kept.batches[0]
    loss = _loss_of(config) if kept.loss is None else kept.loss
    modes = [(m, m.training) for m in net.modules()]
    net.train()
    try:
        return pinned(net, loss, x, y, None, seed=config.seed, step=kept.step, decay=(config.l1, config.l2),
                      states=kept.states)  # fmt: skip
    finally:
        for module, mode in modes:
            module.training = mode


def stepping(config: RunConfig, kept: Kept) -> Stepping | None:
    """The optimizer as it stands before the next update; None for a class that no configuration can hold."""
    optimizer = kept.optimizer
    if optimizer is None:
        try:
            optimizer = from_description({"name": config.optimizer.name, "arguments": config.optimizer.arguments})  # type: ignore[assignment]
        except ArgumentError:
            return None
    return Stepping(optimizer, kept.moments, kept.learning_rate, config.clip_norm, config.clip_value, kept.step)


def _loss_of(config: RunConfig) -> Loss:
    name, arguments = config.loss.name, config.loss.arguments
    if arguments:
        return next(made for made, known in LOSS_CLASSES.items() if known == name)(**arguments)
    try:
        return loss_named(name)[1]
    except ArgumentError as error:
        raise ArgumentError(f"the run was trained with a loss of your own, {name!r}, which a run directory cannot hold: "
                            "use cr.explain(run.net, loss, x, y)") from error  # fmt: skip
