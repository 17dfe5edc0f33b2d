"""The whole pipeline: data, network, steps, validation, checkpoints."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.compiler import chosen_backend
from chainrule.data import Dataset
from chainrule.data.batches import batch_slices, permutation
from chainrule.errors import ArgumentError, ChainruleError, CheckpointError, NonFiniteError, ShapeError
from chainrule.graph import Tensor
from chainrule.nn import Module
from chainrule.optim import Adam, LearningRateSchedule, Optimizer, describe
from chainrule.record import Choice, RunConfig, RunDirectory, Step, set_not_finite
from chainrule.record.facts import NotFinite
from chainrule.spec import TensorSpec
from chainrule.training.callbacks import Callback, as_callbacks
from chainrule.training.evaluation import Evaluation
from chainrule.training.examples import MOST_ROWS, chosen_examples
from chainrule.training.head import Loss, check_head, check_probabilities, loss_named
from chainrule.training.interrupts import Interrupts
from chainrule.training.keywords import known_keywords
from chainrule.training.looking import Kept, save_kept
from chainrule.training.metrics import Metric, metrics_of
from chainrule.training.options import StepOptions, checked_options
from chainrule.training.probes import Measured, series_of
from chainrule.training.probing import checked_probes, rate_of
from chainrule.training.progress import Progress, Silent, progress_for
from chainrule.training.run import Run, architecture_of, recorded
from chainrule.training.settings import loss_choice, refuse_other_settings
from chainrule.training.source import Source, source_of
from chainrule.training.state import exclusively, tensors_of
from chainrule.training.step import TrainingStep
from chainrule.training.stopping import Best, EarlyStopping, refuse_unmeasured, score_of
from chainrule.version import __version__

BATCH_SIZE = 32


@known_keywords
def fit(
    net: Module,
    data: Any,
    *,
    loss: str | Loss,
    optimizer: Optimizer | None = None,
    epochs: int = 1,
    batch_size: int = BATCH_SIZE,
    validation: Any = None,
    target: str | int | None = None,
    missing: str = "error",
    metrics: Any = None,
    learning_rate_schedule: LearningRateSchedule | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    accumulate: int = 1,
    shuffle: bool = True,
    drop_last: bool = False,
    early_stopping: EarlyStopping | int | None = None,
    on_nan: str = "stop",
    callbacks: Any = None,
    seed: int = 0,
    run_dir: str | Path | None = None,
    checkpoint_every: int | None = None,
    keep_rows: int = 1,
    resume: bool = False,
    progress: bool | None = None,
    probes: str | None = "sampled",
    backend: str | None = None,
) -> Run:
    """Train ``net`` and return the record of the run.

    data:           (x, y) of arrays, a dataframe or file with ``target="column"``, a Dataset, or batches.
    loss:           "mse", "mae", "huber", "cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits",
                    or a function of (prediction, target) that returns a scalar Tensor.
    optimizer:      Adam() unless given.
    validation:     (x, y), or a share of the rows to hold out, such as 0.2.
    missing:        what a missing value of a dataframe or file becomes: "mean", "median", "most_frequent", or "drop".
    metrics:        names such as "accuracy", "top5", "f1", "rmse", "mae", "r2", or functions of (prediction, truth);
                    by default accuracy for classes, rmse and r2 for numbers. They are measured on the validation part.
    clip_norm, clip_value: limit the norm of the whole gradient, or the size of each entry.
    l1, l2:         penalties l1 Σ|w| and l2 Σw² of the weights, added to the loss.
    accumulate:     mini-batches an update; each counts by its rows.
    early_stopping: epochs without improvement before stopping, or an EarlyStopping; the best weights are put back.
    on_nan:         "stop" raises NonFiniteError and leaves the weights as they were; "skip" leaves out the update.
    seed:           of first weights, shuffling and dropout. Weights that were loaded or trained are kept.
    run_dir:        where configuration, record and checkpoints go; without it nothing is written.
    checkpoint_every: updates from one checkpoint to the next; by default there is one at the end of an epoch if the
                    last was made 2 seconds ago, and one at the end and at an error in any case.
    keep_rows:      of how many batches the rows are kept, in memory and in ``run_dir``, so that ``run.explain`` and
                    ``run.flow`` can look at a step; 0 keeps none.
    resume:         go on with the unfinished run in ``run_dir``, from its latest whole checkpoint, to the same bits.
    progress:       a progress bar; by default in terminals and notebooks.
    probes:         "every" measures each layer in every update (activation, error, gradient, update, dead units, …),
                    "sampled" in so few that it costs less than 1 % of the time but in short runs, None never. What is
                    learned is the same to the bit. See ``run.measurements``; updates from several batches are not
                    measured.
    backend:        "native" (machine code, the default) or "reference" (NumPy, node by node).

    Raises ArgumentError, DataError or ShapeError before the first step if anything does not fit; NonFiniteError when
    training meets NaN or infinity. Ctrl-C ends after the step that is going on, with a checkpoint.
    """
    if not isinstance(net, Module):
        raise ArgumentError(f"net must be a chainrule.nn.Module, got {_described(net)}")
    name, function = loss_named(loss)
    plan = _Plan(
        epochs=_whole("epochs", epochs), batch_size=_whole("batch_size", batch_size),
        accumulate=_whole("accumulate", accumulate), shuffle=_truth("shuffle", shuffle),
        drop_last=_truth("drop_last", drop_last), seed=_whole("seed", seed, least=0), on_nan=on_nan,
        schedule=_schedule(learning_rate_schedule), stopping=_stopping(early_stopping),
        callbacks=as_callbacks(callbacks),
        checkpoint_every=None if checkpoint_every is None else _whole("checkpoint_every", checkpoint_every),
        keep_rows=_whole("keep_rows", keep_rows, least=0), probes=checked_probes(probes),
    )  # fmt: skip
    _refuse_uneven_parts(function, plan)
    options = checked_options(clip_norm, clip_value, l1, l2)
    optimizer = _optimizer(optimizer)
    if _truth("resume", resume) and run_dir is None:
        raise ArgumentError("resume=True needs run_dir: the directory of the run to go on with")
    with exclusively(tensors_of(net)):
        source = source_of(data, validation, target, missing, (name, function), net, plan.seed, plan.epochs)
        net.initialise(plan.seed)
        measured = metrics_of(metrics, name, None if source.data is None else source.data.task)
        trainer = _Trainer(net, source, (name, function), optimizer, plan, measured, options, backend)
        trainer.check()
        config = trainer.run.config = _config(trainer, optimizer, options)
        if run_dir is None:
            return trainer.train(None, progress)
        with _directory(run_dir, resume, config) as directory:
            if resume:
                trainer.restore(directory)
            result = trainer.train(directory, progress)
            directory.end("finished")
        return result


@dataclass(frozen=True)
class _Plan:
    """What ``fit`` was asked about the course of training."""

    epochs: int
    batch_size: int
    accumulate: int
    shuffle: bool
    drop_last: bool
    seed: int
    schedule: LearningRateSchedule | None
    stopping: EarlyStopping | None
    on_nan: str
    callbacks: tuple[Callback, ...]
    checkpoint_every: int | None
    keep_rows: int
    probes: str | None

    def __post_init__(self) -> None:
        if self.on_nan not in ("stop", "skip"):
            raise ArgumentError(f"on_nan is 'stop' or 'skip', got {self.on_nan!r}")


@dataclass
class _Position:
    """Where training is: whole epochs made; of the present one the batches and rows done, and what its loss adds up
    to."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    rows: int = 0


class _Trainer:
    """One call of ``fit``."""

    def __init__(
        self, net: Module, source: Source, loss: tuple[str, Loss], optimizer: Optimizer, plan: _Plan,
        metrics: dict[str, Metric], options: StepOptions, backend: str | None,
    ) -> None:  # fmt: skip
        self.net, self.source, self.plan, self.metrics = net, source, plan, metrics
        self.backend = chosen_backend(backend)
        self.loss_name, self.loss = loss
        self.directory: RunDirectory | None = None
        self.interrupts = Interrupts()
        self.position, self.best, self.stopped = _Position(), Best(), False
        self.best_arrays: dict[str, np.ndarray] | None = None
        self.schedule_state = plan.schedule.initial() if plan.schedule else {}
        self.scheduled = 0
        self.prediction: Tensor | None = None
        self.slices = [] if source.data is None else _slices(len(source.data.x), plan)
        data = source.data
        self.run = Run(net, None, data and data.preprocess, notes=list(data.notes if data else ()))  # type: ignore[arg-type]
        self.run.data, self.run.loss = data, loss[1]
        self.step = TrainingStep(self._forward, net.train(), optimizer, options, self.backend, plan.seed)
        self.evaluation = Evaluation(net, self.loss, self.backend)
        self.pending: list[Step] = []
        self.pending_epochs: list[tuple[int, int, dict[str, float]]] = []
        self.pending_measured: list[Measured] = []
        self.flushed_at = self.taken_at = time.monotonic()
        self.watched = any(type(c).on_step is not Callback.on_step for c in plan.callbacks)
        self.seconds_an_update = SECONDS_A_CALL
        x, _ = source.sample()
        probes = plan.probes if plan.accumulate == 1 else None
        self.rate = rate_of(probes, net, x[: plan.batch_size], plan.epochs, self.updates_an_epoch())
        self.step.compiles_probes = self.rate.compiled
        self.saved_at = time.monotonic()
        self.warned: set[str] = set()
        self.warn_after = 0.0

    def _forward(self, x: Tensor, y: Tensor) -> Tensor:
        self.prediction = self.net(x)
        return self.loss(self.prediction, y)

    # -------------------------------------------------------------------------------------------- before the first step

    def check(self) -> None:
        """Trace every batch shape of an epoch, so that what cannot work is refused before anything is written."""
        x, y = self.source.sample()
        classes = () if self.source.data is None else self.source.data.classes
        sizes = sorted({len(x[s]) for s in self.slices}, reverse=True) or [len(x)]
        for size in sizes:
            self.step.trace(tuple(TensorSpec((size, *a.shape[1:]), a.dtype) for a in (x, y)))
            if self.prediction is not None and size == sizes[0]:
                check_head(self.prediction, self.loss_name, self.net, len(classes))
                self.source.outputs = self.prediction.shape[-1] if self.prediction.ndim else 0
        held = self.source.held
        if held is not None and held[0].shape[1:] != x.shape[1:]:
            raise ShapeError(f"rows of the validation part have shape {held[0].shape[1:]}, those of the training part "
                             f"{x.shape[1:]}: give both the same columns")  # fmt: skip
        if self.plan.stopping is not None:
            validated = [] if held is None else ["validation_loss", *(f"validation_{n}" for n in self.metrics)]
            refuse_unmeasured(self.plan.stopping.monitor, ["loss", "learning_rate", *validated])
        if self.loss_name == "binary_cross_entropy":
            check_probabilities(self.net.predict(x[: self.plan.batch_size]))

    def restore(self, directory: RunDirectory) -> None:
        """Go on from the latest whole checkpoint, if there is one: the record forgets what came after it."""
        found = directory.latest()
        if found is None:
            directory.record.truncate_after(0, epoch=0)
            return
        header = found.header
        if header["data"] != self.data_digest:
            raise CheckpointError(
                "the data is not that of the run: its rows differ, so training cannot go on to the same result; pass "
                "the rows that the run began with"
            )
        self.step.state.load(found.arrays, found.step)
        best = {n.removeprefix("best."): a for n, a in found.arrays.items() if n.startswith("best.")}
        self.best_arrays = best or None
        self.position = _Position(**header["position"])
        self.best, self.stopped = Best.from_dict(header["best"]), header["stopped"]
        self.schedule_state, self.scheduled = header["schedule"], header["scheduled"]
        directory.record.truncate_after(found.step, epoch=self.position.epoch)
        run = self.run
        run.history, run.losses, notes = recorded(directory)
        run.notes.extend(n for n in notes if n not in run.notes)
        run.step, run.epoch, run.best_epoch = found.step, self.position.epoch, self.best.epoch
        run.skipped = header["skipped"]

    # -------------------------------------------------------------------------------------------- training

    def train(self, directory: RunDirectory | None, progress: bool | None) -> Run:
        """All epochs that are left, then the best weights if asked for, then a few examples."""
        run, plan, self.directory = self.run, self.plan, directory
        run.path = None if directory is None else directory.path
        run.catch_up = self._flush
        kept = self._kept_rows()
        if directory is not None and kept:
            save_kept(directory, kept)
        updates = None if self.source.data is None else self.updates_an_epoch() * plan.epochs
        with progress_for(progress, plan.epochs, updates) as bar, self.interrupts:
            try:
                for callback in plan.callbacks:
                    callback.on_start(run)
                while self.position.epoch < plan.epochs and not self.stopped:
                    self._epoch(bar)
                    self._after_epoch(bar)
            except BaseException as error:
                self._save_at(error, bar)
                raise
            finally:
                self.step.state.keep()
                run.catch_up = None
            if plan.stopping is not None and self.best_arrays is not None:
                self.net.load_state_dict(self.best_arrays)
                bar.say(f"the weights are those of epoch {run.best_epoch}, which had the best {self._monitored()}")
            self.net.eval()
            self._examples(bar)
            self._flush()
            self._save()
            run.kept = self._kept(kept)
            for callback in plan.callbacks:
                callback.on_end(run)
        return run

    def _kept_rows(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Copies of the rows of the first batches, in the order of the data; of a stream the first batch."""
        if not self.plan.keep_rows:
            return ()
        x, y = self.source.sample()
        chosen = self.slices[: self.plan.keep_rows] or [slice(0, len(x))]
        return tuple((x[rows].copy(), y[rows].copy()) for rows in chosen)

    def _kept(self, batches: tuple[tuple[np.ndarray, np.ndarray], ...]) -> Kept:
        """What there is to look at where training stands."""
        state = self.step.state
        moments = {
            slot: {n: v.copy() for n, v in zip(state.names, state.views(flat), strict=True)}
            for slot, flat in state.moments.items()
        }
        return Kept(batches, self.loss, state.optimizer, moments, self._learning_rates(1)[0], None, self.run.step)

    def _monitored(self) -> str:
        monitor = self.plan.stopping.monitor if self.plan.stopping else None
        return (monitor or ("loss" if self.source.held is None else "validation_loss")).replace("_", " ")

    def _save_at(self, error: BaseException, bar: Progress) -> None:
        """Keep what is done, whatever ended training; ``error`` stays the exception that the caller sees."""
        if self.directory is None:
            self._flush()
            return
        if self.step.state.step != self.run.step:
            return  # a second Ctrl-C came between an update and its place in the record
        try:
            self._save()
        except ChainruleError as refused:
            error.add_note(f"no checkpoint could be made at step {self.run.step}: {refused}")
            return
        where = f"stopped after step {self.run.step}; go on with resume=True and run_dir={str(self.directory.path)!r}"
        if isinstance(error, KeyboardInterrupt):
            bar.say(where)
        error.add_note(where)

    def updates_an_epoch(self) -> int:
        return math.ceil(len(self.slices) / self.plan.accumulate)

    def _epoch(self, bar: Progress) -> None:
        """The rest of the present epoch, from the batch at which it stands."""
        self.net.train()
        if self.source.data is not None and self.plan.accumulate == 1:
            self._epoch_of_rows(self.source.data, bar)
        else:
            self._epoch_of_groups(bar)

    def _epoch_of_rows(self, data: Dataset, bar: Progress) -> None:
        """Many updates in one call: as many as last about a tenth of a second, so that nobody waits for Ctrl-C."""
        order = np.arange(len(data.x))
        if self.plan.shuffle:
            order = permutation(len(data.x), self.plan.seed, self.position.epoch)
        seconds = self.seconds_an_update
        while (first := self.position.batch) < len(self.slices):
            count = self._count(first, max(1, int(SECONDS_A_CALL / seconds)))
            chosen = np.stack([order[s] for s in self.slices[first : first + count]])
            began = time.perf_counter()
            with self.interrupts.finishing():
                self._updates(data, chosen, began, bar)
            seconds = self.seconds_an_update = (time.perf_counter() - began) / count
            self._after_updates(last=self.position.batch == len(self.slices))

    def _count(self, first: int, most: int) -> int:
        """Batches of one size from ``first`` on, up to ``most``, and up to where somebody wants to be asked."""
        size = _length(self.slices[first])
        count = 1
        every = self.plan.checkpoint_every
        while count < most and first + count < len(self.slices) and _length(self.slices[first + count]) == size:
            if self.watched or (every and (self.run.step + count) % every == 0):
                break
            count += 1
        return count

    def _measures(self, count: int) -> list[bool]:
        """Whether each of the next updates measures its layers."""
        last = len(self.slices) - 1 - self.position.batch
        final = self.position.epoch == self.plan.epochs - 1
        return [self.rate.due(self.run.step + i, i == last, final and i == last) for i in range(count)]

    def _updates(self, data: Dataset, chosen: np.ndarray, began: float, bar: Progress) -> None:
        """Updates from batches of the rows ``chosen``, and their places in position, history and record."""
        rates = self._learning_rates(len(chosen))
        losses, error = self.step.many((data.x, data.y), chosen, rates, self._measures(len(chosen)))
        seconds = (time.perf_counter() - began) / max(len(chosen), 1)
        for loss, lr in zip(losses, rates, strict=False):
            self._made(float(loss), chosen.shape[1], lr, seconds, 1)
        if error is not None:
            self._left_out(error, 1)
        bar.step(self.position.epoch + 1, self.run.step, self.run.losses[-1] if self.run.losses else math.nan,
                 len(losses) * chosen.shape[1])  # fmt: skip

    def _learning_rates(self, count: int) -> list[float]:
        """The learning rates of the next updates."""
        schedule, base = self.plan.schedule, self.step.state.optimizer.lr
        if schedule is None:
            return [base] * count
        by_step = schedule.every == "step"
        return [schedule.rate(base, self.scheduled + i * by_step, self.schedule_state) for i in range(count)]

    def _made(self, loss: float, rows: int, lr: float, seconds: float, batches: int) -> None:
        """One update was made, from ``batches`` batches."""
        run, position = self.run, self.position
        run.step += 1
        run.losses.append(loss)
        self.pending.append(Step(run.step, position.epoch + 1, loss, lr, rows, seconds))
        self.position = replace(
            position,
            batch=position.batch + batches,
            loss_sum=position.loss_sum + loss * rows,
            rows=position.rows + rows,
        )
        if self.plan.schedule is not None and self.plan.schedule.every == "step":
            self.scheduled += 1

    def _left_out(self, error: NonFiniteError, batches: int) -> None:
        """An update was not made: stop, or go on behind its batches."""
        self._note_not_finite(error)
        if self.plan.on_nan == "stop":
            raise error
        self._note("skipped", str(error))
        self.position = replace(self.position, batch=self.position.batch + batches)

    def _note_not_finite(self, error: NonFiniteError) -> None:
        """Count it, and write down the first."""
        run = self.run
        run.skipped += self.plan.on_nan == "skip"
        found = NotFinite(step=error.step, operation=error.operation, layer=error.layer, text=str(error))
        first = run.not_finite or found
        run.not_finite = replace(first, skipped=run.skipped)
        if self.directory is not None:
            set_not_finite(self.directory.record, run.not_finite)

    def _after_updates(self, last: bool) -> None:
        """What users hang in after an update, and a checkpoint where one is due."""
        run, every = self.run, self.plan.checkpoint_every
        if self.watched and run.losses:
            for callback in self.plan.callbacks:
                callback.on_step(run, run.step, run.losses[-1])
        if every and run.step % every == 0 and not last:
            self._save()
        with self.interrupts.finishing():
            self._flush_if_due()

    def _epoch_of_groups(self, bar: Progress) -> None:
        """Updates from several batches each, or from batches that only come one by one."""
        plan = self.plan
        group: list[tuple[np.ndarray, np.ndarray]] = []
        batches = self._batches(self.position.epoch, self.position.batch)
        following = next(batches, None)
        while following is not None:
            group.append(following)
            following = next(batches, None)
            if len(group) < plan.accumulate and following is not None:
                continue
            before = self.run.step
            with self.interrupts.finishing():
                self._update(group, bar)
            group = []
            if self.run.step > before:
                self._after_updates(last=following is None)

    def _update(self, group: list[tuple[np.ndarray, np.ndarray]], bar: Progress) -> None:
        """One update from one or several batches, and its place in position, history and record."""
        rows, (lr,) = sum(len(x) for x, _ in group), self._learning_rates(1)
        began = time.perf_counter()
        try:
            loss = self._stepped(group, rows, lr)
        except NonFiniteError as error:
            self._left_out(error, len(group))
            return
        self._made(loss, rows, lr, time.perf_counter() - began, len(group))
        bar.step(self.position.epoch + 1, self.run.step, loss, rows)

    def _stepped(self, group: list[tuple[np.ndarray, np.ndarray]], rows: int, lr: float) -> float:
        """The mean loss of one update, in which each batch counts by its rows."""
        state, total, first_row = self.step.state, 0.0, 0
        made = state.step
        # Each part moves the buffers; where a later part fails, the update never was.
        buffers = [(b, b.array.copy()) for b in self.net.buffers()] if len(group) > 1 else []
        try:
            for i, (x, y) in enumerate(group):
                part = "whole" if len(group) == 1 else "last" if i == len(group) - 1 else "middle" if i else "first"
                measures = part == "whole" and self.rate.due(made, last=False, final=False)
                total += self.step((x, y), lr, len(x) / rows, part, first_row, measures).loss * len(x)
                first_row += len(x)
        except BaseException:
            if state.step == made:
                for buffer, before in buffers:
                    buffer.array[...] = before
            raise
        return total / rows

    def _batches(self, epoch: int, first: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches of an epoch from number ``first`` on."""
        data = self.source.data
        if data is None:
            yield from itertools.islice(self.source.stream(), first, None)
            return
        order = permutation(len(data.x), self.plan.seed, epoch) if self.plan.shuffle else None
        for rows in self.slices[first:]:
            chosen = rows if order is None else order[rows]
            yield data.x[chosen], data.y[chosen]

    # -------------------------------------------------------------------------------------------- after an epoch

    def _after_epoch(self, bar: Progress) -> None:
        """Measure, note, ask whether to stop, save."""
        run, plan = self.run, self.plan
        if self.position.rows == 0:
            raise NonFiniteError(
                f"epoch {self.position.epoch + 1}: every update was left out because something was not finite; the "
                "weights are as they were: lower the learning rate or clean the data"
            )
        measured = self._measured()
        with self.interrupts.finishing():
            self._close_epoch(measured)
        bar.epoch(run.epoch, measured)
        self._warn(bar)
        for callback in plan.callbacks:
            # Every callback is asked: one that stops training does not keep the others from their epoch.
            if callback.on_epoch(run, run.epoch, measured) is True:
                self.stopped = True
        due = plan.checkpoint_every is not None and run.step % plan.checkpoint_every == 0
        # An epoch of milliseconds needs no checkpoint of its own.
        if due or time.monotonic() - self.saved_at >= SECONDS_BETWEEN_CHECKPOINTS:
            self._save()

    def _warn(self, bar: Progress) -> None:
        """A line for each new sign of trouble, where somebody is looking; no oftener than it is worth."""
        if isinstance(bar, Silent) or not self.rate.every or time.monotonic() < self.warn_after:
            return
        began = time.monotonic()
        for code, sentence in self.run.signs():
            if code not in self.warned:
                self.warned.add(code)
                bar.say(sentence)
        self.warn_after = time.monotonic() + WARNING * (time.monotonic() - began)

    def _measured(self) -> dict[str, float]:
        position = self.position
        found = {"loss": position.loss_sum / position.rows, "learning_rate": self._learning_rates(1)[0]}
        if self.source.held is None:
            return found
        x, truth = self.source.held
        loss, prediction = self.evaluation(x, truth, max(self.plan.batch_size, 256))
        target = None if self.source.data is None else self.source.data.target
        if target is not None and target.std is not None:  # metrics are in the target's own units
            prediction, truth = target.invert(prediction), target.invert(truth)
        found["validation_loss"] = loss
        return found | {f"validation_{n}": float(metric(prediction, truth)) for n, metric in self.metrics.items()}

    def _close_epoch(self, measured: dict[str, float]) -> None:
        run, stopping = self.run, self.plan.stopping
        _, score = score_of(measured, stopping.monitor if stopping else None)
        for name, value in measured.items():
            run.history.setdefault(name, []).append(value)
        run.epoch = self.position.epoch + 1
        self.position = _Position(run.epoch)
        self.best = self.best.after(score, run.epoch, run.step, stopping.min_delta if stopping else 0.0)
        run.best_epoch = self.best.epoch
        if stopping is not None:
            if self.best.waited == 0:
                self.best_arrays = self.net.state_dict()
            self.stopped = self.best.waited >= stopping.patience
        schedule = self.plan.schedule
        if schedule is not None:
            seen = measured.get("validation_loss", measured["loss"])
            self.schedule_state = schedule.observe(self.schedule_state, seen)
            self.scheduled += schedule.every == "epoch"
        self.pending_epochs.append((run.epoch, run.step, measured))
        self._flush_if_due()

    def _flush_if_due(self) -> None:
        """Not after every epoch: some take less time than a line in the record."""
        now = time.monotonic()
        if now - self.flushed_at >= SECONDS_BETWEEN_FLUSHES:
            if now - self.taken_at >= SECONDS_BETWEEN_MEASUREMENTS:
                self._take()
            self._write()

    def _note(self, kind: str, text: str) -> None:
        self.run.notes.append(text)
        if self.directory is not None:
            self.directory.record.append_note(self.run.step, kind, text)

    def _flush(self) -> None:
        """Everything so far into the run and its record."""
        self._take()
        self._write()

    def _take(self) -> None:
        """What the probes found so far into the run."""
        found = self.step.take()
        self.run.measured.extend(found)
        self.pending_measured += found
        self.taken_at = time.monotonic()

    def _write(self) -> None:
        """What is pending into the record."""
        if self.directory is not None:
            record = self.directory.record
            if self.pending or self.pending_measured:
                found = series_of(self.pending_measured)
                record.append_steps(self.pending, {p: (s.steps, s.values) for p, s in found.items()})
            self.pending, self.pending_measured = [], []
            for epoch, step, metrics in self.pending_epochs:
                train = {k: v for k, v in metrics.items() if not k.startswith("validation_")}
                held = {k.removeprefix("validation_"): v for k, v in metrics.items() if k.startswith("validation_")}
                record.append_epoch(epoch, step, "train", train)
                if held:
                    record.append_epoch(epoch, step, "validation", held)
        self.pending, self.pending_epochs, self.pending_measured = [], [], []
        self.flushed_at = time.monotonic()

    # -------------------------------------------------------------------------------------------- checkpoints

    def _save(self) -> None:
        """A checkpoint of all that the rest of training depends on."""
        if self.directory is None:
            return
        with self.interrupts.finishing():
            self._flush()
        header = {
            "step": self.run.step,
            "epoch": self.position.epoch,
            "position": vars(self.position),
            "best": self.best.to_dict(),
            "stopped": self.stopped,
            "schedule": self.schedule_state,
            "scheduled": self.scheduled,
            "learning_rate": self._learning_rates(1)[0],
            "skipped": self.run.skipped,
            "data": self.data_digest,
            "preprocess": None if self.run.preprocess is None else json.dumps(self.run.preprocess.to_dict()),
        }
        arrays = self.step.state.arrays()
        if self.best_arrays is not None:
            arrays.update({f"best.{n}": a for n, a in self.best_arrays.items()})
        newly_best = self.position.batch == 0 and self.best.waited == 0 and self.best.epoch > 0
        self.directory.save(arrays, header, self.best.score if newly_best else None)
        self.saved_at = time.monotonic()

    @cached_property
    def data_digest(self) -> str:
        """A fingerprint of the rows: of all of them up to DIGESTED bytes, of evenly chosen ones beyond."""
        data = self.source.data
        if data is None:
            return "stream"
        digest = hashlib.blake2b(digest_size=16)
        for part in (data.x, data.y, data.validation_x, data.validation_y):
            if part is not None:
                every = -(-part.nbytes // DIGESTED)
                digest.update(f"{part.shape}{part.dtype}".encode())
                digest.update(np.ascontiguousarray(part[:: max(every, 1)]).tobytes())
        return digest.hexdigest()

    # -------------------------------------------------------------------------------------------- examples

    def _examples(self, bar: Progress) -> None:
        """Three predictions of held-out rows beside their truth, the worst first."""
        data = self.source.data
        if data is None:
            return
        x, y = self.source.held or (data.x, data.y)
        prediction = self.net.predict(x[:MOST_ROWS])
        self.run.examples = chosen_examples(prediction, y[:MOST_ROWS], self.loss, self.loss_name, data.target)
        count = {1: "one row", 2: "two rows", 3: "three rows"}[len(self.run.examples)]
        bar.say(f"{count}{' that were held out' if self.source.held else ''}, the worst first:")
        for example in self.run.examples:
            bar.say(f"  {example}")


SECONDS_A_CALL = 0.1


def _length(rows: slice) -> int:
    return rows.stop - rows.start


SECONDS_BETWEEN_CHECKPOINTS = 2.0

SECONDS_BETWEEN_FLUSHES = 0.25

WARNING = 1000
"""Times as long as a look for signs of trouble took, nobody looks again: a tenth of what sampled probes may cost."""

SECONDS_BETWEEN_MEASUREMENTS = 1.0
"""Each time costs a few milliseconds, however much was measured."""

DIGESTED = 64 * 2**20
"""Bytes of each array that a fingerprint reads: a tenth of a second."""


def _slices(rows: int, plan: _Plan) -> list[slice]:
    # Whoever asked for a larger batch than there are rows is told so; whoever did not choose a size is not.
    size = min(rows, plan.batch_size) if plan.batch_size == BATCH_SIZE else plan.batch_size
    return batch_slices(rows, size, plan.drop_last)


def _whole(name: str, value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ArgumentError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def _described(value: Any) -> str:
    return f"the class {value.__name__}: call it" if isinstance(value, type) else f"a {type(value).__name__}"


def _stopping(given: Any) -> EarlyStopping | None:
    if given is None or isinstance(given, EarlyStopping):
        return given
    return EarlyStopping(given)


def _schedule(given: Any) -> LearningRateSchedule | None:
    if given is not None and not isinstance(given, LearningRateSchedule):
        raise ArgumentError("learning_rate_schedule must be one of chainrule.optim, such as optim.StepLR(10), got "
                            f"{_described(given)}")  # fmt: skip
    return given


def _optimizer(given: Any) -> Optimizer:
    if given is not None and not isinstance(given, Optimizer):
        raise ArgumentError(
            f"optimizer must be one of chainrule.optim, such as optim.Adam(1e-3), got {_described(given)}"
        )
    return Adam() if given is None else given


def _refuse_uneven_parts(loss: Loss, plan: _Plan) -> None:
    if plan.accumulate > 1 and getattr(loss, "reduction", "mean") != "mean":
        raise ArgumentError("accumulate needs a loss that is a mean over rows, so that each batch counts by its rows: "
                            "use reduction='mean'")  # fmt: skip


def _config(trainer: _Trainer, optimizer: Optimizer, options: StepOptions) -> RunConfig:
    plan, source, data = trainer.plan, trainer.source, trainer.source.data
    schedule = Choice("constant") if plan.schedule is None else Choice(**describe(plan.schedule))
    held = 0 if source.held is None else len(source.held[0])
    return RunConfig(
        source="batches" if data is None else data.source,
        architecture=architecture_of(trainer.net),
        loss=loss_choice(trainer.loss_name, trainer.loss),
        optimizer=Choice(**describe(optimizer)),
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        seed=plan.seed,
        rows=None if data is None else len(data.x),
        target=None if data is None else data.target.name,
        learning_rate_schedule=schedule,
        shuffle=plan.shuffle,
        drop_last=plan.drop_last,
        dtype=trainer.net.dtype.name,  # type: ignore[arg-type]
        backend=trainer.backend,
        accumulate=plan.accumulate,
        clip_norm=options.clip.norm,
        clip_value=options.clip.value,
        l1=options.l1,
        l2=options.l2,
        early_stopping={} if plan.stopping is None else vars(plan.stopping),
        on_nan=plan.on_nan,  # type: ignore[arg-type]
        validation={"rows": held, "metrics": list(trainer.metrics)},
        versions={"chainrule": __version__, "python": platform.python_version(), "numpy": np.__version__},
    )


def _directory(run_dir: str | Path, resume: bool, config: RunConfig) -> RunDirectory:
    if not resume:
        return RunDirectory.create(run_dir, config)
    before = RunDirectory.open(run_dir).status
    directory = RunDirectory.resume(run_dir)
    try:
        refuse_other_settings(run_dir, directory.config, config)
    except ArgumentError:
        directory.end("failed" if before.state == "failed" else "interrupted", before.reason)
        raise
    return directory
