"""Answer: predictions of a run beside the truth where it is known, as CSV."""

from __future__ import annotations

import csv
import io
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chainrule import data
from chainrule.cli.escape import escaped
from chainrule.cli.output import Output
from chainrule.cli.rows import rows_of
from chainrule.cli.settings import kept_settings
from chainrule.data import Preprocess, Target
from chainrule.errors import ArgumentError
from chainrule.nn import Module
from chainrule.record.durable import replace_file
from chainrule.training import Run

Columns = dict[str, list[str] | list[float]]

_SHOWN = 20
"""Rows that a terminal shows; a file or a pipe gets all."""


@dataclass(frozen=True)
class _Rows:
    """What to predict.

    x: as the network takes it; y: the truth as the loss takes it, if it is known; exact: its numbers as they were read.
    """

    name: str
    x: np.ndarray
    y: np.ndarray | None
    exact: np.ndarray | None = None


def answer(path: Path, source: str | None, out: Path | None, force: bool, output: Output) -> None:
    """Predict the rows of ``source``, or those that the run held out, and write them where they are wanted."""
    _refuse_existing(out, force)
    run = Run.load(path)
    preprocess = run.preprocess
    if preprocess is None:
        raise ArgumentError(
            f"run {str(path)!r} learned from arrays, so no file can be treated alike; use Run.load in Python"
        )
    rows = _own_rows(path) if source is None else _rows_of_source(source, preprocess)
    columns = answers(run.net, preprocess.target, rows.x, rows.y)
    if rows.exact is not None:
        columns.update(_numbers("truth", rows.exact.astype(np.float64)))
    _write(columns, out, output)
    count = len(rows.x)
    measured = _measured(columns, preprocess)
    output.say("".join([f"{count:,} rows of {escaped(rows.name)}", *(f", {k} {v:.4g}" for k, v in measured.items())]))
    if out is None:
        output.next("predict", str(path), *([source] if source else []), "--out", "predictions.csv")
    else:
        output.say(f"written to {escaped(out)}")
        output.next("check", str(path))
    found = {
        "schema": 1,
        "run": str(path),
        "source": rows.name,
        "rows": count,
        "out": None if out is None else str(out),
    }
    output.result({**found, **measured, **({} if out is not None else {"predictions": _records(columns)})})


def _refuse_existing(out: Path | None, force: bool) -> None:
    if out is None:
        return
    if out.is_dir():
        raise ArgumentError(f"--out {str(out)!r} is a directory; give the name of a file")
    if out.exists() and not force:
        raise ArgumentError(f"--out {str(out)!r} is there already; give another name, or --force to overwrite it")


def _own_rows(path: Path) -> _Rows:
    settings = kept_settings(path)
    if settings is None:
        raise ArgumentError(
            f"run {str(path)!r} was started in Python; say what to predict: chainrule predict {path} FILE"
        )
    rows = rows_of(settings)
    if rows.validation_x is None:
        return _Rows(f"{rows.source} (all rows)", rows.x, rows.y)
    return _Rows(f"{rows.source} (held out)", rows.validation_x, rows.validation_y)


def _rows_of_source(source: str, preprocess: Preprocess) -> _Rows:
    table = data.read(source, like=preprocess)
    target = preprocess.target
    x = preprocess.apply(table)
    if target.name not in table.names:
        return _Rows(table.source, x, None)
    exact = table.column(target.name).values if target.task == "regression" else None
    return _Rows(table.source, x, preprocess.targets(table), exact)


def answers(net: Module, target: Target, x: np.ndarray, y: np.ndarray | None) -> Columns:
    """Columns by name: "prediction", for classes "probability", and "truth" where it is known (``y``)."""
    outputs = net.predict(x)
    if target.task == "regression":
        found = _numbers("prediction", _rounded(target.invert(outputs.reshape(len(outputs), -1)), target))
        return found if y is None else {**found, **_numbers("truth", _rounded(target.invert(y), target))}
    shares = _probabilities(outputs)
    chosen = shares.argmax(axis=1)
    names = target.classes or tuple(map(str, range(shares.shape[1])))
    truth = None if y is None else y if y.ndim == 1 else y.argmax(axis=1)
    return {
        "prediction": [names[i] for i in chosen],
        "probability": [round(float(p), 6) for p in shares[np.arange(len(chosen)), chosen]],
        **({} if truth is None else {"truth": [names[int(i)] for i in truth]}),
    }


def _rounded(values: np.ndarray, target: Target) -> np.ndarray:
    """Without the digits that float32 made up: it holds about six of the target's deviation."""
    decimals = 6 - math.ceil(math.log10(min(target.std or (1.0,))))
    return np.round(values, min(max(decimals, 0), 300))


def _numbers(name: str, values: np.ndarray) -> Columns:
    """One column, or ``name[0]``, ``name[1]`` … for targets of several numbers."""
    columns = [column.tolist() for column in values.reshape(len(values), -1).T]
    return {name: columns[0]} if len(columns) == 1 else {f"{name}[{i}]": column for i, column in enumerate(columns)}


def _probabilities(outputs: np.ndarray) -> np.ndarray:
    """[rows, classes] from logits; one logit is that of the second of two classes."""
    logits = outputs.reshape(len(outputs), -1).astype(np.float64)
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _measured(columns: Columns, preprocess: Preprocess) -> dict[str, float]:
    if preprocess.target.task == "regression":
        pairs = [(columns[name], columns[name.replace("prediction", "truth")]) for name in columns
                 if name.replace("prediction", "truth") in columns and name.startswith("prediction")]  # fmt: skip
        return {"rmse": float(np.sqrt(np.mean([(np.array(a) - np.array(b)) ** 2 for a, b in pairs])))} if pairs else {}
    if "truth" not in columns:
        return {}
    return {"accuracy": float(np.mean([a == b for a, b in zip(columns["prediction"], columns["truth"], strict=True)]))}


def _write(columns: Columns, out: Path | None, output: Output) -> None:
    if out is not None:
        replace_file(out, _csv(columns).encode())
    elif not output.json and sys.stdout.isatty():
        rows = list(zip(*columns.values(), strict=True))
        output.table(list(columns), rows[:_SHOWN])
        if len(rows) > _SHOWN:
            output.show(f"… and {len(rows) - _SHOWN:,} more rows")
    elif not output.json:
        sys.stdout.write(_csv(columns))
        sys.stdout.flush()


def _csv(columns: Columns) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _records(columns: Columns) -> list[dict[str, str | float]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
