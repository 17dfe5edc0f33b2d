"""Diagnose a network before training: what graph and data prove, what re-drawn first weights predict, short trials."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import replace
from typing import Any

import numpy as np

from chainrule.doctor.report import Report
from chainrule.doctor.settings import Settings, settings_from
from chainrule.doctor.treat.subject import subject_of_task
from chainrule.doctor.trial.facts import head_facts, layer_facts
from chainrule.doctor.trial.observe import Observer
from chainrule.doctor.trial.practice import Loss, Task, Trials, curvatures, practitioners_checks, redraws
from chainrule.doctor.verdict import judge
from chainrule.errors import ArgumentError, ChainruleError
from chainrule.nn import Module
from chainrule.optim import Adam, Optimizer, describe
from chainrule.record import NETWORK, Facts, Quantity, RunRecord, measurements_of
from chainrule.record.facts import NotFinite, TargetFacts, TrainingFacts, TrialFacts
from chainrule.record.measure_rows import data_facts, sampled
from chainrule.training.head import loss_named
from chainrule.training.options import checked_options
from chainrule.training.source import source_of

ROWS = 64
"""Rows of the batch from which faults are predicted."""

CURVED = 32
"""Rows from which the largest curvature is taken."""

CURVED_ITERATIONS = 4
"""Steps of Lanczos' iteration: the largest eigenvalue is the first to be found."""


def diagnose(
    net: Module,
    data: Any,
    *,
    loss: str | Loss,
    optimizer: Optimizer | None = None,
    batch_size: int = 32,
    epochs: int | None = None,
    target: str | int | None = None,
    shuffle: bool = True,
    clip_norm: float | None = None,
    l2: float = 0.0,
    seed: int = 0,
    budget: float = 1.0,
    settings: Settings | None = None,
) -> Report:
    """Examine a network before any long run; it is left as it was.

    data, loss, optimizer, batch_size, epochs, target, shuffle, clip_norm, l2, seed: as `cr.fit` takes them.
    budget: seconds for trials: a sweep of learning rates over 100 steps each, one batch learned by heart, inputs
            zeroed, labels shuffled, and first weights drawn anew.

    ArgumentError, DataError or ShapeError where data, network and loss do not fit together at all.
    """
    if not isinstance(net, Module):
        raise ArgumentError(f"diagnose takes a chainrule.nn.Module first, got {type(net).__name__}")
    if not any(True for _ in net.parameters()):
        raise ArgumentError(
            f"diagnose: this {type(net).__name__} has no parameters, so there is nothing to learn or to judge"
        )
    began = time.perf_counter()
    name, function = loss_named(loss)
    source = source_of(data, None, target, "error", (name, function), net, seed, 1)
    x, y = source.sample()
    options = checked_options(clip_norm, None, 0.0, l2)
    net = copy.deepcopy(net).train().initialise(seed)
    task = Task(net, function, x, y, optimizer or Adam(), batch_size, options, seed)
    training = _training(task, epochs, shuffle)
    settings = settings_from() if settings is None else settings
    record = _record(task, training, name, budget - (time.perf_counter() - began))
    report = judge(record, settings, f"{type(net).__name__} before training, {name}")
    formula = name if record.facts.head is None else record.facts.head.loss
    return replace(report, treatment=subject_of_task(task, formula, training, settings).treat)


def _training(task: Task, epochs: int | None, shuffle: bool) -> TrainingFacts:
    described = describe(task.optimizer)
    steps = None if epochs is None else epochs * math.ceil(len(task.x) / task.batch_size)
    return TrainingFacts(
        optimizer=described["name"], arguments=described["arguments"], batch_size=task.batch_size, epochs=epochs,
        planned_steps=steps, shuffle=shuffle, clip_norm=task.options.clip.norm, l2=task.options.l2,
        dtype=task.net.dtype.name, seed=task.seed,
    )  # fmt: skip


def _record(task: Task, training: TrainingFacts, loss: str, budget: float) -> RunRecord:
    chosen = sampled(len(task.x), ROWS)
    x, y = np.ascontiguousarray(task.x[chosen]), np.ascontiguousarray(task.y[chosen])
    observer = Observer(task.net, task.loss, x, y)
    weights = observer.weights()
    with np.errstate(all="ignore"):
        look = observer.look(x, y, weights)
    loss = observer.loss or loss
    data = data_facts(task.x, task.y, loss)
    target = data.target
    facts = Facts(
        data=data,
        training=training,
        layers=layer_facts(task.net, observer, look, observer.named(weights)),
        head=head_facts(loss, observer, look, target) if target else None,
    )
    measured = measurements_of(look.trace)
    if not math.isfinite(look.trace.loss):
        bad = next((m.layer for m in measured if m.quantity == Quantity.NOT_FINITE and m.value), NETWORK)
        return RunRecord(facts=replace(facts, not_finite=NotFinite(step=0, layer=bad))).with_measurements(measured)
    trials = TrialFacts(
        rows=len(task.x), initial_loss=look.trace.loss, expected_loss=target.baseline if target else None
    )
    if observer.trainable and budget > 0:
        began = time.perf_counter()
        trials = _trials(task, target, look.trace.loss, budget)
        trials = redraws(observer, x, y, trials, 0.25 * budget)
        left = budget - (time.perf_counter() - began)
        bent = curvatures(task, x[:CURVED], y[:CURVED], CURVED_ITERATIONS) if left > 0.1 * budget else None
        if bent is not None and bent.highest > 0:
            trials = replace(trials, lr_ceiling=2 / bent.highest)
    return RunRecord(facts=replace(facts, trials=trials)).with_measurements(measured)


def _trials(task: Task, target: TargetFacts | None, initial: float, budget: float) -> TrialFacts:
    """The practitioner's checks; where the step itself is refused, what was known before them."""
    expected = target.baseline if target else None
    try:
        return practitioners_checks(Trials(task), initial, expected, 0.6 * budget)
    except ChainruleError:
        return TrialFacts(rows=len(task.x), initial_loss=initial, expected_loss=expected)
