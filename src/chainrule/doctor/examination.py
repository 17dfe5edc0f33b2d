"""Examine a run: its record, and, where its rows are at hand, a look and short trials at its latest weights."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.doctor.report import Report
from chainrule.doctor.settings import Settings, settings_from
from chainrule.doctor.standing import FITTED, standing_of
from chainrule.doctor.trial.facts import head_facts, layer_facts, training_facts
from chainrule.doctor.trial.observe import Observer
from chainrule.doctor.trial.practice import Task, Trials, curvatures, endings, practitioners_checks, standing_facts
from chainrule.doctor.verdict import judge
from chainrule.errors import ArgumentError, ChainruleError
from chainrule.ops import LOSSES
from chainrule.optim.describe import from_description
from chainrule.record import Facts, Quantity, RunRecord, measurements_of, read_record, series
from chainrule.record.facts import NotFinite, StandingFacts
from chainrule.record.measure_rows import data_facts, sampled
from chainrule.training.head import loss_named, targets_for
from chainrule.training.options import checked_options

if TYPE_CHECKING:
    from chainrule.training.run import Run

ROWS = 512
"""Rows that one look takes."""

CURVED = 128
"""Rows from which curvatures are taken: each costs two gradients in float64 an iteration."""

WELL = 0.9
"""Progress from which on the only question is what is left to gain."""


def examine(run: Run, data: Any = None, settings: Settings | None = None, budget: float = 3.0) -> Report:
    """The report on a run.

    data:   (x, y) as the network and the loss take them, for a run that was loaded: its directory holds the rows of a
            few batches at most, which are enough for a look and too few for trials.
    budget: seconds for short trials on copies of the network; 0 for none. A run that did well needs few.

    Raises CheckpointError for a record that is damaged, foreign or of a newer chainrule.
    """
    title = f"{run.path or 'run'}: {type(run.net).__name__}, {run.config.loss.name}"
    settings = settings_from() if settings is None else settings
    record = record_of(run, data, budget)
    from chainrule.doctor.treat.subject import subject_of_run  # it examines in its turn

    return replace(judge(record, settings, title), treatment=subject_of_run(run, data, record, settings).treat)


def record_of(run: Run, data: Any = None, budget: float = 3.0) -> RunRecord:
    """The run as rules read it. What the run's own record measured is kept; a look adds what is missing."""
    record = _curves(run)
    if record.facts.head is not None and record.measurements and data is None:
        return record
    bad = record.facts.not_finite or _not_finite(run)
    facts = replace(record.facts, training=training_facts(run.config), not_finite=bad)
    record = replace(record, facts=facts)
    rows = rows_of(run, data)
    if rows is None and run.kept is not None and run.kept.batches:
        # A few batches are enough for a look; a trial on them would only learn them by heart.
        rows, budget = _joined(run.kept.batches), 0.0
    if rows is None or (run.loss is None and run.config.loss.name not in LOSSES):
        return record
    return _looked(run, record, rows, budget)


def _curves(run: Run) -> RunRecord:
    if run.path is not None:
        return read_record(run.path / "record.sqlite")
    an_epoch = max(run.step // max(run.epoch, 1), 1)

    def by_epoch(values: list[float]) -> Any:
        return series(values, [(i + 1) * an_epoch for i in range(len(values))])

    held = {n.removeprefix("validation_"): by_epoch(v) for n, v in run.history.items() if n.startswith("validation_")}
    train = {n: by_epoch(v) for n, v in run.history.items() if not n.startswith("validation_")}
    # By epoch is as near as the history in memory comes.
    rates = [r for r in run.history.get("learning_rate", []) for _ in range(an_epoch)]
    return RunRecord(
        facts=Facts(not_finite=run.not_finite),
        loss=series(run.losses),
        learning_rate=series(rates),
        train=train,
        validation=held,
        measurements=run.measurements,
    )


def _not_finite(run: Run) -> NotFinite | None:
    if not run.skipped:
        return None
    text = next((n for n in run.notes if "not finite" in n or "NaN" in n), "")
    operation = text.partition("First bad operation: ")[2].partition(", whose")[0]
    return NotFinite(step=run.step, operation=operation, text=text, skipped=run.skipped)


def rows_of(run: Run, data: Any) -> tuple[np.ndarray, np.ndarray] | None:
    if data is None:
        return None if run.data is None else (run.data.x, run.data.y)
    if not isinstance(data, tuple) or len(data) != 2:
        raise ArgumentError("examine: data is (x, y), as the network and the loss take them")
    x, y = (np.asarray(part) for part in data)
    if len(x) != len(y) or not len(x):
        raise ArgumentError(f"examine: x and y need as many rows, at least one; got {len(x)} and {len(y)}")
    name = run.config.loss.name
    x = x.astype(run.net.dtype, copy=False) if x.dtype.kind == "f" else x
    if y.dtype.kind == "f" or not name.startswith("cross"):
        y = y.astype(run.net.dtype, copy=False)
        y = y.reshape(len(y), -1) if y.ndim == 1 else y
    return x, targets_for(name, y)


def _joined(batches: tuple[tuple[np.ndarray, np.ndarray], ...]) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a few batches as one."""
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


def _looked(run: Run, record: RunRecord, rows: tuple[np.ndarray, np.ndarray], budget: float) -> RunRecord:
    """Add what a look at the first and the latest weights shows, where training stands, and trials if it did badly."""
    x, y = rows
    config = run.config
    task = task_of(run, x, y)
    chosen = sampled(len(x), ROWS)
    some = np.ascontiguousarray(x[chosen]), np.ascontiguousarray(y[chosen])
    mode = run.net.training
    run.net.train()
    try:
        observer = Observer(run.net, task.loss, *some)
        look = observer.look(*some, step=run.step)
        first = observer.redrawn(config.seed)
        begin = observer.look(*some, first, step=0)
    finally:
        run.net.train(mode)
    drawn = _began_so(run, begin.trace.loss)
    loss = observer.loss or config.loss.name
    data = data_facts(x, y, loss, int(config.validation.get("rows", 0)))
    data = replace(data, rows=max(config.rows or 0, data.rows))
    facts = replace(
        record.facts,
        layers=layer_facts(run.net, observer, look, observer.named(first) if drawn else {}),
        data=data,
        head=head_facts(loss, observer, begin if drawn else look, data.target) if data.target else None,
    )
    found = [*(measurements_of(begin.trace) if drawn else ()), *measurements_of(look.trace)]
    # What the probes measured in the step itself stands; a look adds what they left out.
    found = [m for m in found if not (record.measured(m.layer, Quantity(m.quantity)).steps == m.step).any()]
    record = replace(record, facts=facts).with_measurements(found)
    progress = standing_of(record).progress or 0.0
    facts = replace(facts, standing=standing_facts(look, run.step))
    if progress < FITTED and budget > 0 and run.step:
        weights = observer.named(first) if drawn else None
        facts = _tried(task, observer, facts, some, budget, begin.trace.loss, weights, progress >= WELL)
    return replace(record, facts=facts)


def task_of(run: Run, x: np.ndarray, y: np.ndarray) -> Task:
    """What the run trained, for trials; ArgumentError if its optimizer is not one of this package."""
    config = run.config
    optimizer = from_description({"name": config.optimizer.name, "arguments": dict(config.optimizer.arguments)})
    options = checked_options(config.clip_norm, config.clip_value, config.l1, config.l2)
    loss = run.loss or loss_named(config.loss.name)[1]
    return Task(run.net, loss, x, y, optimizer, config.batch_size, options, config.seed, config.backend)


def _began_so(run: Run, loss: float) -> bool:
    """Whether the run may have begun with the weights that its seed draws, and not with others that were loaded."""
    if not run.losses or not np.isfinite([loss, run.losses[0]]).all():
        return not run.losses
    return abs(loss - run.losses[0]) <= 0.5 * max(abs(loss), abs(run.losses[0]))


def _tried(
    task: Task, observer: Observer, facts: Facts, some: Any, budget: float, initial: float, first: Any, well: bool
) -> Facts:
    """Short trials: what is still to be gained at the end, and, unless it went well, what first weights could do."""
    base = facts.data.target.baseline if facts.data and facts.data.target else None
    standing: StandingFacts | None = facts.standing
    if standing is None or not base:
        return facts
    began = time.perf_counter()
    x, y = some
    try:
        trials = Trials(task)
        found = endings(trials, observer, x, y, budget / 3)
    except ChainruleError:
        return facts
    loss = standing.loss
    facts = replace(
        facts,
        standing=replace(
            standing,
            trial_gain=(loss - found.best) / base,
            same_trial_gain=(loss - found.own) / base,
            slower_trial_gain=None if found.slower is None else (loss - found.slower) / base,
            trial_steps=found.steps,
        ),
    )
    if well:
        return facts
    if first is not None:
        # What the first weights could have done tells causes apart, so it gets its time even if the rest was slow.
        left = max(0.8 * budget - (time.perf_counter() - began), 0.4 * budget)
        facts = replace(facts, trials=practitioners_checks(trials, initial, base, left, first))
    if time.perf_counter() - began < budget:
        bent = curvatures(task, x[:CURVED], y[:CURVED])
        if bent is not None and facts.standing is not None:
            facts = replace(
                facts,
                standing=replace(
                    facts.standing, curvature=bent.along, highest_curvature=bent.highest, lowest_curvature=bent.lowest
                ),
            )
    return facts
