"""Prescribe: a plan with remedies applied, and the lines to change; which remedies only a person can carry out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chainrule.doctor.rule import Remedy
from chainrule.doctor.treat import course, network, output, rows
from chainrule.doctor.treat.change import Change
from chainrule.doctor.treat.plan import Plan
from chainrule.errors import ArgumentError

Transformation = Callable[..., tuple[Plan, Change]]

TRANSFORMATIONS: dict[str, Transformation] = {
    "batch-size": course.batch_size,
    "change-activation": network.change_activation,
    "change-initialiser": network.change_initialiser,
    "change-loss": output.change_loss,
    "change-optimizer": course.change_optimizer,
    "change-output": output.change_output,
    "check-sign": course.check_sign,
    "clean-rows": rows.clean_rows,
    "clip": course.clip,
    "decay": course.decay,
    "drop-columns": rows.drop_columns,
    "early-stopping": course.early_stopping,
    "epsilon": course.epsilon,
    "fix-pairing": output.fix_pairing,
    "insert-normalisation": network.insert_normalisation,
    "momentum": course.momentum,
    "redraw": course.redraw,
    "replace-normalisation": network.replace_normalisation,
    "reshape-targets": rows.reshape_targets,
    "residual": network.residual,
    "restore-sign": course.restore_sign,
    "scale-learning-rate": course.scale_learning_rate,
    "scale-targets": rows.scale_targets,
    "schedule": course.schedule,
    "shuffle": course.shuffle,
    "standardise-inputs": rows.standardise_inputs,
    "standardise-targets": rows.standardise_targets,
    "train-longer": course.train_longer,
    "unfreeze": network.unfreeze,
    "warm-up": course.warm_up,
    "weight-classes": output.weight_classes,
    "whiten-inputs": rows.whiten_inputs,
    "widen-layer": network.widen_layer,
}
"""By the id of a Remedy; its parameters are the keywords."""

BY_HAND: dict[str, str] = {
    "check-labels": "only you know what the labels mean",
    "give-parameters": "the optimizer is made in your code",
    "loss-scaling": "the scaler is part of your loop",
    "more-data": "more rows must come from you",
    "next-batch": "the loop over batches is yours",
    "order-of-calls": "the loop is yours",
    "reconnect": "forward() is your code",
    "schedule-order": "the loop that steps the schedule is yours",
    "train-mode": "the loop that sets the mode is yours",
    "zero-gradients": "the loop that clears gradients is yours",
}
"""Remedies that no replay can apply, with the reason."""

SAME_STEP = ("scale-learning-rate", "warm-up", "schedule", "train-longer", "redraw", "shuffle", "early-stopping",
             "standardise-inputs", "whiten-inputs", "standardise-targets", "scale-targets")  # fmt: skip
"""Remedies after which a compiled step serves as it is: rates, seeds and rows are given to it."""

LATE = ("clip", "decay", "epsilon", "momentum", "scale-learning-rate", "schedule")
"""Remedies of the course of training, that may begin at any checkpoint: the same parameters and moments go on."""


def prescribe(plan: Plan, remedies: Sequence[Remedy]) -> tuple[Plan, tuple[Change, ...]]:
    """The plan with the remedies applied one after another. NotApplicable: one of them changes nothing here."""
    changes = []
    for remedy in remedies:
        if remedy.id not in TRANSFORMATIONS:
            raise ArgumentError(f"no transformation is called {remedy.id!r}; there are {', '.join(TRANSFORMATIONS)}")
        plan, change = TRANSFORMATIONS[remedy.id](plan, **dict(remedy.parameters))
        changes.append(change)
    return plan, tuple(changes)


def key_of(remedies: Sequence[Remedy]) -> tuple[Any, ...]:
    """Equal for equal remedies, whatever their words."""
    return tuple((r.id, tuple(sorted((k, repr(v)) for k, v in r.parameters.items()))) for r in remedies)
