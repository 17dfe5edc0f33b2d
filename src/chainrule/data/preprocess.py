"""Preprocess: how raw columns become the numbers a network takes, fitted on the training part only; plain data."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from chainrule.data.checks import (
    Array,
    array_of,
    as_floats,
    listed,
    nearest,
    position,
    require_choice,
    require_finite,
    require_memory,
    require_numbers,
    shown,
)
from chainrule.data.frames import is_frame, table_of_frame
from chainrule.data.labels import TASKS, Target
from chainrule.data.table import Column, Kind, Table
from chainrule.errors import ArgumentError, ChainruleWarning, DataError, ShapeError

MISSING = ("error", "mean", "median", "most_frequent", "drop")
STANDARDISE = ("auto", True, False)

# The form of `to_dict`; a reader refuses a higher number.
_FORMAT = 1
_ROWS_AT_ONCE = 8192
_MOST_CATEGORIES = 1000
Fill = tuple[float, ...] | str | None


@dataclass(frozen=True)
class Input:
    """How one column becomes `width` numbers.

    numeric   missing values become `fill`; then (value - mean) / std where mean is given (0 where std is 0: the
              column was constant), else value / scale where scale is given, else the value itself.
    boolean   0 or 1.
    text      one-hot: one number a category, in the order of code points; all 0 for a word that training did not have.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...] = ()
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    categories: tuple[str, ...] = ()
    fill: Fill = None

    @property
    def width(self) -> int:
        """How many numbers of a network's input this column makes."""
        return len(self.categories) if self.kind == "text" else int(np.prod(self.shape, dtype=np.int64))

    @property
    def features(self) -> tuple[str, ...]:
        """A name for each of these numbers: `age`, `city=Rome`, `image[3, 5]`."""
        if self.kind == "text":
            return tuple(f"{self.name}={category}" for category in self.categories)
        return tuple(_feature(self.name, self.shape, i) for i in range(self.width))


@dataclass(frozen=True)
class Preprocess:
    """Plain data: `to_dict` is JSON, a checkpoint keeps it, and `apply` treats new rows as training's were treated.

    input_shape  the shape of one row of the result: (features,), or an image's (rows, columns).
    missing      the policy under which it was fitted.
    missing_words   the words that were read as missing, where the source was text.
    ignored      columns that new data may have and that are not read (the target's among them).
    """

    inputs: tuple[Input, ...]
    input_shape: tuple[int, ...]
    target: Target
    missing: str = "error"
    ignored: tuple[str, ...] = ()
    dtype: str = "float32"
    missing_words: tuple[str, ...] | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """A name for each number of an input row."""
        return tuple(name for column in self.inputs for name in column.features)

    @property
    def text(self) -> tuple[str, ...]:
        """The columns that hold words, so that a file is read as it was for training."""
        words = [column.name for column in self.inputs if column.kind == "text"]
        if self.target.labels and isinstance(self.target.labels[0], str):
            words.append(self.target.name)
        return tuple(words)

    def apply(self, raw: Any) -> Array:
        """Rows of a Table, a dataframe, or an array (where training had one block of numbers) as [rows, *input_shape].

        Columns are found by name, in any order. Missing, unexpected and renamed columns are refused by name, and so are
        missing values where training had no policy for them. Words that training did not have become zeros, with a
        warning.
        """
        table = self._align(raw)
        if len(self.inputs) == 1 and _untouched(self.inputs[0]):
            values = as_floats(table.columns[0].values, self.inputs[0].name, self.dtype)
            return values.reshape(table.rows, *self.input_shape)
        width = sum(column.width for column in self.inputs)
        require_memory(table.rows * width * np.dtype(self.dtype).itemsize, f"{table.source} as {self.dtype}")
        out = np.empty((table.rows, width), dtype=self.dtype)
        start = 0
        for spec, column in zip(self.inputs, table.columns, strict=True):
            stop = start + spec.width
            _write(spec, column, table, out[:, start:stop])
            _require_held(out[:, start:stop], spec, table)
            start = stop
        return out.reshape(table.rows, *self.input_shape)

    def targets(self, raw: Any) -> Array:
        """The truths of a Table or dataframe that has the target's column, as the loss takes them."""
        table = raw if isinstance(raw, Table) else table_of_frame(raw)
        return self.target.encode(table.column(self.target.name), table.where)

    def to_dict(self) -> dict[str, Any]:
        """This description as JSON-able values; `from_dict` gives it back equal."""
        plain = asdict(self)
        return {"format": _FORMAT, **_lists(plain)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Preprocess":
        """The description that `to_dict` wrote; DataError names what does not fit."""
        try:
            return _from_plain(plain)
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"not the description of a preprocessing: {error}; use the one a checkpoint holds"
            ) from error

    def _align(self, raw: Any) -> Table:
        """`raw` as a table with exactly the training's columns in their order."""
        table = raw if isinstance(raw, Table) else table_of_frame(raw) if is_frame(raw) else self._of_array(raw)
        wanted = [column.name for column in self.inputs]
        absent = [name for name in wanted if name not in table.names]
        extra = [name for name in table.names if name not in wanted and name not in self.ignored]
        if absent or extra:
            said = [f"has no column {listed(absent)}"] if absent else []
            said += [f"has {listed(extra)}, which training did not have"] if extra else []
            hint = nearest(absent[0], extra).replace("did you mean", "was it renamed to") if absent else ""
            raise DataError(
                f"{table.source} {' and '.join(said)}{hint or '; training had'} {'' if hint else listed(wanted)}"
            )
        columns = tuple(_matching(spec, table.column(spec.name), table) for spec in self.inputs)
        return Table(table.source, columns, path=table.path, lines=table.lines)

    def _of_array(self, raw: Any) -> Table:
        if len(self.inputs) != 1 or self.inputs[0].kind != "numeric":
            names = listed(column.name for column in self.inputs)
            raise ArgumentError(f"training had the columns {names}; pass a dataframe or a Table that names them")
        spec = self.inputs[0]
        array = array_of(raw, spec.name)
        require_numbers(array, spec.name)
        if (
            array.shape[1:] != spec.shape
            and int(np.prod(array.shape[1:], dtype=np.int64)) == spec.width
            and array.ndim > 1
        ):
            array = array.reshape(len(array), *spec.shape)
        return Table("x", (Column(spec.name, "numeric", array),))


def fit_preprocess(
    table: Table,
    target: Target,
    *,
    standardise: bool | str = "auto",
    missing: str = "error",
    flat: bool = True,
    ignored: tuple[str, ...] = (),
    dtype: str = "float32",
) -> Preprocess:
    """What the training part `table` (inputs only) says about how to treat rows.

    standardise  "auto": plain numeric columns get mean 0 and deviation 1, bytes of images are divided by 255, truth
                 values and one-hot columns stay; True: every number; False: none.
    missing      "error" refuses missing values, "drop" expects rows without any; "mean", "median" and "most_frequent"
                 fill numbers so, and words and truth values by the most frequent one.
    flat         one row is a vector; otherwise a single block keeps its shape.
    """
    require_choice(standardise, "standardise", STANDARDISE)
    require_choice(missing, "missing", MISSING)
    require_choice(dtype, "dtype", ("float32", "float64"))
    if missing == "error":
        require_complete(table)
    inputs = tuple(_fit_input(column, table, standardise, missing) for column in table.columns)
    width = sum(column.width for column in inputs)
    if width == 0:
        raise DataError(f"{table.source}: no input columns")
    _warn_of_constants(inputs, table.source)
    shape = inputs[0].shape if not flat and len(inputs) == 1 and inputs[0].shape else (width,)
    return Preprocess(inputs, shape, target, missing, ignored, dtype, table.missing_words)


def require_complete(table: Table) -> None:
    """Refuse missing values: how many in which column, and where first."""
    found = []
    for column in table.columns:
        if not column.complete:
            found.append(_missing_in(column, column.missing(), table))
    if found:
        raise DataError(
            f"{table.source} has missing values: {'; '.join(found[:12])}. Say what to do with them: "
            "missing='mean', 'median', "
            "'most_frequent' or 'drop' (or ignore the column)"
        )


def _missing_in(column: Column, gone: Array, table: Table) -> str:
    if column.shape:
        columns = int(gone.reshape(len(gone), -1).any(axis=0).sum())
        return f"{shown(column.name)} {int(gone.sum()):,} NaN in {columns:,} columns (first: {position(gone)})"
    return f"{shown(column.name)} {int(gone.sum()):,} (first: {table.where(int(np.argmax(gone)))})"


def _fit_input(column: Column, table: Table, standardise: bool | str, missing: str) -> Input:
    filled = missing in ("mean", "median", "most_frequent")
    if column.empty:
        raise DataError(f"{table.source}: column {shown(column.name)} has no values at all; ignore it")
    if column.kind == "text":
        return _fit_text(column, table, filled)
    _require_no_infinity(column, table)
    fill = _fill(column, missing if column.kind == "numeric" else "most_frequent") if filled else None
    if column.kind == "boolean":
        return Input(column.name, "boolean", fill=fill)
    if standardise is True or (standardise == "auto" and column.scale is None):
        mean, std = _moments(column, fill)
        return Input(column.name, "numeric", column.shape, mean=mean, std=std, fill=fill)
    scale = column.scale if standardise == "auto" else None
    return Input(column.name, "numeric", column.shape, scale=None if scale == 1.0 else scale, fill=fill)


def _fit_text(column: Column, table: Table, filled: bool) -> Input:
    present = [value for value in column.values.tolist() if value is not None]
    counts: dict[str, int] = {}
    for value in present:
        counts[value] = counts.get(value, 0) + 1
    categories = tuple(sorted(counts))
    if len(categories) > _MOST_CATEGORIES or (len(categories) == len(present) > 20):
        raise DataError(
            f"{table.source}: column {shown(column.name)} has {len(categories):,} different words in "
            f"{len(present):,} rows "
            f"(first {shown(present[0])}), like an identifier or free text; ignore it with "
            f"ignore=[{shown(column.name)}]"
        )
    # Ties go to the first in the order of categories, so that the order of rows does not matter.
    fill = max(categories, key=lambda category: counts[category]) if filled else None
    return Input(column.name, "text", categories=categories, fill=fill)


def _fill(column: Column, policy: str) -> tuple[float, ...]:
    flat = np.ascontiguousarray(column.values.reshape(len(column.values), -1)).astype(np.float64)
    if np.isnan(flat).all(axis=0).any():
        empty = int(np.argmax(np.isnan(flat).all(axis=0)))
        raise DataError(f"{shown(_feature(column.name, column.shape, empty))} has no values at all; leave it out")
    if policy == "mean":
        return tuple(np.nanmean(flat, axis=0).tolist())
    if policy == "median":
        return tuple(np.nanmedian(flat, axis=0).tolist())
    return tuple(_most_frequent(values) for values in flat.T)


def _most_frequent(values: Array) -> float:
    distinct, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    return float(distinct[np.argmax(counts)])


def _blocks(column: Column, fill: Fill) -> Iterator[tuple[int, Array]]:
    """(first row, float64[rows, width]) a part at a time: contiguous, so that sums do not depend on the strides of
    what a person passed, and small, so that a large table is never doubled."""
    for start in range(0, len(column.values), _ROWS_AT_ONCE):
        part = column.values[start : start + _ROWS_AT_ONCE]
        block = np.ascontiguousarray(part.reshape(len(part), -1).astype(np.float64))
        if fill is not None:
            block = np.where(np.isnan(block), np.array(fill, dtype=np.float64), block)
        yield start, block


def _moments(column: Column, fill: Fill) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each number; a deviation of exactly 0 where the column does not vary.

    Two passes over values divided by their largest magnitude, so that neither 1e300 nor 1e-300 leaves the range.
    """
    rows = len(column.values)
    low = np.min([block.min(axis=0) for _, block in _blocks(column, fill)], axis=0)
    high = np.max([block.max(axis=0) for _, block in _blocks(column, fill)], axis=0)
    scale = np.maximum(np.abs(low), np.abs(high))
    scale = np.where(scale == 0, 1.0, scale)
    mean = np.sum([(block / scale).sum(axis=0) for _, block in _blocks(column, fill)], axis=0) / rows
    square = np.sum([((block / scale - mean) ** 2).sum(axis=0) for _, block in _blocks(column, fill)], axis=0)
    std = np.sqrt(square / rows)
    # A deviation of a few roundings of the values is no variation: dividing by it would make noise large.
    constant = (low == high) | (std <= 4 * np.finfo(np.float64).eps)
    std = np.where(constant, 0.0, std)
    return tuple((mean * scale).tolist()), tuple((std * scale).tolist())


def _warn_of_constants(inputs: tuple[Input, ...], source: str) -> None:
    constant = [
        _feature(column.name, column.shape, i)
        for column in inputs
        if column.std is not None
        for i, std in enumerate(column.std)
        if std == 0.0
    ]
    if constant:
        some = f"column {listed(constant, 6)} does" if len(constant) == 1 else f"columns {listed(constant, 6)} do"
        warnings.warn(
            ChainruleWarning(
                f"{source}: {some} not vary in the training part and became 0; nothing is learned from it"
            ),
            stacklevel=3,
        )


def _feature(name: str, shape: tuple[int, ...], i: int) -> str:
    if not shape:
        return name
    return f"{name}[{', '.join(str(int(k)) for k in np.unravel_index(i, shape))}]"


def _untouched(spec: Input) -> bool:
    return spec.kind == "numeric" and spec.mean is None and spec.scale is None and spec.fill is None


def _matching(spec: Input, column: Column, table: Table) -> Column:
    """The column in the kind that training had; a column of another kind or shape is refused."""
    if not column.complete and spec.fill is None:
        raise DataError(
            f"{table.source} has missing values: {_missing_in(column, column.missing(), table)}; training had "
            "no rule to fill "
            "them (missing='error' or 'drop'): remove these rows, or train with missing='mean'"
        )
    kind = "numeric" if spec.kind == "numeric" and column.kind == "boolean" else column.kind
    if column.empty:
        kind = spec.kind
        gap: Array = np.full(
            len(column.values), None if kind == "text" else np.nan, dtype=object if kind == "text" else float
        )
        return Column(spec.name, kind, gap)
    if kind != spec.kind:
        value = column.values[~column.missing()][0]
        hint = "read the file with like=, the Preprocess of the run" if spec.kind == "text" else "correct the values"
        raise DataError(
            f"{table.source}: column {shown(spec.name)} is {column.kind} (first {shown(_plain(value))}); in "
            "training it was "
            f"{spec.kind}: {hint}"
        )
    if kind == "numeric" and column.shape != spec.shape:
        raise ShapeError(
            f"{table.source}: rows of {shown(spec.name)} have shape {column.shape}; training had {spec.shape}"
        )
    return column


def _write(spec: Input, column: Column, table: Table, out: Array) -> None:
    """The column's numbers into `out`, [rows, width]."""
    if spec.kind == "text":
        _write_one_hot(spec, column, table, out)
        return
    _require_no_infinity(column, table)
    if spec.mean is None and spec.fill is None:
        flat = column.values.reshape(len(column.values), -1)
        with np.errstate(over="ignore"):
            np.copyto(out, flat, casting="unsafe")
            if spec.scale is not None:
                np.divide(out, out.dtype.type(spec.scale), out=out)
        return
    for start, block in _blocks(column, spec.fill):
        with np.errstate(over="ignore", invalid="ignore"):
            out[start : start + len(block)] = _treated(spec, block)


def _treated(spec: Input, block: Array) -> Array:
    if spec.mean is None or spec.std is None:
        return block if spec.scale is None else block / spec.scale
    std = np.array(spec.std)
    varies = std > 0
    return np.where(varies, (block - np.array(spec.mean)) / np.where(varies, std, 1.0), 0.0)


def _write_one_hot(spec: Input, column: Column, table: Table, out: Array) -> None:
    index: dict[Any, int] = {category: i for i, category in enumerate(spec.categories)}
    values = [spec.fill if value is None else value for value in column.values.tolist()]
    places = np.array([index.get(value, -1) for value in values], dtype=np.int64)
    out[...] = 0
    known = np.flatnonzero(places >= 0)
    out[known, places[known]] = 1
    unknown = np.flatnonzero(places < 0)
    if len(unknown):
        words = sorted({str(values[row]) for row in unknown})
        warnings.warn(
            ChainruleWarning(
                f"{table.source}: column {shown(spec.name)} has words that training did not have ({listed(words, 3)}; "
                f"{len(unknown):,} rows, first: {table.where(int(unknown[0]))}); none of its categories is set there"
            ),
            stacklevel=5,
        )


def _require_no_infinity(column: Column, table: Table) -> None:
    if column.values.dtype.kind != "f" or not np.isinf(column.values).any():
        return
    bad = np.isinf(column.values)
    where = position(bad) if column.shape else table.where(int(np.argmax(bad)))
    raise DataError(
        f"{table.source}: {shown(column.name)} has {int(bad.sum()):,} Inf (first: {where}); remove these rows "
        "or replace the "
        "values"
    )


def _require_held(out: Array, spec: Input, table: Table) -> None:
    if np.isfinite(out).all():
        return
    bad = ~np.isfinite(out)
    row, inner = (int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
    raise DataError(
        f"{table.source}: {shown(_feature(spec.name, spec.shape, inner))} has {int(bad.sum()):,} values too large for "
        f"{out.dtype} (first: {table.where(row)}); rescale the column, or pass standardise=True"
    )


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(inner) for key, inner in value.items()}
    return [_lists(inner) for inner in value] if isinstance(value, tuple) else value


def _from_plain(plain: Mapping[str, Any]) -> Preprocess:
    plain = dict(plain)
    written = plain.pop("format")
    if written != _FORMAT:
        raise DataError(f"this preprocessing has format {shown(written)}, and {_FORMAT} is known; upgrade chainrule")
    _require_fields(plain, Preprocess)
    for column in plain["inputs"]:
        _require_fields(column, Input)
        require_choice(column["kind"], "kind of a column", ("numeric", "text", "boolean"))
    require_choice(plain["missing"], "missing", MISSING)
    require_choice(plain["dtype"], "dtype", ("float32", "float64"))
    _require_fields(plain["target"], Target)
    require_choice(plain["target"]["task"], "task", TASKS[:-1])
    target = Target(**{key: _tuples(value) for key, value in plain["target"].items()})
    inputs = tuple(Input(**{key: _tuples(value) for key, value in column.items()}) for column in plain["inputs"])
    for column in inputs:
        _require_consistent(column)
    shape, ignored, words = (_tuples(plain[key]) for key in ("input_shape", "ignored", "missing_words"))
    if int(np.prod(shape, dtype=np.int64)) != sum(column.width for column in inputs):
        raise DataError(f"input_shape {shape} does not hold the {sum(c.width for c in inputs)} features of its columns")
    return Preprocess(inputs, shape, target, plain["missing"], ignored, plain["dtype"], words)


def _require_fields(plain: Mapping[str, Any], kind: type) -> None:
    wanted = {field.name for field in fields(kind)}
    if set(plain) != wanted:
        raise DataError(f"{kind.__name__} has the fields {sorted(map(str, plain))}; it needs {sorted(wanted)}")


def _require_consistent(column: Input) -> None:
    for name, values in (("mean", column.mean), ("std", column.std), ("fill", column.fill)):
        if values is None or isinstance(values, str):
            continue
        if len(values) != column.width:
            raise DataError(
                f"column {shown(column.name)} has {len(values)} numbers in {name} and {column.width} features"
            )
        require_finite(np.array(values, dtype=np.float64), f"{name} of {shown(column.name)}")
    if (column.mean is None) != (column.std is None) or (column.scale is not None and not 0 < column.scale < np.inf):
        raise DataError(f"column {shown(column.name)} needs both mean and std, and a scale above 0")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list) else value
