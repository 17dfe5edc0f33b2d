"""Diagnose: a PyTorch model before any long run, by one look, a short trial and the checks done by hand, on copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chainrule.adapters.pytorch.batches import KEPT_ROWS, Batch, copied
from chainrule.adapters.pytorch.trials import (
    Task,
    copy_of,
    optimizer_for,
    practitioners_checks,
    untouched,
)
from chainrule.adapters.pytorch.watch import Watch
from chainrule.errors import ArgumentError
from chainrule.record import RunRecord
from chainrule.record.run_record import EMPTY

if TYPE_CHECKING:
    from chainrule.doctor.report import Report
    from chainrule.doctor.trials import Trials

BUDGET = 6.0
"""Seconds for the checks that practitioners run by hand."""


def diagnose(model: Any, data: Any, loss: Any, optimizer: Any = None, budget: float = BUDGET) -> Report:
    """The doctor's Report on a torch.nn.Module before training; the model, its modes and all random states stay.

    data:      one batch ``(x, y)``, or an iterable of such batches, of which the first 2,048 rows are taken.
    loss:      the criterion, of (prediction, target).
    optimizer: as the training will use it; None: Adam at its default.
    budget:    seconds for the checks that practitioners run by hand; what does not fit is left out.

    ArgumentError: no batch, a batch that is no pair, a loss that cannot be called, or a model that cannot be copied.
    """
    from chainrule.doctor.settings import settings_from
    from chainrule.doctor.verdict import judge

    report = judge(
        record_of(model, data, loss, optimizer, budget), settings_from(), f"{type(model).__name__} before training"
    )

    def treatment(report: Report, given: Any, workers: int | None = None, **options: Any) -> Trials:
        from chainrule.adapters.pytorch.treat import treat_model

        task = Task(model, batches_of(data if given is None else given), loss, optimizer)
        return treat_model(task, report, **options)

    return replace(report, treatment=treatment)


def record_of(
    model: Any, data: Any, loss: Callable[[Any, Any], Any], optimizer: Any = None, budget: float = BUDGET
) -> RunRecord:
    """The record that `diagnose` judges."""
    import torch

    if not callable(loss):
        raise ArgumentError(f"diagnose: loss is a criterion such as torch.nn.CrossEntropyLoss(), got {loss!r}")
    generators = [g for g in (getattr(data, "generator", None),) if g is not None]
    if not any(True for _ in model.parameters()):
        raise ArgumentError(
            f"diagnose: this {type(model).__name__} has no parameters, so there is nothing to learn or to judge"
        )
    with untouched(generators), torch.enable_grad():
        batches = batches_of(data)
        task = Task(model, batches, loss, optimizer)
        short = _trial(task)
        trials = practitioners_checks(task, _baseline(short), budget)
    return _with_own_loop(short, model, optimizer, trials)


def _with_own_loop(short: RunRecord, model: Any, optimizer: Any, trials: Any) -> RunRecord:
    """The record of the trial, with what is known of the user's loop in place of what the trial's loop did."""
    facts = short.facts
    loop = None
    if facts.loop is not None:
        held = None if optimizer is None else {id(p) for g in optimizer.param_groups for p in g["params"]}
        named = list(model.named_parameters())
        missing = () if held is None else tuple(n for n, p in named if p.requires_grad and id(p) not in held)
        foreign = None if held is None else len(held - {id(p) for _, p in named})
        loop = type(facts.loop)(detached=facts.loop.detached, not_held=missing, foreign=foreign)
    training = None if facts.training is None else replace(facts.training, shuffle=None, epochs=None)
    facts = replace(facts, loop=loop, training=training, trials=trials, standing=None, finished=False)
    return replace(short, facts=facts)


def _trial(task: Task) -> RunRecord:
    """One step of a copy, watched."""
    made = copy_of(task.model, training=True)
    if made is None:
        raise ArgumentError(
            f"diagnose: this {type(task.model).__name__} cannot be copied by copy.deepcopy, so no trial can "
            f"leave it as it "
            "is. Watch its training instead: with chainrule.watch(model, optimizer): train()"
        )
    optimizer = optimizer_for(task, made)
    seen = Watch(made, optimizer, task.loss, every=None)
    seen.__enter__()
    try:
        _step(made, optimizer, task, task.batches[0])
    finally:
        seen.stop()
    return replace(seen.record(), loss=EMPTY, learning_rate=EMPTY)


def _step(made: Any, optimizer: Any, task: Task, batch: Batch) -> None:
    """One update, if there is anything that learns."""

    def closure() -> Any:
        optimizer.zero_grad()
        value = task.loss(made(*batch.args, **batch.kwargs), batch.target)
        if value.requires_grad:
            value.backward()
        return value

    optimizer.step(closure)


def _baseline(record: RunRecord) -> float | None:
    """The loss of the best constant prediction."""
    data = record.facts.data
    return None if data is None or data.target is None else data.target.baseline


def batches_of(data: Any) -> list[Batch]:
    """Copies of one batch, or of the first of an iterable. ArgumentError: no batch, or one that is no pair."""
    import torch

    def pair(item: Any) -> Batch:
        if not isinstance(item, list | tuple) or len(item) != 2 or not isinstance(item[1], torch.Tensor):
            raise ArgumentError(
                f"diagnose: a batch is a pair (x, y) of tensors, got {type(item).__name__}"
                f"{f' of {len(item)}' if isinstance(item, list | tuple | dict) else ''}. Give such a pair or "
                f"a DataLoader"
            )
        x = item[0] if isinstance(item[0], tuple | list) else (item[0],)
        return copied(Batch(tuple(x), {}, item[1]))

    if isinstance(data, list | tuple) and len(data) == 2 and isinstance(data[1], torch.Tensor):
        return [pair(data)]
    if not isinstance(data, Iterable):
        raise ArgumentError(f"diagnose: give a batch (x, y) or a DataLoader, got {type(data).__name__}")
    found: list[Batch] = []
    for item in data:
        found.append(pair(item))
        if sum(len(b.x) for b in found) >= KEPT_ROWS:
            break
    if not found:
        raise ArgumentError("diagnose: the loader gave no batch. Check its data set and drop_last")
    return found
