"""What a person has in memory, as a Dataset or a Stream: arrays, tensors, dataframes, and iterables of batches."""

import warnings
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from chainrule.data.checks import (
    Array,
    array_of,
    as_floats,
    position,
    require_choice,
    require_integer,
    require_numbers,
    require_rows,
    require_same_rows,
)
from chainrule.data.dataset import Dataset, prepare
from chainrule.data.frames import is_frame, table_of_frame
from chainrule.data.labels import TASKS, require_probabilities
from chainrule.data.numpy_files import table_of_arrays
from chainrule.data.source import read
from chainrule.data.table import Table
from chainrule.errors import ArgumentError, ChainruleWarning, DataError, DTypeError

# Above this, float32 has no longer each whole number.
_EXACT_IN_FLOAT32 = 2**24


@dataclass(frozen=True, eq=False)
class Stream:
    """Batches that somebody else makes, checked as they come. Iterating it once is one epoch.

    task  as for a Dataset; None: whole numbers are class indices, other numbers are values.
    """

    batches: Iterable[Any]
    task: str | None = None
    dtype: str = "float32"
    ignore_index: int | None = None

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        number = -1
        for number, batch in enumerate(self.batches):
            yield self._checked(batch, f"batch {number}")
        if number < 0:
            raise DataError("data gave no batch; it is empty, or a generator that has already run through")

    def _checked(self, batch: Any, name: str) -> tuple[Array, Array]:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            found = f"{len(batch)} things" if isinstance(batch, tuple | list) else type(batch).__name__
            raise DataError(f"{name} is {found}; each batch must be a pair (x, y)")
        x, y = array_of(batch[0], f"{name}: x"), array_of(batch[1], f"{name}: y")
        require_numbers(x, f"{name}: x")
        require_numbers(y, f"{name}: y")
        require_rows(x, f"{name}: x")
        require_same_rows(x, y, (f"{name}: x", f"{name}: y"))
        return as_floats(x, f"{name}: x", self.dtype), self._truths(y, f"{name}: y")

    def _truths(self, y: Array, name: str) -> Array:
        task = self.task or ("regression" if y.dtype.kind == "f" else "classification")
        if task == "classification":
            return class_indices(y, name, self.ignore_index)
        if task == "probabilities":
            require_probabilities(y, name)
        return as_floats(y[:, None] if y.ndim == 1 else y, name)


def as_dataset(
    data: Any,
    validation: Any = None,
    *,
    target: str | int | None = None,
    task: str | None = None,
    seed: int = 0,
    standardise: bool | str = "auto",
    standardise_target: bool = False,
    missing: str = "error",
    ignore: Collection[str] = (),
    dtype: str = "float32",
    ignore_index: int | None = None,
    epochs: int = 1,
) -> Dataset | Stream:
    """Anything `cr.fit` takes, checked, as a Dataset; an iterable of batches becomes a Stream.

    data        (x, y) of arrays, lists or tensors; a dataframe with `target="column"`; a name, path or Table; a
                Dataset; or a re-iterable of (x, y) batches. A generator runs through once: it is refused for more
                than one epoch.
    validation  the same kind of thing, a share of the rows, or None.

    Arrays are taken as they are: `standardise="auto"` leaves them alone, x keeps its shape, and class labels that count
    from 0 keep their numbers. Their x may share memory with what was passed; it is read-only here. Targets of shape
    (n,) that are real numbers become (n, 1). Whole numbers of two dimensions can be one-hot rows, values or indices,
    so they need `task=`. Dataframes are treated as files are.
    """
    require_choice(task, "task", TASKS)
    if isinstance(data, Dataset):
        if validation is not None:
            raise ArgumentError("data is a Dataset, which has its validation part already; leave validation= out")
        return data
    if isinstance(data, str | PathLike):
        data = read(data, target=target, ignore=ignore)
    pair = isinstance(data, tuple) and len(data) == 2
    if not pair and not isinstance(data, Table) and not is_frame(data):
        return _stream(data, validation, task, dtype, ignore_index, epochs)
    table = _table_of_pair(data, task) if pair else _named_table(data, target)
    ready = prepare(
        table,
        target=None if pair else table.target if target is None or table.target is not None else target,
        validation=_second(validation, task, target),
        seed=seed,
        standardise=False if pair and standardise == "auto" else standardise,
        standardise_target=standardise_target,
        missing=missing,
        task=task,
        ignore=() if isinstance(data, Table) or pair else ignore,
        flat=not pair,
        dtype=dtype,
        ignore_index=ignore_index,
    )
    for part in (ready.x, ready.validation_x):
        if pair and part is not None:
            part.flags.writeable = False
    return ready


def class_indices(y: Array, name: str, ignore_index: int | None = None) -> Array:
    """Labels as int64 indices: integers, truth values, and floats that are whole numbers; (n, 1) becomes (n,).

    Negative ones are refused (`ignore_index` aside)."""
    require_numbers(y, name)
    if y.dtype.kind == "f":
        uneven = ~(y == np.floor(y)) | np.isinf(y)
        if uneven.any():
            value = y.reshape(-1)[int(np.argmax(uneven))].item()
            raise DTypeError(
                f"{name} has {int(uneven.sum()):,} labels that are not whole numbers (first: {value} at "
                f"{position(uneven)}); class labels are integers; for numbers use a regression loss"
            )
    indices = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    indices = indices.astype(np.int64)
    negative = indices < 0 if ignore_index is None else (indices < 0) & (indices != ignore_index)
    if negative.any():
        value = indices.reshape(-1)[int(np.argmax(negative))]
        raise DataError(
            f"{name} has {int(negative.sum()):,} labels below 0 (first: {value} at {position(negative)}); "
            "classes are 0, 1, 2 …"
        )
    return indices


def _stream(data: Any, validation: Any, task: str | None, dtype: str, ignore_index: int | None, epochs: int) -> Stream:
    require_integer(epochs, "epochs", 1)
    if isinstance(data, np.ndarray) or not isinstance(data, Iterable) or isinstance(data, dict | bytes):
        raise ArgumentError(
            f"data is {type(data).__name__}; pass (x, y), a dataframe with target=, a path, or an iterable of "
            "(x, y) batches"
        )
    if isinstance(data, tuple | list) and data and not all(_is_pair(batch) for batch in data):
        raise ArgumentError(
            f"data is a {type(data).__name__} of {len(data)}; pass inputs and targets as a tuple (x, y)"
        )
    if iter(data) is data and epochs > 1:
        raise ArgumentError(
            f"data is a {type(data).__name__}, which runs through once, and epochs is {epochs}; pass a list of "
            "batches, or "
            "an object whose __iter__ starts again"
        )
    if validation is not None and not isinstance(validation, tuple | Dataset):
        raise ArgumentError("with batches as data, validation is a pair (x, y) or None")
    return Stream(data, task, dtype, ignore_index)


def _is_pair(batch: Any) -> bool:
    return isinstance(batch, tuple | list) and len(batch) == 2 and all(hasattr(part, "__len__") for part in batch)


def _named_table(data: Any, target: str | int | None) -> Table:
    if isinstance(data, Table):
        return data
    return table_of_frame(data, target=target if isinstance(target, str) else None)


def _second(validation: Any, task: str | None, target: str | int | None) -> Any:
    """The validation argument as `prepare` takes it: a share, a Table or None."""
    if (
        validation is None
        or isinstance(validation, int | float)
        or (isinstance(validation, str) and validation == "auto")
    ):
        return validation
    if isinstance(validation, str | PathLike):
        return read(validation, target=target)
    if isinstance(validation, tuple) and len(validation) == 2:
        return _table_of_pair(validation, task, ("validation x", "validation y"))
    if isinstance(validation, Table) or is_frame(validation):
        return _named_table(validation, target)
    raise ArgumentError(
        f"validation is {type(validation).__name__}; pass (x, y), a dataframe, a share of the rows, or None"
    )


def _table_of_pair(data: tuple[Any, Any], task: str | None, names: tuple[str, str] = ("x", "y")) -> Table:
    if all(isinstance(part, tuple) and len(part) == 2 and hasattr(part[0], "shape") for part in data):
        raise ArgumentError(
            "data is ((x, y), (xv, yv)), as data.load returns it; pass the first pair as data and the second as "
            "validation"
        )
    x, y = array_of(data[0], names[0]), array_of(data[1], names[1])
    require_numbers(x, names[0])
    require_rows(x, names[0])
    require_rows(y, names[1])
    require_same_rows(x, y, names)
    if x.ndim == 1:
        raise DataError(
            f"{names[0]} has one dimension, shape {x.shape}; rows and columns are needed: {names[0]}[:, None] "
            "for one column"
        )
    _say_lost_digits(x, names[0])
    if task is None and y.ndim > 1 and y.shape[1:] != (1,) and y.dtype.kind in "iub":
        raise ArgumentError(
            f"{names[1]} holds whole numbers of shape {y.shape}, which can mean three things; pass "
            "task='probabilities' "
            "(one-hot rows), 'regression' (values) or 'classification' (an index each)"
        )
    if task in ("regression", "probabilities") and y.dtype.kind == "b":
        y = y.astype(np.float32)
    return table_of_arrays(names[0], {"x": x, "y": y}, target="y")


def _say_lost_digits(x: Array, name: str) -> None:
    if x.dtype.kind in "iu" and x.dtype.itemsize > 2 and max(abs(int(x.min())), abs(int(x.max()))) > _EXACT_IN_FLOAT32:
        warnings.warn(
            ChainruleWarning(
                f"{name} has integers beyond 2^24, which float32 rounds; pass standardise=True or dtype='float64'"
            ),
            stacklevel=4,
        )
