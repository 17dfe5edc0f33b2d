"""Dataframes of three libraries become the same table."""

import datetime

import numpy as np
import pytest

from chainrule import data
from chainrule.errors import ArgumentError, DataError, DTypeError
from peers import peer

pd = peer("pandas")
pl = peer("polars")
pa = peer("pyarrow")

COLUMNS = {
    "n": [1, 2, 3, 4, 5, 6, 7, 8],
    "f": [0.5, None, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0],
    "t": ["a", "b", "a", None, "b", "a", "b", "c"],
    "b": [True, False, True, True, False, None, True, False],
    "y": ["no", "yes"] * 4,
}
MAKERS = {
    "pandas": pd.DataFrame,
    "pandas nullable": lambda columns: pd.DataFrame(columns).convert_dtypes(),
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_every_library_gives_the_same_rows(make, tmp_path):
    ready = data.as_dataset(make(COLUMNS), target="y", missing="most_frequent")
    path = tmp_path / "same.csv"
    lines = zip(*COLUMNS.values(), strict=True)
    path.write_text("n,f,t,b,y\n" + "".join(",".join("" if v is None else str(v) for v in row) + "\n" for row in lines))
    wanted = data.prepare(data.read(path), validation=None, missing="most_frequent")
    assert ready.features == wanted.features and ready.classes == ("no", "yes")
    assert np.array_equal(ready.x, wanted.x) and np.array_equal(ready.y, wanted.y)
    again = ready.preprocess.apply(make({name: COLUMNS[name] for name in ("b", "t", "f", "n")}))
    assert np.array_equal(again, ready.x)


def test_categories_are_text():
    frame = pd.DataFrame({"c": pd.Categorical(["u", "v", "u", "v"]), "y": [0.5, 1.0, 1.5, 2.0]})
    assert data.as_dataset(frame, target="y").features == ("c=u", "c=v")


def test_missing_values_are_reported_by_column():
    with pytest.raises(DataError, match=r"'f' 1 \(first: row 1\); 't' 1 \(first: row 3\); 'b' 1 \(first: row 5\)"):
        data.as_dataset(pl.DataFrame(COLUMNS), target="y")


def test_frames_that_cannot_be_meant_are_refused_by_column():
    day = datetime.datetime(2020, 1, 1)
    for frame, message in (
        (pd.DataFrame({"d": [day, day], "y": [0, 1]}), "column 'd' is of type Datetime"),
        (pd.DataFrame({"o": [[1], [2]], "y": [0, 1]}), "column 'o' holds Python objects"),
        (pd.DataFrame({"o": ["a", 2], "y": [0, 1]}, dtype=object), "column 'o' mixes texts and other objects"),
        (pl.DataFrame({"l": [[1], [2]], "y": [0, 1]}), "column 'l' is of type List"),
        (pd.DataFrame({"i": [1.0, np.inf], "y": [0, 1]}), r"column 'i' has 1 Inf \(first: row 1\)"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a'"),
        (pd.DataFrame([[1, 2]]), "column names must be texts"),
        (pl.DataFrame({"a": [1]}).lazy(), r"\.collect\(\)"),
        (pd.DataFrame({"a": [], "y": []}), "has no rows"),
    ):
        with pytest.raises((DataError, DTypeError), match=message):
            data.as_dataset(frame, target="y")


def test_the_target_has_to_be_named_rightly():
    frame = pl.DataFrame({"Price": [1.0, 2.0], "a": [1, 2]})
    with pytest.raises(ArgumentError, match="no column 'price'; it has 'Price', 'a'; did you mean 'Price'"):
        data.as_dataset(frame, target="price")
    with pytest.raises(ArgumentError, match="which column is to be predicted"):
        data.as_dataset(frame)
