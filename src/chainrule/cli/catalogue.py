"""Catalogue: the built-in data sets and the columns of a source, as tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from chainrule import data
from chainrule.cli.escape import escaped
from chainrule.cli.output import Output, line_width
from chainrule.cli.picture import pictures
from chainrule.data.labels import looks_like_classes

_MOST_CLASSES = 12
_MOST_COLUMNS = 40


def list_builtin(output: Output) -> None:
    """Names, sizes and tasks of the built-in data sets."""
    found = [data.describe(name) for name in data.names()]
    output.table(
        ("name", "rows", "inputs", "learns", "what it is"),
        [(d.name, f"{d.rows:,}", d.columns, f"{len(d.classes)} classes" if d.classes else "a number", d.summary)
         for d in found],
        right=(1, 2),
    )  # fmt: skip
    output.next("data", "show", found[0].name)
    output.result({"schema": 1, "data": [asdict(d) for d in found]})


def show(source: str, target: str | None, output: Output) -> None:
    """Rows, columns, classes and, for images, the first few."""
    table = data.read(source, target=target)
    goal = table.target
    described = [_column(column) for column in table.columns]
    held = table.validation
    more = "" if held is None else f", and {held.rows:,} more to hold out"
    output.show(f"{escaped(table.source)}: {table.rows:,} rows{more}, {len(table.columns)} columns")
    if source in data.names():
        d = data.describe(source)
        for line in (d.summary, f"source: {d.source}", f"licence: {d.licence}"):
            output.show(line)
    for note in table.notes:
        output.show(f"note: {escaped(note)}")
    _show_columns(described, goal, output)
    classes = _classes(table, goal)
    if classes:
        counts = ", ".join(f"{escaped(name, 40)}: {count:,}" for name, count in list(classes.items())[:_MOST_CLASSES])
        rest = f" … ({len(classes):,} classes)" if len(classes) > _MOST_CLASSES else ""
        output.show(f"classes of {escaped(goal, 60)}: {counts}{rest}")
    for line in _pictures(table, goal):
        output.show(line)
    output.next("train", source, *([] if goal is not None and target is None else ["--target", target or "COLUMN"]))
    found: dict[str, Any] = {"schema": 1, "source": table.source, "rows": table.rows, "columns": described}
    output.result({**found, "target": goal, "classes": classes or None, "notes": list(table.notes)})


def _show_columns(described: list[dict[str, Any]], goal: str | None, output: Output) -> None:
    rows = [
        (c["name"] + (" (target)" if c["name"] == goal else ""), _kind(c), f"{c['missing']:,}",
         *(_short(c.get(key)) for key in ("min", "mean", "max")))
        for c in described[:_MOST_COLUMNS]
    ]  # fmt: skip
    output.table(("column", "kind", "missing", "min", "mean", "max"), rows, right=(2, 3, 4, 5))
    if len(described) > _MOST_COLUMNS:
        output.show(f"… and {len(described) - _MOST_COLUMNS:,} more columns")


def _column(column: data.Column) -> dict[str, Any]:
    gone = column.missing()
    found: dict[str, Any] = {"name": column.name, "kind": column.kind, "shape": list(column.shape),
                             "missing": int(gone.sum())}  # fmt: skip
    if column.kind == "text":
        return {**found, "distinct": len({value for value in column.values.tolist() if value is not None})}
    values = column.values[~gone]
    if values.size == 0:
        return found
    with np.errstate(all="ignore"):  # infinities and overflow are shown as they are
        mean = float(values.mean(dtype=np.float64))
    return {**found, "min": float(values.min()), "mean": mean, "max": float(values.max())}


def _kind(column: dict[str, Any]) -> str:
    if column["kind"] == "text":
        return f"text, {column['distinct']:,} different"
    return " x ".join(map(str, column["shape"])) + " numbers" if column["shape"] else column["kind"]


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _classes(table: data.Table, goal: str | None) -> dict[str, int]:
    """Counts of the target's values, where they are taken for classes."""
    if goal is None or table.task == "regression":
        return {}
    column = table.column(goal)
    if column.shape or (table.task is None and not looks_like_classes(column)):
        return {}
    present = column.values[~column.missing()]
    if column.kind == "text":
        names, counts = np.unique(present.astype(str), return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))
    numbers, counts = np.unique(present, return_counts=True)
    return {f"{value:g}": int(count) for value, count in zip(numbers.tolist(), counts.tolist(), strict=True)}


def _pictures(table: data.Table, goal: str | None) -> list[str]:
    images = [
        c for c in table.columns if len(c.shape) == 2 and c.name != goal and 2 < min(c.shape) <= max(c.shape) < 65
    ]
    if len(images) != 1 or table.rows == 0:
        return []
    truth = table.column(goal).values if goal is not None else None
    captions = None if truth is None or truth.ndim > 1 else [str(value) for value in truth[:8].tolist()]
    return pictures(images[0].values[:8], captions, line_width())
