"""Networks from settings: the layers, optimizer and learning-rate schedule that the options name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

from chainrule.cli.settings import Settings
from chainrule.data import Dataset
from chainrule.errors import ArgumentError, DataError
from chainrule.nn import ACTIVATIONS, BatchNorm1d, Dropout, Linear, Module, Sequential
from chainrule.optim import (
    OPTIMIZERS,
    CosineAnnealingLR,
    ExponentialLR,
    LearningRateSchedule,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    Optimizer,
    ReduceLROnPlateau,
    StepLR,
)

LOSSES = {
    "cross_entropy": "classification",
    "binary_cross_entropy_with_logits": "classification",
    "mse": "regression",
    "mae": "regression",
    "huber": "regression",
}
"""The losses that fit a network without a last activation, and what each makes of the target."""

SCHEDULES = ("constant", "step", "multi-step", "exponential", "cosine", "warmup", "one-cycle", "plateau")


def chosen(option: str, word: str, known: Iterable[str]) -> str:
    """``word`` if it is known; else ArgumentError with the nearest known one."""
    known = list(known)
    if word in known:
        return word
    near = difflib.get_close_matches(word.lower(), known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ArgumentError(f"--{option} {word!r} is not known; there are {', '.join(known)}{hint}")


def task_named_by(loss: str) -> str | None:
    """What a loss makes of the target: classes or numbers; None leaves it to the target's values."""
    return None if chosen("loss", loss, ("auto", *LOSSES)) == "auto" else LOSSES[loss]


def loss_for(settings: Settings, rows: Dataset) -> str:
    """Cross-entropy for classes and the squared error for numbers, unless another loss was asked for."""
    loss = settings.loss
    if loss == "auto":
        loss = "mse" if rows.task == "regression" else "cross_entropy"
    if loss == "binary_cross_entropy_with_logits" and len(rows.classes) != 2:
        raise DataError(
            f"{loss} tells two classes apart, and the target has {len(rows.classes)}; use --loss cross_entropy"
        )
    return loss


def build_network(settings: Settings, rows: Dataset, loss: str) -> Sequential:
    """Linear, [BatchNorm1d], activation, [Dropout] for each hidden width, then one Linear to the outputs."""
    activation = ACTIVATIONS[chosen("activation", settings.activation, ACTIVATIONS)]
    layers: list[Module] = []
    width = math.prod(rows.input_shape)
    for following in settings.layers:
        layers.append(Linear(width, following))
        if settings.batch_norm:
            layers.append(BatchNorm1d(following))
        layers.append(activation())
        if settings.dropout:
            layers.append(Dropout(settings.dropout))
        width = following
    outputs = 1 if loss == "binary_cross_entropy_with_logits" else rows.outputs
    return Sequential(*layers, Linear(width, outputs))


def layer_widths(text: str) -> tuple[int, ...]:
    """``"128,64"`` as widths; ``"none"``: no hidden layer."""
    if text.strip().lower() in ("", "none"):
        return ()
    words = [word.strip() for word in text.split(",")]
    wrong = [word for word in words if not (word.isascii() and word.isdigit() and 0 < int(word[:12]) <= 10**6)]
    if wrong:
        raise ArgumentError(
            f"--layers {text!r}: {wrong[0]!r} is no width; give the hidden layers' widths as 128,64, or none"
        )
    return tuple(map(int, words))


def build_optimizer(settings: Settings) -> Optimizer:
    """The optimizer by name, with its own default learning rate unless one was given."""
    made: Any = OPTIMIZERS[chosen("optimizer", settings.optimizer, OPTIMIZERS)]
    return made() if settings.lr is None else made(lr=settings.lr)


def build_schedule(settings: Settings, lr: float, updates: int) -> LearningRateSchedule | None:
    """The learning-rate schedule by name, laid out over the epochs there are. updates: of one epoch."""
    epochs = settings.epochs
    match chosen("schedule", settings.schedule, SCHEDULES):
        case "step":
            return StepLR(step_size=max(1, math.ceil(epochs / 3)))
        case "multi-step":
            milestones = sorted({max(1, epochs // 2), max(1, 3 * epochs // 4)})
            return MultiStepLR(milestones=tuple(milestones))
        case "exponential":
            return ExponentialLR(gamma=0.01 ** (1 / epochs))  # a hundredth of the first rate at the end
        case "cosine":
            return CosineAnnealingLR(T_max=epochs)
        case "warmup":
            return LinearLR()
        case "one-cycle":
            return OneCycleLR(max_lr=lr, total_steps=epochs * updates)
        case "plateau":
            return ReduceLROnPlateau(patience=5)
    return None
