"""`chainrule train`: from a source of rows to a trained network in a run's directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from chainrule.cli.options import Json, Quiet
from chainrule.cli.output import Output
from chainrule.cli.settings import Settings, settings_to_resume

_OWN = Settings("")  # the defaults, for the help


def _option(name: str, meaning: str, default: object = None, metavar: str | None = None) -> Any:
    """An option that is None unless it was given, so that a resumed run knows what was asked for."""
    told = meaning if default is None else f"{meaning} Default: {default}."
    return typer.Option(name, help=told, show_default=False, metavar=metavar)


def train(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A built-in data set (chainrule data list), a CSV, NPZ, NPY, Parquet or "
                       "IDX file, or a folder of IDX files."),
    ],
    target: Annotated[str | None, _option("--target", "The column to predict.", metavar="COLUMN")] = None,
    ignore: Annotated[
        list[str] | None, _option("--ignore", "A column to leave out; may be given several times.", metavar="COLUMN")
    ] = None,
    validation: Annotated[
        str | None,
        _option("--validation", "What to hold out: a share of the rows, a second file, or none.",
                "the source's own part, else 0.2", "SHARE|FILE"),
    ] = None,
    missing: Annotated[
        str | None,
        _option("--missing", "What to do with missing values: error, mean, median, most_frequent, or drop the row.",
                _OWN.missing, "POLICY"),
    ] = None,
    layers: Annotated[
        str | None, _option("--layers", "Widths of the hidden layers; none: no hidden layer.", "128,64", "WIDTHS")
    ] = None,
    activation: Annotated[
        str | None, _option("--activation", "After a hidden layer: relu, tanh, sigmoid, gelu.", _OWN.activation, "NAME")
    ] = None,
    batch_norm: Annotated[
        bool | None, typer.Option("--batch-norm", help="Normalise hidden layers over the batch.", show_default=False)
    ] = None,
    dropout: Annotated[
        float | None, _option("--dropout", "Share of the hidden activations dropped in training.", 0, "SHARE")
    ] = None,
    loss: Annotated[
        str | None,
        _option("--loss", "auto: cross_entropy for classes, mse for numbers. Or binary_cross_entropy_with_logits, mae, "
                "huber.", _OWN.loss, "NAME"),
    ] = None,
    optimizer: Annotated[
        str | None, _option("--optimizer", "adam, adamw, sgd, rmsprop or adagrad.", _OWN.optimizer, "NAME")
    ] = None,
    lr: Annotated[
        float | None, _option("--lr", "Learning rate.", "the optimizer's own, 0.001 for adam", "RATE")
    ] = None,
    schedule: Annotated[
        str | None,
        _option("--schedule", "Learning-rate schedule: step, multi-step, exponential, cosine, warmup, one-cycle or "
                "plateau.", _OWN.schedule, "NAME"),
    ] = None,
    epochs: Annotated[int | None, _option("--epochs", "Passes over the rows.", _OWN.epochs, "N")] = None,
    batch_size: Annotated[int | None, _option("--batch-size", "Rows of an update.", _OWN.batch_size, "N")] = None,
    clip_norm: Annotated[
        float | None, _option("--clip-norm", "Limit the norm of the whole gradient.", "no limit", "NORM")
    ] = None,
    l2: Annotated[float | None, _option("--l2", "Penalty on the squares of the weights.", 0, "FACTOR")] = None,
    early_stopping: Annotated[
        int | None,
        _option("--early-stopping", "Stop after so many epochs without a better validation loss, and keep the best "
                "weights.", "never", "EPOCHS"),
    ] = None,
    seed: Annotated[
        int | None, _option("--seed", "Of the split, the first weights, the order and dropout.", _OWN.seed, "N")
    ] = None,
    run: Annotated[
        Path | None,
        _option("--run", "Directory of the run, new or empty.", "runs/NAME, the first that is free", "DIR"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the unfinished run of --run, or with the latest of SOURCE, under its "
                     "own settings. Only --epochs may grow."),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Train a network on rows, and keep it in a run's directory.

    Target values that are words or a few whole numbers are classes; other numbers are learned as numbers.

    \b
    Examples:
      chainrule train digits
      chainrule train spirals --layers 32,32 --activation tanh --epochs 200
      chainrule train houses.csv --target price --missing mean --run runs/houses
      chainrule train digits --resume
    """
    asked = {
        "target": target, "ignore": tuple(ignore) if ignore else None, "validation": validation, "missing": missing,
        "layers": layers, "activation": activation, "batch_norm": batch_norm, "dropout": dropout, "loss": loss,
        "optimizer": optimizer, "lr": lr, "schedule": schedule, "epochs": epochs, "batch_size": batch_size,
        "clip_norm": clip_norm, "l2": l2, "early_stopping": early_stopping, "seed": seed,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    from chainrule.cli.learn import learn
    from chainrule.cli.network import layer_widths

    output = Output(json, quiet)
    if resume:
        path = run or _latest_unfinished(source)
        learn(settings_to_resume(path, source, given), path, True, output)
        return
    if layers is not None:
        given["layers"] = layer_widths(layers)
    learn(Settings(source, **given), run, False, output)


def _latest_unfinished(source: str) -> Path:
    from chainrule.errors import ArgumentError
    from chainrule.record import run_name, unfinished_runs

    found = unfinished_runs(source)
    if not found:
        name = run_name(source)
        raise ArgumentError(f"no unfinished run of {source!r} is in runs/{name}; name its directory with --run")
    return found[-1]
