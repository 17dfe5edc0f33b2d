"""Learn: one training from settings, announced, watched and summed up."""

from __future__ import annotations

import math
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chainrule.cli.answer import answers
from chainrule.cli.escape import escaped
from chainrule.cli.network import build_network, build_optimizer, build_schedule, loss_for
from chainrule.cli.output import Output, next_line
from chainrule.cli.rows import rows_of
from chainrule.cli.settings import Settings
from chainrule.cli.watch import Watch
from chainrule.data import Dataset, names
from chainrule.nn import Sequential
from chainrule.record import RunDirectory, claim_directory
from chainrule.training import Callback, Run, fit


def learn(settings: Settings, path: Path | None, resume: bool, output: Output) -> None:
    """One training, announced, watched and summed up."""
    rows = rows_of(settings)
    loss = loss_for(settings, rows)
    net = build_network(settings, rows, loss)
    optimizer = build_optimizer(settings)
    updates = math.ceil(len(rows.x) / settings.batch_size) if settings.batch_size > 0 else 1
    schedule = build_schedule(settings, optimizer.lr, updates) if settings.epochs > 0 else None
    directory = path or claim_directory(settings.source)
    start = _Start(settings, rows, net, output)
    try:
        with _watch(settings, updates, output) as watching:
            result = fit(
                net, rows, loss=loss, optimizer=optimizer, epochs=settings.epochs, batch_size=settings.batch_size,
                learning_rate_schedule=schedule, clip_norm=settings.clip_norm, l2=settings.l2,
                early_stopping=settings.early_stopping, callbacks=[start, *watching], seed=settings.seed,
                run_dir=directory, resume=resume, progress=False,
            )  # fmt: skip
    except BaseException as error:
        if path is None:
            with suppress(OSError):
                directory.rmdir()  # it ended before the run began: leave no empty directory
        if isinstance(error, KeyboardInterrupt):
            _note_what_is_kept(error, settings, directory)
        raise
    _sum_up(result, settings, rows, output)


def _watch(settings: Settings, updates: int, output: Output) -> Any:
    """A context that gives the callbacks which show the progress: a bar where somebody is looking, else none."""
    return Watch(settings.epochs, updates, settings.batch_size) if output.live else nullcontext(())


@dataclass(frozen=True)
class _Start(Callback):
    """When training starts, and not before, because much can be refused: keep the settings, say what is learned."""

    settings: Settings
    rows: Dataset
    net: Sequential
    output: Output

    def on_start(self, run: Run) -> None:
        if run.path is not None:
            self.settings.keep(run.path)
        _announce(self.rows, self.net, self.output)


def _announce(rows: Dataset, net: Sequential, output: Output) -> None:
    held = 0 if rows.validation_x is None else len(rows.validation_x)
    what = f"{len(rows.classes)} classes" if rows.classes else "numbers"
    output.say(
        f"{escaped(rows.source)}: {len(rows.x):,} rows to learn from, {held:,} held out; "
        f"{math.prod(rows.input_shape):,} inputs, {escaped(rows.target.name, 60)} as {what}"
    )
    for note in rows.notes:
        output.say(f"note: {escaped(note)}")
    widths = [str(layer.in_features) for layer in net if hasattr(layer, "in_features")]
    count = sum(parameter.size for parameter in net.parameters())
    output.say(f"network: {' > '.join([*widths, str(rows.outputs)])}, {count:,} parameters")


def _sum_up(result: Run, settings: Settings, rows: Dataset, output: Output) -> None:
    at = result.best_epoch - 1 if settings.early_stopping is not None else -1
    measured = {name: values[at] for name, values in result.history.items()}
    _show_examples(result, rows, output)
    best = f", best epoch {result.best_epoch} kept" if settings.early_stopping is not None else ""
    output.say(f"epochs {result.epoch}{best}, loss {measured['loss']:.4g}")
    for line in _validation_lines(measured, rows):
        output.say(line)
    output.say(f"run kept in {escaped(result.path)}")
    output.next("predict", str(result.path), *_rows_to_predict(settings))
    held = {name.removeprefix("validation_"): v for name, v in measured.items() if name.startswith("validation_")}
    output.result({**result.summary(), "loss": measured["loss"], "validation": held or None})


def _show_examples(result: Run, rows: Dataset, output: Output) -> None:
    """What `fit` chose to show: three rows, the worst first, as `chainrule predict` would say them."""
    x, y = rows.x, rows.y
    if rows.validation_x is not None and rows.validation_y is not None:
        x, y = rows.validation_x, rows.validation_y
    chosen = [example.row for example in result.examples]
    if not chosen:
        return
    found = answers(result.net, rows.target, x[chosen], y[chosen])
    output.say("three predictions, the worst first:")
    for row in zip(*found.values(), strict=True):
        entries = (f"{name} {escaped(value, 60)}" for name, value in zip(found, row, strict=True))
        output.say(f"  {', '.join(entries)}")


def _rows_to_predict(settings: Settings) -> tuple[str, ...]:
    return () if settings.source in names() or Path(settings.source).is_dir() else (settings.source,)


def _validation_lines(measured: dict[str, float], rows: Dataset) -> list[str]:
    lines = []
    if "validation_loss" in measured:
        lines.append(f"validation loss {measured['validation_loss']:.4g}")
    if "validation_accuracy" in measured:
        lines.append(f"validation accuracy {100 * measured['validation_accuracy']:.1f} %")
    if "validation_r2" in measured:
        lines.append(f"validation R2 {measured['validation_r2']:.4f} (1 is perfect, 0 no better than the mean)")
    if "validation_rmse" in measured:
        name = escaped(rows.target.name, 60)
        lines.append(f"validation error {measured['validation_rmse']:.4g} (rms, in the units of {name})")
    return lines


def _note_what_is_kept(interrupt: KeyboardInterrupt, settings: Settings, directory: Path) -> None:
    """Notes on the exception: what is kept, and the command that goes on with it."""
    if not (directory / "config.json").exists():
        return
    steps = RunDirectory.open(directory).checkpoints()
    if steps:
        interrupt.add_note(f"a checkpoint of step {steps[-1]:,} is in {escaped(directory)}")
    interrupt.add_note(next_line("train", settings.source, "--run", str(directory), "--resume"))
