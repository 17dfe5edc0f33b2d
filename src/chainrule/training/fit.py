"""The whole pipeline: data, network, steps, validation, checkpoints."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chainrule import __version__
from chainrule.data import Dataset, Stream, as_dataset
from chainrule.data.batches import batch_slices, permutation
from chainrule.errors import ArgumentError, CheckpointError, DataError, NonFiniteError
from chainrule.graph import constant
from chainrule.nn import Module
from chainrule.ops import key
from chainrule.optim import Adam, LearningRateSchedule, Optimizer, describe
from chainrule.record import Checkpoint, Choice, RunConfig, RunDirectory, Step
from chainrule.training.callbacks import Callback, as_callbacks
from chainrule.training.evaluation import Evaluation
from chainrule.training.head import Loss, check_head, check_probabilities, loss_named, targets_for, task_of
from chainrule.training.interrupts import Interrupts
from chainrule.training.metrics import Metric, default_metrics, metric_named
from chainrule.training.progress import Progress, progress_for
from chainrule.training.run import Example, Run, architecture_of
from chainrule.training.step import TrainingStep, checked_options
from chainrule.training.stopping import Best, EarlyStopping, score_of


def fit(
    net: Module,
    data: Any,
    *,
    loss: str | Loss,
    optimizer: Optimizer | None = None,
    epochs: int = 1,
    batch_size: int = 32,
    validation: Any = None,
    target: str | int | None = None,
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
    resume: bool = False,
    progress: bool | None = None,
    backend: str = "reference",
) -> Run:
    """Train ``net`` and return the record of the run.

    data:           (x, y) of arrays, a dataframe with ``target="column"``, a Dataset, or an iterable of batches.
    loss:           "mse", "mae", "huber", "cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits",
                    or a function of (prediction, target) that returns a scalar Tensor.
    optimizer:      Adam() unless given.
    validation:     (x, y), or a share of the rows to hold out, such as 0.2.
    metrics:        names such as "accuracy", "top5", "f1", "rmse", "mae", "r2", or functions of (prediction, truth);
                    by default accuracy for classes, rmse and r2 for numbers. They are measured on the validation part.
    clip_norm, clip_value: limit the norm of the whole gradient, or the size of each entry.
    l1, l2:         penalties l1 Σ|w| and l2 Σw² of the weights, added to the loss.
    accumulate:     mini-batches an update; each counts by its rows.
    early_stopping: epochs without improvement before stopping, or an EarlyStopping; the best weights are put back.
    on_nan:         "stop" raises NonFiniteError and leaves the weights as they were; "skip" leaves out the update.
    seed:           of first weights, shuffling and dropout. Weights that were loaded or trained are kept.
    run_dir:        where configuration, record and checkpoints go; without it nothing is written.
    resume:         go on with the unfinished run in ``run_dir``, from its latest whole checkpoint, to the same bits.
    progress:       a progress bar; by default in terminals and notebooks.

    Raises ArgumentError, DataError or ShapeError before the first step if anything does not fit; NonFiniteError when
    training meets NaN or infinity. Ctrl-C ends after the step that is going on, with a checkpoint.
    """
    name, function = loss_named(loss)
    options = checked_options(clip_norm, clip_value, l1, l2)
    plan = _Plan(
        epochs=_whole("epochs", epochs), batch_size=_whole("batch_size", batch_size),
        accumulate=_whole("accumulate", accumulate), shuffle=shuffle, drop_last=drop_last, seed=seed,
        schedule=learning_rate_schedule, stopping=_stopping(early_stopping), on_nan=on_nan,
    )  # fmt: skip
    key(seed)  # refuses what is no seed
    rows = _rows(data, validation, target, name, net, seed, plan.epochs)
    optimizer = Adam() if optimizer is None else optimizer
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(f"optimizer must be one of chainrule.optim, such as optim.Adam(1e-3), got {optimizer!r}")
    if not isinstance(net, Module):
        raise ArgumentError(f"net must be a chainrule.nn.Module, got {type(net).__name__}")
    net.initialise(seed)
    trainer = _Trainer(net, rows, name, function, optimizer, plan, metrics, callbacks, options, backend)
    trainer.check()
    run = trainer.run
    run.config = _config(trainer, data, options)
    directory = _directory(run_dir, resume, run.config)
    if directory is None:
        return trainer.train(None, progress)
    with directory:
        found = directory.latest() if resume else None
        if found is not None:
            trainer.restore(found, directory)
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

    def __post_init__(self) -> None:
        if self.on_nan not in ("stop", "skip"):
            raise ArgumentError(f"on_nan is 'stop' or 'skip', got {self.on_nan!r}")


@dataclass
class _Position:
    """Where training is: whole epochs made, rows of the present one done, and what its loss adds up to."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    rows: int = 0


class _Trainer:
    """One call of ``fit``."""

    def __init__(
        self, net: Module, rows: Dataset | Stream, loss_name: str, loss: Loss, optimizer: Optimizer, plan: _Plan,
        metrics: Any, callbacks: Any, options: Any, backend: str,
    ) -> None:  # fmt: skip
        self.net, self.rows, self.plan, self.loss_name, self.loss = net, rows, plan, loss_name, loss
        self.backend, self.options = backend, options
        self.callbacks: tuple[Callback, ...] = as_callbacks(callbacks)
        self.metrics = _metrics(metrics, loss_name, rows)
        self.position, self.best = _Position(), Best()
        self.best_arrays: dict[str, np.ndarray] | None = None
        self.schedule_state = plan.schedule.initial() if plan.schedule else {}
        self.scheduled = 0
        self.run = Run(net, None, getattr(rows, "preprocess", None), notes=list(getattr(rows, "notes", ())))  # type: ignore[arg-type]
        self.step = TrainingStep(lambda x, y: loss(net(x), y), net.train(), optimizer, options, backend)
        self.evaluation = Evaluation(net, loss, backend)
        self.pending: list[Step] = []
        self.saved_at = time.monotonic()

    # -------------------------------------------------------------------------------------------- before the first step

    def check(self) -> None:
        """Trace every batch shape of an epoch, so that what cannot work is refused before anything is written."""
        x, y = self._sample()
        sizes = [len(x)] if isinstance(self.rows, Stream) else sorted({len(x[s]) for s in self._slices()}, reverse=True)
        for size in sizes:
            variant = self.step._variant((x[:size], y[:size]), adds=False)
            if size == sizes[0]:
                classes = getattr(self.rows, "classes", ())
                check_head(variant.traced.graph, self.loss_name, self.net, len(classes))
        check_probabilities(self.loss_name, self.net.predict(x[: self.plan.batch_size]))

    def _sample(self) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self.rows, Stream):
            x, y = next(iter(self.rows))
            return x, targets_for(self.loss_name, y)
        return self.rows.x, self.rows.y

    def _slices(self) -> list[slice]:
        return batch_slices(len(self.rows.x), self.plan.batch_size, self.plan.drop_last)  # type: ignore[union-attr]

    def restore(self, found: Checkpoint, directory: RunDirectory) -> None:
        """Go on from a checkpoint: the record forgets what came after it."""
        header = found.header
        if header["data"] != self.data_digest():
            raise CheckpointError("the data is not that of the run: its rows differ, so training cannot go on to the same "
                                  "result; pass the rows that the run began with")  # fmt: skip
        self.step.state.load(found.arrays, found.step)
        best = {n.removeprefix("best."): a for n, a in found.arrays.items() if n.startswith("best.")}
        self.best_arrays = best or None
        self.position = _Position(**header["position"])
        self.best = Best.from_dict(header["best"])
        self.schedule_state, self.scheduled = header["schedule"], header["scheduled"]
        directory.record.truncate_after(found.step)
        earlier = Run.load(directory.path, net=self.net, step=found.step)
        self.run.history, self.run.losses = earlier.history, earlier.losses
        self.run.step, self.run.epoch, self.run.best_epoch = found.step, self.position.epoch, self.best.epoch
        self.run.skipped = header["skipped"]

    # -------------------------------------------------------------------------------------------- training

    def train(self, directory: RunDirectory | None, progress: bool | None) -> Run:
        """All epochs that are left, then the best weights if asked for, then a few examples."""
        run, plan = self.run, self.plan
        run.path = None if directory is None else directory.path
        updates = None if isinstance(self.rows, Stream) else self.updates_an_epoch() * plan.epochs
        with (
            self.step.state.training(),
            progress_for(progress, plan.epochs, updates) as bar,
            Interrupts() as interrupts,
        ):
            for callback in self.callbacks:
                callback.on_start(run)
            try:
                while self.position.epoch < plan.epochs:
                    self._epoch(bar, interrupts)
                    if self._after_epoch(bar, directory):
                        break
            except BaseException as error:
                self._save(directory, bar, always=True)
                if isinstance(error, KeyboardInterrupt) and directory is not None:
                    bar.say(
                        f"stopped after step {run.step}; go on with resume=True and run_dir={str(directory.path)!r}"
                    )
                raise
            if plan.stopping is not None and self.best_arrays is not None:
                self.net.load_state_dict(self.best_arrays)
            self.net.eval()
            self._mark_trained()
            self._examples(bar)
            self._save(directory, bar, always=True)
            for callback in self.callbacks:
                callback.on_end(run)
        return run

    def _mark_trained(self) -> None:
        for parameter in self.net.parameters():
            parameter.kept = True

    def updates_an_epoch(self) -> int:
        return math.ceil(len(self._slices()) / self.plan.accumulate)

    def _epoch(self, bar: Progress, interrupts: Interrupts) -> None:
        """The rest of the present epoch, from the batch at which it stands."""
        self.net.train()
        self._mark_trained()
        position, plan = self.position, self.plan
        group: list[tuple[np.ndarray, np.ndarray]] = []
        lr = self._learning_rate()
        batches = self._batches(position.epoch, position.batch)
        following = next(batches, None)
        while following is not None:
            group.append(following)
            following = next(batches, None)
            if len(group) < plan.accumulate and following is not None:
                continue
            began = time.perf_counter()
            loss, rows = self._update(group, lr)
            position.batch += len(group)
            group = []
            if loss is not None:
                self._count(loss, rows, lr, time.perf_counter() - began, bar)
                if plan.schedule is not None and plan.schedule.every == "step":
                    self.scheduled += 1
                    lr = self._learning_rate()
            interrupts.check()

    def _update(self, group: list[tuple[np.ndarray, np.ndarray]], lr: float) -> tuple[float | None, int]:
        """One update from one or several batches, each counting by its rows: (mean loss, rows)."""
        rows = sum(len(x) for x, _ in group)
        total, first_row = 0.0, 0
        try:
            for i, (x, y) in enumerate(group):
                part = "whole" if len(group) == 1 else "last" if i == len(group) - 1 else "middle" if i else "first"
                words = key(self.plan.seed, self.step.state.step + 1, first_row).value("a step")
                result = self.step((x, y), words, lr, len(x) / rows, part)
                total += result.loss * len(x)
                first_row += len(x)
        except NonFiniteError as error:
            if self.plan.on_nan == "stop":
                raise
            self.run.skipped += 1
            self.run.notes.append(str(error))
            return None, rows
        return total / rows, rows

    def _count(self, loss: float, rows: int, lr: float, seconds: float, bar: Progress) -> None:
        run, position = self.run, self.position
        run.step = self.step.state.step
        run.losses.append(loss)
        position.loss_sum += loss * rows
        position.rows += rows
        self.pending.append(Step(run.step, position.epoch + 1, loss, lr, rows, seconds))
        bar.step(position.epoch + 1, run.step, loss, rows)
        for callback in self.callbacks:
            callback.on_step(run, run.step, loss)

    def _batches(self, epoch: int, first: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches of an epoch from number ``first`` on."""
        if isinstance(self.rows, Stream):
            for i, (x, y) in enumerate(self.rows):
                if i >= first:
                    yield x, targets_for(self.loss_name, y)
            return
        x, y = self.rows.x, self.rows.y
        order = permutation(len(x), self.plan.seed, epoch) if self.plan.shuffle else None
        for rows in self._slices()[first:]:
            chosen = rows if order is None else order[rows]
            yield x[chosen], y[chosen]

    def _learning_rate(self) -> float:
        base = self.step.state.optimizer.lr
        schedule = self.plan.schedule
        return base if schedule is None else schedule.rate(base, self.scheduled, self.schedule_state)

    # -------------------------------------------------------------------------------------------- after an epoch

    def _after_epoch(self, bar: Progress, directory: RunDirectory | None) -> bool:
        """Measure, note, save; whether training shall stop here."""
        run, position = self.run, self.position
        if position.rows == 0:
            raise NonFiniteError(f"epoch {position.epoch + 1}: every update was left out because something was not finite; "
                                 "the weights are as they were: lower the learning rate or clean the data")  # fmt: skip
        train = {"loss": position.loss_sum / position.rows, "learning_rate": self._learning_rate()}
        measured = {**train, **{f"validation_{k}": v for k, v in self._validate().items()}}
        for name, value in measured.items():
            run.history.setdefault(name, []).append(value)
        run.epoch = position.epoch + 1
        self.position = _Position(run.epoch)
        stopping = self.plan.stopping or EarlyStopping()
        _, score = score_of(measured, stopping.monitor)
        self.best = self.best.after(score, run.epoch, run.step, stopping.min_delta if self.plan.stopping else 0.0)
        run.best_epoch = self.best.epoch
        if self.plan.stopping is not None and self.best.waited == 0:
            self.best_arrays = self.net.state_dict()
        self._schedule_epoch(measured)
        bar.epoch(run.epoch, measured)
        self._note_epoch(directory, measured)
        asked = [callback.on_epoch(run, run.epoch, measured) for callback in self.callbacks]
        stop = True in asked or (self.plan.stopping is not None and self.best.waited >= self.plan.stopping.patience)
        self._save(directory, bar, always=False)
        return stop

    def _validate(self) -> dict[str, float]:
        held = self.rows.validation_x if isinstance(self.rows, Dataset) else None
        if held is None:
            return {}
        truth = self.rows.validation_y  # type: ignore[union-attr]
        loss, prediction = self.evaluation(held, truth, max(self.plan.batch_size, 256))
        return {"loss": loss, **{name: metric(prediction, truth) for name, metric in self.metrics.items()}}

    def _schedule_epoch(self, measured: dict[str, float]) -> None:
        schedule = self.plan.schedule
        if schedule is None:
            return
        self.schedule_state = schedule.observe(self.schedule_state, measured.get("validation_loss", measured["loss"]))
        if schedule.every == "epoch":
            self.scheduled += 1

    def _note_epoch(self, directory: RunDirectory | None, measured: dict[str, float]) -> None:
        if directory is None:
            self.pending = []
            return
        self._flush(directory)
        train = {k: v for k, v in measured.items() if not k.startswith("validation_")}
        held = {k.removeprefix("validation_"): v for k, v in measured.items() if k.startswith("validation_")}
        directory.record.append_epoch(self.run.epoch, self.run.step, "train", train)
        if held:
            directory.record.append_epoch(self.run.epoch, self.run.step, "validation", held)

    def _flush(self, directory: RunDirectory) -> None:
        if self.pending:
            directory.record.append_steps(self.pending)
            self.pending = []

    # -------------------------------------------------------------------------------------------- checkpoints

    def _save(self, directory: RunDirectory | None, bar: Progress, always: bool) -> None:
        """A checkpoint, unless one was made within the last seconds: an epoch of milliseconds needs none of its own."""
        if directory is None or (not always and time.monotonic() - self.saved_at < SECONDS_BETWEEN_CHECKPOINTS):
            return
        self._flush(directory)
        header = {
            "step": self.run.step,
            "epoch": self.position.epoch,
            "position": vars(self.position),
            "best": self.best.to_dict(),
            "schedule": self.schedule_state,
            "scheduled": self.scheduled,
            "skipped": self.run.skipped,
            "data": self.data_digest(),
            "preprocess": None if self.run.preprocess is None else json.dumps(self.run.preprocess.to_dict()),
        }
        arrays = self.step.state.arrays()
        if self.best_arrays is not None:
            arrays.update({f"best.{n}": a for n, a in self.best_arrays.items()})
        directory.save(arrays, header, self.best.score if self.best.waited == 0 and self.best.epoch else None)
        self.saved_at = time.monotonic()

    def data_digest(self) -> str:
        """A fingerprint of the rows, from up to a thousand of them."""
        if isinstance(self.rows, Stream):
            return "stream"
        x, y = self.rows.x, self.rows.y
        every = max(len(x) // 1000, 1)
        digest = hashlib.blake2b(f"{x.shape}{x.dtype}{y.shape}{y.dtype}".encode(), digest_size=16)
        for part in (x, y):
            digest.update(np.ascontiguousarray(part[::every]).tobytes())
        return digest.hexdigest()

    # -------------------------------------------------------------------------------------------- examples

    def _examples(self, bar: Progress, count: int = 3) -> None:
        """Three predictions of held-out rows beside their truth, the worst first."""
        if isinstance(self.rows, Stream):
            return
        held = self.rows.validation_x is not None
        x, y = (self.rows.validation_x, self.rows.validation_y) if held else (self.rows.x, self.rows.y)
        x, y = x[:2000], y[:2000]
        prediction = self.net.predict(x)
        losses = [
            float(self.loss(constant(prediction[i : i + 1]), constant(y[i : i + 1])).item()) for i in range(len(x))
        ]
        order = np.argsort(-np.asarray(losses), kind="stable")
        chosen = [int(order[0]), int(order[len(order) // 2]), int(order[-1])][: min(count, len(order))]
        for i in chosen:
            self.run.examples.append(Example(i, self._shown(prediction[i]), self._shown(y[i]), losses[i]))
        if self.run.examples:
            bar.say(f"three {'held-out ' if held else ''}rows, the worst first:")
        for example in self.run.examples:
            bar.say(f"  {example}")

    def _shown(self, value: Any) -> str:
        """A prediction or a truth as people read it."""
        target = self.rows.target  # type: ignore[union-attr]
        array = np.asarray(value)
        if target.classes and array.dtype.kind in "iu":
            return target.classes[int(array)]
        if target.classes and array.size == len(target.classes) > 1:
            share = np.exp(array - array.max())
            return f"{target.classes[int(array.argmax())]} ({100 * share.max() / share.sum():.0f} %)"
        numbers = target.invert(array.reshape(1, -1))[0] if target.std is not None else array.reshape(-1)
        return ", ".join(f"{v:.4g}" for v in numbers[:8])


SECONDS_BETWEEN_CHECKPOINTS = 2.0


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ArgumentError(f"{name} must be a whole number of at least 1, got {value!r}")
    return int(value)


def _stopping(given: EarlyStopping | int | None) -> EarlyStopping | None:
    return EarlyStopping(given) if isinstance(given, int) and not isinstance(given, bool) else given  # type: ignore[return-value]


def _rows(data: Any, validation: Any, target: Any, loss: str, net: Module, seed: int, epochs: int) -> Dataset | Stream:
    """The data, checked, with targets as the loss takes them."""
    y = data[1] if isinstance(data, tuple) and len(data) == 2 else None
    dtype = net.dtype.name if isinstance(net, Module) else "float32"
    task = task_of(loss, y) if y is not None else None
    found = as_dataset(data, validation, target=target, task=task, seed=seed, dtype=dtype, epochs=epochs)
    if isinstance(found, Stream):
        if validation is not None:
            raise ArgumentError(
                "validation with an iterable of batches: pass (x, y) arrays or a Dataset as data instead"
            )
        return found
    if len(found.x) == 0:
        raise DataError("the data has no rows: nothing can be learned from it")
    held = None if found.validation_y is None else targets_for(loss, found.validation_y)
    return replace(found, y=targets_for(loss, found.y), validation_y=held)


def _metrics(given: Any, loss: str, rows: Dataset | Stream) -> dict[str, Metric]:
    if given is None:
        task = "regression" if isinstance(rows, Stream) or rows.task == "regression" else "classification"
        given = () if isinstance(rows, Stream) else default_metrics(task)
    entries = [given] if isinstance(given, str) or callable(given) else list(given)
    return {e if isinstance(e, str) else e.__name__: metric_named(e) if isinstance(e, str) else e for e in entries}


def _config(trainer: _Trainer, data: Any, options: Any) -> RunConfig:
    plan, rows = trainer.plan, trainer.rows
    schedule = {"name": "constant", "arguments": {}} if plan.schedule is None else describe(plan.schedule)
    optimizer = describe(trainer.step.state.optimizer)
    return RunConfig(
        source=getattr(rows, "source", "batches"),
        architecture=architecture_of(trainer.net),
        loss=Choice(trainer.loss_name),
        optimizer=Choice(optimizer["name"], optimizer["arguments"]),
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        seed=plan.seed,
        target=rows.target.name if isinstance(rows, Dataset) else None,
        learning_rate_schedule=Choice(schedule["name"], schedule["arguments"]),
        shuffle=plan.shuffle,
        drop_last=plan.drop_last,
        dtype=trainer.net.dtype.name,  # type: ignore[arg-type]
        backend=trainer.backend,
        accumulate=plan.accumulate,
        clip_norm=options.clip.norm,
        clip_value=options.clip.value,
        l1=options.l1,
        l2=options.l2,
        validation={"rows": 0 if getattr(rows, "validation_x", None) is None else len(rows.validation_x)},  # type: ignore[union-attr, arg-type]
        versions={"chainrule": __version__, "python": platform.python_version(), "numpy": np.__version__},
    )


def _directory(run_dir: str | Path | None, resume: bool, config: RunConfig) -> RunDirectory | None:
    if run_dir is None:
        if resume:
            raise ArgumentError("resume=True needs run_dir: the directory of the run to go on with")
        return None
    if not resume:
        return RunDirectory.create(run_dir, config)
    directory = RunDirectory.resume(run_dir)
    try:
        differing = [
            f"{name} (then {getattr(directory.config, name)!r}, now {getattr(config, name)!r})"
            for name in config.__struct_fields__
            if name not in ("epochs", "source", "versions", "backend")
            and getattr(directory.config, name) != getattr(config, name)
        ]
        if differing:
            raise ArgumentError(f"the run in {str(run_dir)!r} was made with other settings: {'; '.join(differing)[:600]}. "
                                "Use the same ones, or start a new run")  # fmt: skip
    except BaseException:
        directory.close()
        raise
    return directory
