"""Dataset: rows ready for training, with the description that treats later rows alike; and how one is made."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data.checks import Array, listed, require_choice, shown
from chainrule.data.labels import TASKS, Target, fit_target
from chainrule.data.preprocess import MISSING, Preprocess, fit_preprocess, require_complete
from chainrule.data.source import read
from chainrule.data.split import split_rows
from chainrule.data.table import Table
from chainrule.errors import ArgumentError, DataError

# Without a word about validation, this share of the rows is held out, unless the source has its own second part.
DEFAULT_SHARE = 0.2
_TARGET_NAMES = ("target", "label", "class", "y")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows ready for training.

    x, y            float [rows, *input_shape]; int64 class indices [rows], or float32 [rows, k] (numbers,
                    probabilities).
    validation_x, validation_y   the same for the validation part, or None.
    preprocess      how x was made from raw columns, fitted on the training part only.
    target          what y means: task, class names in the order of their indices, units.
    notes           what was decided or changed on the way, a sentence each.
    """

    x: Array
    y: Array
    validation_x: Array | None
    validation_y: Array | None
    preprocess: Preprocess
    source: str
    notes: tuple[str, ...] = ()

    @property
    def target(self) -> Target:
        """What y means."""
        return self.preprocess.target

    @property
    def task(self) -> str:
        """ "classification", "probabilities" or "regression"."""
        return self.target.task

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names in the order of their indices; empty for regression."""
        return self.target.classes

    @property
    def features(self) -> tuple[str, ...]:
        """A name for each number of an input row."""
        return self.preprocess.features

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one row of x."""
        return self.x.shape[1:]

    @property
    def outputs(self) -> int:
        """How many outputs a network needs for this target."""
        return self.target.outputs


def prepare(
    table: Table,
    *,
    target: str | int | None = None,
    validation: "float | str | Table | None" = "auto",
    seed: int = 0,
    standardise: bool | str = "auto",
    standardise_target: bool = True,
    missing: str = "error",
    task: str | None = None,
    ignore: Collection[str] = (),
    flat: bool = True,
    dtype: str = "float32",
    ignore_index: int | None = None,
) -> Dataset:
    """A table's rows ready for training.

    target      the column to predict, by name or position; None: the one the source names, or the only one called
                target, label, class or y.
    validation  a share of the rows between 0 and 1, a Table, or None; "auto": the source's own second part, else 0.2.
                A split is decided by `seed` and keeps the classes' proportions.
    missing     what happens to missing values: "error", "mean", "median", "most_frequent" or "drop" (the rows).
    task        "classification", "regression" or "probabilities"; None: by the target's values.
    ignore      columns that are not used.
    standardise_target   regression: train towards mean 0 and deviation 1; `target.invert` gives the units back.
    ignore_index         a label that is kept and is no class (PyTorch's name).

    `standardise` and `flat` are those of `fit_preprocess`. Everything is fitted on the training part only.
    """
    require_choice(missing, "missing", MISSING)
    require_choice(task, "task", TASKS)
    name = _target_name(table, target)
    table = table.without(tuple(ignore)) if ignore else table
    second = table.validation if validation == "auto" else validation
    if isinstance(second, Table) and ignore:
        second = second.without(tuple(column for column in ignore if column in second.names))
    notes = table.notes
    if missing == "drop":
        table, dropped = _complete_rows(table)
        notes += (f"{dropped:,} rows with missing values were left out",) if dropped else ()
        if isinstance(second, Table):
            second, _ = _complete_rows(second)
    elif missing == "error":
        require_complete(_inputs(table, name))
    else:
        notes += _said_missing(table, missing)
    truth = table.column(name)
    fitted = fit_target(truth, task or table.task, dense=table.dense, ignored=ignore_index, where=table.where)
    train, held = _parts(table, fitted, DEFAULT_SHARE if second is None and validation == "auto" else second, seed)
    if fitted.task == "regression" and standardise_target:
        fitted = fit_target(train.column(name), "regression", standardise=True)
    preprocess = fit_preprocess(
        _inputs(train, name),
        fitted,
        standardise=standardise,
        missing=missing,
        flat=flat,
        ignored=(name, *ignore),
        dtype=dtype,
    )
    x, y = preprocess.apply(_inputs(train, name)), fitted.encode(train.column(name), train.where)
    if held is None:
        return Dataset(x, y, None, None, preprocess, table.source, notes)
    held_x, held_y = preprocess.apply(held), fitted.encode(held.column(name), held.where)
    return Dataset(x, y, held_x, held_y, preprocess, table.source, notes)


def load(
    source: str | Path,
    *,
    target: str | int | None = None,
    validation: "float | str | Path | Table" = "auto",
    seed: int = 0,
    standardise: bool | str = "auto",
    missing: str = "error",
    task: str | None = None,
    ignore: Collection[str] = (),
    flat: bool = True,
    **reading: Any,
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """((x, y), (validation x, validation y)) of a built-in data set or a file.

    x is float32; y is int64 class indices, or float32 [rows, k] in the target's own units. `validation` may also be the
    path of a second file. `reading` goes to `read` (delimiter, encoding, header …), the rest means what it means for
    `prepare`, which gives names of classes and the treatment of new rows as well.

    >>> (x, y), (xv, yv) = load("digits")
    >>> x.shape, str(x.dtype), y.shape, xv.shape
    ((1438, 64), 'float32', (1438,), (359, 64))
    """
    table = read(source, target=target, ignore=ignore, **reading)
    if validation is None or (isinstance(validation, int | float) and validation == 0):
        raise ArgumentError("load gives two parts; for one only use data.prepare(data.read(source), validation=None)")
    if isinstance(validation, Path) or (isinstance(validation, str) and validation != "auto"):
        validation = read(validation, target=target, ignore=ignore, **reading)
    ready = prepare(
        table,
        target=table.target if target is None or table.target is not None else target,
        validation=validation,
        seed=seed,
        standardise=standardise,
        standardise_target=False,
        missing=missing,
        task=task,
        flat=flat,
    )
    if ready.validation_x is None or ready.validation_y is None:
        raise DataError(f"{table.source}: the validation part is empty")
    return (ready.x, ready.y), (ready.validation_x, ready.validation_y)


def _target_name(table: Table, target: str | int | None) -> str:
    if isinstance(target, int) and not isinstance(target, bool):
        if not -len(table.names) <= target < len(table.names):
            raise ArgumentError(f"{table.source}: target={target} is outside its {len(table.names)} columns")
        return table.names[target]
    if isinstance(target, bool):
        raise ArgumentError(f"target is {target}; pass the name or the position of the column to predict")
    if target is not None:
        return table.column(target).name
    if table.target is not None:
        return table.target
    named = [name for name in table.names if name.lower() in _TARGET_NAMES]
    if len(named) == 1:
        return named[0]
    hint = "; ".join(table.notes)
    raise ArgumentError(
        f"{table.source}: which column is to be predicted? Pass target=, one of {listed(table.names)}"
        + (f" ({hint})" if hint else "")
    )


def _inputs(table: Table, target: str) -> Table:
    if table.names == (target,):
        raise DataError(
            f"{table.source} has no column besides the target {shown(target)}; there is nothing to learn from"
        )
    return table.without((target,))


def _complete_rows(table: Table) -> tuple[Table, int]:
    gone = np.zeros(table.rows, dtype=bool)
    for column in table.columns:
        gone |= column.missing().reshape(table.rows, -1).any(axis=1)
    if gone.all():
        raise DataError(f"{table.source}: every row has a missing value; missing='drop' would leave none")
    return (table.take(np.flatnonzero(~gone)), int(gone.sum())) if gone.any() else (table, 0)


def _said_missing(table: Table, policy: str) -> tuple[str, ...]:
    notes = []
    for column in table.columns:
        count = int(column.missing().sum())
        if count:
            rule = policy if column.kind == "numeric" else "most_frequent"
            notes.append(f"column {shown(column.name)}: {count:,} missing values filled by {rule}")
    return tuple(notes)


def _parts(
    table: Table, target: Target, validation: "float | str | Path | Table | None", seed: int
) -> tuple[Table, Table | None]:
    """(training rows, validation rows or None)."""
    if validation is None:
        return table, None
    if isinstance(validation, Table):
        return table, validation
    if isinstance(validation, str | Path):
        raise ArgumentError(
            f"validation is {shown(validation)}; pass a share, a Table from data.read(...), 'auto' or None"
        )
    labels = None
    if target.task == "classification" and not target.shape:
        labels = target.encode(table.column(target.name), table.where)
    train, held = split_rows(table.rows, validation, seed, labels)
    return table.take(train), table.take(held)
