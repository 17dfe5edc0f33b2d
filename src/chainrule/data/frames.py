"""Dataframes of any library (pandas, polars, pyarrow, …) as tables, by narwhals."""

from typing import Any

import numpy as np

from chainrule.data.checks import Array, listed, position, shown
from chainrule.data.table import Column, Table
from chainrule.errors import DataError, DTypeError


def is_frame(data: object) -> bool:
    """Whether narwhals can take this for a dataframe, lazy ones included."""
    if type(data).__module__.partition(".")[0] in ("numpy", "builtins", "torch", "jax", "jaxlib"):
        return False
    import narwhals as nw

    try:
        return isinstance(nw.from_native(data, pass_through=True), nw.DataFrame | nw.LazyFrame)
    except nw.exceptions.DuplicateError:
        return True  # a dataframe, and `table_of_frame` says what is wrong with it


def table_of_frame(frame: Any, source: str = "dataframe", target: str | None = None, path: str | None = None) -> Table:
    """A dataframe's columns: numbers and truth values (null and NaN are missing), texts and categories; dates, lists
    and mixed objects are refused by name. The index is not a column."""
    import narwhals as nw

    try:
        native = nw.from_native(frame)
    except (TypeError, ValueError, nw.exceptions.NarwhalsError) as error:
        raise DataError(f"{source}: {error}") from error
    if isinstance(native, nw.LazyFrame):
        raise DTypeError(f"{source} is lazy ({type(frame).__name__}); pass the result of its .collect()")
    names = list(native.columns)
    words = [name for name in names if not isinstance(name, str)]
    if words:
        raise DataError(f"{source}: column names must be texts, found {listed(words, 3)}; rename the columns")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{source}: more than one column is called {listed(twice, 3)}; give each its own name")
    if len(native) == 0:
        raise DataError(f"{source} has no rows (columns {listed(names, 6)})")
    columns = tuple(_column(source, name, native[name]) for name in names)
    table = Table(source, columns, target, path)
    if target is not None:
        table.column(target)
    return table


def _column(source: str, name: str, series: Any) -> Column:
    import narwhals as nw

    kind = series.dtype
    where = f"{source}: column {shown(name)}"
    if kind == nw.Boolean:
        return Column(name, "boolean", _with_gaps(_values(series)))
    if kind.is_numeric():
        values = _numbers(series)
        if values.dtype.kind == "f" and np.isinf(values).any():
            bad = np.isinf(values)
            raise DataError(
                f"{where} has {int(bad.sum()):,} Inf (first: {position(bad)}); replace them or drop these rows"
            )
        return Column(name, "numeric", values)
    if kind in (nw.String, nw.Categorical, nw.Enum) or isinstance(kind, nw.Enum):
        return Column(name, "text", _texts(_values(series.cast(nw.String)), where))
    if kind == nw.Object:
        return _of_objects(name, _values(series), where)
    if isinstance(kind, nw.Unknown) and series.null_count() == len(series):
        return Column(name, "numeric", np.full(len(series), np.nan))
    raise DTypeError(
        f"{where} is of type {kind}; numbers, truth values and texts are read. Turn dates into numbers (days since the "
        "first), spread lists over columns, or drop the column"
    )


def _numbers(series: Any) -> Array:
    """Integers as they are where none is missing, everything else as float64 with NaN for missing."""
    import narwhals as nw

    if series.dtype.is_integer() and series.null_count() == 0:
        return np.asarray(series.to_numpy())
    if series.dtype.is_decimal():
        series = series.cast(nw.Float64)
    if series.null_count() == 0:
        return np.asarray(series.to_numpy()).astype(np.float64)
    return _with_gaps(_values(series))


def _values(series: Any) -> list[Any]:
    """The values with None where one is missing, whatever the library writes there."""
    gaps = series.is_null().to_list()
    return [None if gap else value for value, gap in zip(series.to_list(), gaps, strict=True)]


def _with_gaps(values: list[Any]) -> Array:
    return np.array([np.nan if value is None else float(value) for value in values])


def _texts(values: list[Any], where: str) -> Array:
    texts = np.empty(len(values), dtype=object)
    texts[:] = values
    for row, value in enumerate(texts):
        if value is not None and not isinstance(value, str):
            raise DTypeError(
                f"{where} mixes texts and other objects (row {row}: {shown(value)}, {type(value).__name__}); "
                "convert the column with .astype(str) or .astype(float)"
            )
    return texts


def _of_objects(name: str, values: list[Any], where: str) -> Column:
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, bool) for value in present):
        return Column(name, "boolean", _with_gaps(values))  # pandas' way to write truth values with gaps
    if present and not isinstance(present[0], str):
        raise DTypeError(
            f"{where} holds Python objects (first {shown(present[0])}, {type(present[0]).__name__}); "
            "convert the column with .astype(float), or .astype(str) for categories"
        )
    return Column(name, "text", _texts(values, where))
