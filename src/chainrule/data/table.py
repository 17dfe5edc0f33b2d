"""Table: named columns as they were read, before anything is fitted, filled or scaled."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from chainrule.data.checks import Array, listed, nearest, shown
from chainrule.errors import ArgumentError, DataError

Kind = Literal["numeric", "text", "boolean"]


@dataclass(frozen=True, eq=False)
class Column:
    """One named input or target.

    values  numeric: real numbers [rows] or a block of them [rows, ...], NaN where missing;
            text: an object array [rows] of str, None where missing;
            boolean: 0.0 and 1.0 [rows], NaN where missing.
    scale   the largest value the source can hold (255 for bytes of an image), where it says so: then
            `standardise="auto"` divides by it and leaves the mean alone.
    """

    name: str
    kind: Kind
    values: Array
    scale: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row: () for a plain column, (28, 28) for an image."""
        return self.values.shape[1:]

    @property
    def width(self) -> int:
        """How many numbers or texts a row has."""
        return int(np.prod(self.shape, dtype=np.int64))

    def missing(self) -> Array:
        """True where a value is missing; the shape of `values`."""
        if self.kind == "text":
            return np.frompyfunc(lambda value: value is None, 1, 1)(self.values).astype(bool)
        if self.values.dtype.kind == "f":
            return np.isnan(self.values)
        return np.zeros(self.values.shape, dtype=bool)

    @cached_property
    def complete(self) -> bool:
        """Whether no value is missing. Kept, for large arrays are asked often."""
        return not self.missing().any()

    @property
    def empty(self) -> bool:
        """Whether there is no value at all."""
        return not self.values.size or (not self.complete and bool(self.missing().all()))

    def take(self, rows: Array) -> "Column":
        """The column of these rows only."""
        return replace(self, values=self.values[rows])


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of equal length from one source.

    lines       the line of the file each row starts at, for messages; None where rows have no lines.
    validation  the source's own second part (Fashion-MNIST's t10k files, `x_test` of an .npz), if it has one.
    task        "classification" or "regression" where the source says so; None leaves it to the target's values.
    dense       class labels are indices already (0, 1, 2 …) and keep their numbers.
    missing_words   the words that were read as missing, where the source is text.
    notes       what reading decided on its own, a sentence each.
    """

    source: str
    columns: tuple[Column, ...]
    target: str | None = None
    path: str | None = None
    lines: Array | None = None
    validation: "Table | None" = None
    task: str | None = None
    dense: bool = False
    missing_words: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.columns:
            raise DataError(f"{self.source}: no columns")
        lengths = {len(column.values) for column in self.columns}
        if len(lengths) > 1:
            each = ", ".join(f"{shown(column.name)} {len(column.values):,}" for column in self.columns[:12])
            raise DataError(f"{self.source}: columns differ in length: {each}; every column needs one value a row")

    @property
    def rows(self) -> int:
        """How many rows every column has."""
        return len(self.columns[0].values)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names in the order of the source."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column of this name; ArgumentError lists the names there are."""
        for column in self.columns:
            if column.name == name:
                return column
        raise ArgumentError(
            f"{self.source} has no column {shown(name)}; it has {listed(self.names)}{nearest(name, self.names)}"
        )

    def take(self, rows: Array) -> "Table":
        """The table of these rows only, in this order."""
        lines = None if self.lines is None else self.lines[rows]
        return replace(self, columns=tuple(column.take(rows) for column in self.columns), lines=lines, validation=None)

    def without(self, names: tuple[str, ...]) -> "Table":
        """The table without these columns; each has to exist."""
        for name in names:
            self.column(name)
        kept = tuple(column for column in self.columns if column.name not in names)
        if not kept:
            raise ArgumentError(f"{self.source}: ignoring {listed(names)} leaves no column")
        own = None if self.validation is None else self.validation.without(names)
        return replace(self, columns=kept, validation=own)

    def where(self, row: int) -> str:
        """A row for a message: `houses.csv:17` where lines are known, else `row 15` (counted from 0)."""
        return f"row {row}" if self.lines is None else f"{self.source}:{int(self.lines[row])}"
