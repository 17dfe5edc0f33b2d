"""Names and paths: what is known, what is no file, and what an unknown one is told."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from chainrule import data
from chainrule.errors import ArgumentError, DataError, MissingDependencyError
from peers import peer


def test_an_unknown_name_lists_the_known_ones_and_the_nearest():
    with pytest.raises(ArgumentError, match=r"'digit'; built-in are digits, spirals.*did you mean 'digits'"):
        data.load("digit")
    with pytest.raises(ArgumentError, match=r"no data set is called 'moon'.*did you mean 'moons'"):
        data.describe("moon")
    with pytest.raises(ArgumentError, match="source is 3"):
        data.read(3)


def test_things_that_are_no_files_are_refused_with_their_path(tmp_path):
    (tmp_path / "houses.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"hauses\.csv' does not exist; did you mean 'houses\.csv'"):
        data.read(tmp_path / "hauses.csv")
    with pytest.raises(DataError, match="nor does its folder"):
        data.read(tmp_path / "no" / "houses.csv")
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(DataError, match=r"is a link to .*gone.csv', which does not exist"):
        data.read(tmp_path / "dangling.csv")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    with pytest.raises(DataError, match=r"loop.csv' cannot be read"):
        data.read(tmp_path / "loop.csv")
    with pytest.raises(DataError, match=r"cannot be read|does not exist"):
        data.read("a\0b.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_devices_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="named pipe"):
        data.read(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="a device"):
        data.read(os.devnull)


def test_a_file_one_may_not_read_is_named(tmp_path, monkeypatch):
    path = tmp_path / "secret.csv"
    path.write_text("a,b\n1,2\n")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with pytest.raises(DataError, match=r"secret\.csv' cannot be opened: Permission denied"):
        data.read(path)


def test_pickles_by_any_name_are_refused_with_the_way_to_convert(tmp_path):
    for name in ("a.pkl", "a.pt", "a.joblib"):
        (tmp_path / name).write_bytes(b"anything")
        with pytest.raises(DataError, match=r"never read. Convert.*savez"):
            data.read(tmp_path / name)


def test_an_extension_that_contradicts_the_content_is_refused(tmp_path):
    (tmp_path / "a.npz").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"named .npz but its content is text"):
        data.read(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", np.ones((3, 2)))
    (tmp_path / "a.npy").rename(tmp_path / "a.dat")
    assert data.read(tmp_path / "a.dat").rows == 3


def test_parquet_reads_as_a_dataframe_does(tmp_path):
    pa = peer("pyarrow")
    pq = peer("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": [1, None, 3], "t": ["a", "b", None], "b": [True, False, True]}), path)
    table = data.read(path)
    assert [column.kind for column in table.columns] == ["numeric", "text", "boolean"]
    assert [int(column.missing().sum()) for column in table.columns] == [1, 1, 0]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a.parquet is damaged"):
        data.read(path)


def test_parquet_without_pyarrow_says_what_to_type(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(100))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "chainrule\[parquet\]"'):
        data.read(tmp_path / "a.parquet")


def test_importing_data_imports_no_dataframe_library():
    heavy = "{'narwhals', 'pandas', 'polars', 'pyarrow', 'torch'}"
    script = f"import sys, chainrule.data; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_built_in_sets_are_as_described():
    for name in data.names():
        described = data.describe(name)
        table = data.read(name)
        ready = data.prepare(table, validation=None)
        assert (table.rows, ready.x.shape[1]) == (described.rows, described.columns)
        assert ready.classes == described.classes and ready.task == described.task and described.licence


def test_digits_are_the_uci_digits():
    load_digits = peer("sklearn.datasets").load_digits
    x, y = load_digits(return_X_y=True)
    table = data.read("digits")
    assert np.array_equal(table.column("pixel").values.reshape(1797, 64), x)
    assert np.array_equal(table.column("digit").values, y)


def test_load_gives_stratified_parts_that_depend_on_the_seed_alone():
    first, again, other = data.load("digits"), data.load("digits"), data.load("digits", seed=1)
    assert np.array_equal(first[0][0], again[0][0]) and not np.array_equal(first[0][0], other[0][0])
    counts = np.bincount(first[1][1])
    assert counts.sum() == 359 and counts.min() >= 34
    with pytest.raises(ArgumentError, match="load gives two parts"):
        data.load("digits", validation=None)


def test_a_second_file_can_be_the_validation_part(tmp_path):
    (tmp_path / "a.csv").write_text("v,y\n" + "".join(f"{i},{'yes' if i % 2 else 'no'}\n" for i in range(10)))
    (tmp_path / "b.csv").write_text("y,v\nyes,5\n")
    (x, _), (xv, yv) = data.load(tmp_path / "a.csv", validation=tmp_path / "b.csv")
    assert x.shape == (10, 1) and np.isclose(xv[0, 0], (5 - 4.5) / np.arange(10).std()) and yv.tolist() == [1]
    (tmp_path / "b.csv").write_text("y,v\nmaybe,5\n")
    with pytest.raises(DataError, match=r"'maybe' at b\.csv:2\); classes are 'no', 'yes'"):
        data.load(tmp_path / "a.csv", validation=tmp_path / "b.csv")
