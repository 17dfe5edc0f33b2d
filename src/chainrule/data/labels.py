"""Targets: what the truth is made of, as class indices or as numbers, and the way back to names and units."""

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from chainrule.data.checks import Array, as_floats, listed, position, require_choice, require_finite, shown
from chainrule.data.table import Column
from chainrule.errors import ArgumentError, ChainruleWarning, DataError, ShapeError

Task = Literal["classification", "probabilities", "regression"]
TASKS = ("classification", "probabilities", "regression", None)
Label = str | int | bool

# A numeric column with no more different whole numbers than this, each twice on average, is taken for classes.
_FEW = 20
# Labels that count from 0 keep their numbers below this many, or while a quarter of them occur.
_DENSE = 1000
_MOST_CLASSES = 1_000_000
_SUM_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Target:
    """What a network is trained towards.

    labels  classification: the label of each class, in the order of the classes: numbers ascending, False before True,
            texts by code point. Class i is `labels[i]`.
    shape   the shape of one row's truth: () for a class, (k,) for k numbers or k probabilities.
    mean, std   regression: the training part's, where targets are standardised; one a number.
    """

    name: str
    task: Task
    labels: tuple[Label, ...] = ()
    shape: tuple[int, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    ignored: int | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names."""
        return tuple(str(label) for label in self.labels)

    @property
    def outputs(self) -> int:
        """How many outputs a network needs: one a class, or one a number."""
        return len(self.labels) if self.task == "classification" else int(np.prod(self.shape, dtype=np.int64))

    def encode(self, column: Column, where: Any = None) -> Array:
        """Truths as the loss takes them: int64 class indices [rows], or float32 [rows, k].

        where  row number -> its place in the source, for messages.
        """
        place = where or (lambda row: f"row {row}")
        _require_complete(column, place)
        if self.task == "classification":
            return self._indices(column, place)
        values = _numeric(column)
        if values.ndim == 1:
            values = values[:, None]  # the one safe reshape: (n,) and (n, 1) hold the same numbers
        if values.shape[1:] != self.shape:
            raise ShapeError(f"target {shown(self.name)} has rows of shape {values.shape[1:]}, not {self.shape}")
        if self.task == "probabilities":
            require_probabilities(values, self.name)
        require_finite(values, self.name)
        if self.mean is not None and self.std is not None:
            values = (values.astype(np.float64) - np.array(self.mean)) / np.array(self.std)
        return as_floats(values, self.name)

    def invert(self, predictions: Array) -> Array:
        """Predicted numbers in the target's own units: float64, the shape of `predictions`."""
        values = np.asarray(predictions, dtype=np.float64)
        if self.mean is None or self.std is None:
            return values
        return values * np.array(self.std) + np.array(self.mean)

    def names_of(self, indices: Array) -> list[str]:
        """The names of class indices."""
        return [self.classes[int(i)] for i in np.asarray(indices).reshape(-1)]

    def _indices(self, column: Column, place: Any) -> Array:
        if column.kind == "text" or isinstance(self.labels[0], str):
            found = [_as_label(value, self.labels[0]) for value in column.values.reshape(-1).tolist()]
            index = {label: i for i, label in enumerate(self.labels)}
            known: Array = np.array([index.get(label, -1) for label in found], dtype=np.int64)
            known = known.reshape(column.values.shape)
            skipped: Array = np.zeros(known.shape, dtype=bool)
        else:
            values = column.values
            labels = np.array([int(label) for label in self.labels], dtype=np.int64)
            skipped = np.zeros(values.shape, dtype=bool) if self.ignored is None else values == self.ignored
            known = np.minimum(np.searchsorted(labels, values), len(labels) - 1).astype(np.int64)
            known = np.where(labels[known] == values, known, -1)
        bad = (known < 0) & ~skipped
        if bad.any():
            first = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
            value = column.values.reshape(-1)[int(np.argmax(bad))]
            raise DataError(
                f"target {shown(self.name)} has {int(bad.sum()):,} labels that are no class of the training "
                "data (first: "
                f"{shown(getattr(value, 'item', lambda: value)())} at {place(first)}); classes are "
                f"{listed(self.labels, 6)}"
            )
        return np.where(skipped, np.int64(self.ignored or 0), known) if self.ignored is not None else known


def fit_target(
    column: Column,
    task: str | None,
    *,
    dense: bool = False,
    standardise: bool = False,
    ignored: int | None = None,
    where: Any = None,
) -> Target:
    """The target that `column`'s values make.

    task     None: texts, truth values and few whole numbers (at most 20 different ones, each at least twice on average)
             are classes, other numbers are values.
    dense    labels that count from 0 and are not sparse keep their numbers, also where a number does not occur.
    ignored  a label that stays what it is and is no class (PyTorch's ignore_index).
    """
    require_choice(task, "task", TASKS)
    _require_complete(column, where or (lambda row: f"row {row}"))
    chosen = task or ("classification" if looks_like_classes(column) else "regression")
    if chosen == "classification":
        labels = _labels(column, dense, ignored)
        if len(labels) == 1:
            _warn(f"target {shown(column.name)} has one class only, {shown(labels[0])}: there is nothing to tell apart")
        return Target(column.name, "classification", labels, column.shape, ignored=ignored)
    values = _numeric(column)
    shape = values.shape[1:] or (1,)
    if chosen == "probabilities":
        if len(shape) != 1 or shape == (1,):
            raise ShapeError(f"target {shown(column.name)} has shape {values.shape}; probabilities are [rows, classes]")
        return Target(column.name, "probabilities", (), shape)
    mean, std = _moments(values) if standardise else (None, None)
    return Target(column.name, "regression", (), shape, mean, std)


def looks_like_classes(column: Column) -> bool:
    """Whether values nobody said anything about are taken for classes."""
    if column.kind != "numeric":
        return True
    if column.shape:
        return False
    values = column.values[~column.missing()]
    if not np.array_equal(values, np.floor(values)):
        return False
    return len(np.unique(values)) <= min(_FEW, len(values) // 2)


def require_probabilities(values: Array, name: str) -> None:
    """Refuse rows that are not probabilities: below 0, or not adding up to 1 within 1e-5."""
    require_finite(values, name)
    if (values < 0).any():
        raise DataError(f"{name} has negative probabilities (first: {position(values < 0)})")
    sums = values.sum(axis=-1, dtype=np.float64)
    bad = np.abs(sums - 1.0) > _SUM_TOLERANCE
    if bad.any():
        raise DataError(
            f"{name}: {int(bad.sum()):,} rows of probabilities do not add up to 1 (first: row {int(np.argmax(bad))}, "
            f"sum {sums[int(np.argmax(bad))]:.6g}); divide each row by its sum"
        )


def _labels(column: Column, dense: bool, ignored: int | None) -> tuple[Label, ...]:
    if column.kind == "text":
        return tuple(sorted(set(column.values.reshape(-1).tolist())))
    if column.kind == "boolean":
        return tuple(value == 1.0 for value in np.unique(column.values).tolist())
    require_finite(column.values, column.name)
    distinct = np.unique(column.values)
    uneven = distinct[distinct != np.floor(distinct)]
    if len(uneven):
        bad = column.values != np.floor(column.values)
        raise DataError(
            f"target {shown(column.name)} has {int(bad.sum()):,} labels that are not whole numbers (first: "
            f"{uneven[0].item()}, {position(bad)}); round them, or train towards numbers with task='regression'"
        )
    if (np.abs(distinct).max() > 2.0**53 and distinct.dtype.kind == "f") or int(distinct[-1]) >= 2**63:
        raise DataError(f"target {shown(column.name)} has labels too large to be exact; pass them as texts")
    found = [int(value) for value in distinct.tolist() if ignored is None or value != ignored]
    if not found:
        raise DataError(f"target {shown(column.name)} has only the ignored label {ignored}")
    if len(found) > _MOST_CLASSES:
        raise DataError(f"target {shown(column.name)} has {len(found):,} different labels; pass task='regression'")
    if not dense:
        return tuple(found)
    if found[0] >= 0 and found[-1] < max(_DENSE, 4 * len(found)):
        return tuple(range(found[-1] + 1))
    _warn(
        f"target {shown(column.name)}: labels {listed(found, 6)} do not count from 0; they became classes 0 to "
        f"{len(found) - 1} in ascending order"
    )
    return tuple(found)


def _moments(values: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each number; 1 in place of a deviation of 0, so that a constant target is 0."""
    require_finite(values, "target")
    flat = values.reshape(len(values), -1).astype(np.float64)
    scale = np.maximum(np.abs(flat).max(axis=0), np.finfo(np.float64).tiny)
    mean, std = (flat / scale).mean(axis=0), (flat / scale).std(axis=0)
    constant = flat.max(axis=0) == flat.min(axis=0)
    if constant.any():
        _warn("the target is constant in the training part: there is nothing to learn")
    std = np.where(constant | (std * scale == 0), 1.0, std * scale)
    return tuple((mean * scale).tolist()), tuple(std.tolist())


def _numeric(column: Column) -> Array:
    if column.kind == "text":
        raise DataError(
            f"target {shown(column.name)} holds texts (first {shown(column.values[0])}); numbers are needed for "
            "regression, "
            "or train on classes with task='classification'"
        )
    return column.values


def _require_complete(column: Column, place: Any) -> None:
    gone = column.missing()
    if gone.any():
        rows = np.flatnonzero(gone.reshape(len(gone), -1).any(axis=1))
        raise DataError(
            f"target {shown(column.name)} is missing in {len(rows):,} rows (first: {place(int(rows[0]))}); a "
            "truth cannot "
            "be made up: fill it in, or leave these rows out with missing='drop'"
        )


def _as_label(value: Any, like: Label) -> Label:
    """A value read from elsewhere as the kind of label the classes have: 3.0 from a numeric column is the text '3'."""
    if isinstance(like, str) and not isinstance(value, str):
        return str(int(value)) if float(value).is_integer() else str(value)
    if not isinstance(like, str) and isinstance(value, str):
        raise ArgumentError(f"target holds the text {shown(value)} where classes are numbers such as {like!r}")
    return value


def _warn(message: str) -> None:
    warnings.warn(ChainruleWarning(message), stacklevel=4)
