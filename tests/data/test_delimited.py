"""Delimited text: what is read, as what, and what every refusal says."""

import csv
import io
import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule import data
from chainrule.errors import ArgumentError, ChainruleWarning, DataError


@pytest.fixture
def written(tmp_path):
    """Writes content as a CSV file and gives its path."""

    def write(content, name="rows.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


GOOD = "a,b\n1,2\n3,4\n"


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        GOOD.rstrip("\n"),
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace(",", "|"),
        '"a","b"\n"1","2"\n"3","4"\n',
        "a , b\n 1, 2\n3 ,4\n\n",
    ],
)
def test_every_way_of_writing_the_same_table_reads_the_same(written, content):
    table = data.read(written(content))
    assert table.names == ("a", "b")
    assert [column.values.tolist() for column in table.columns] == [[1, 3], [2, 4]]


def test_other_encodings_are_read_when_named(written):
    for encoding in ("latin-1", "utf-16", "cp1252"):
        table = data.read(written("city,n\nKöln,1\nBern,2\n".encode(encoding)), encoding=encoding)
        assert table.column("city").values.tolist() == ["Köln", "Bern"]


def test_quoted_newlines_and_delimiters_stay_in_the_cell_and_lines_still_count(written):
    path = written('a,b\n"x\ny, z",1\nw,oops\nw,2\nv,3\nv,4\n')
    with pytest.raises(DataError, match=r"rows\.csv:4: column 'b' has 'oops', which is not a number"):
        data.read(path)
    assert data.read(path, missing_words=["oops"]).column("a").values[0] == "x\ny, z"


BAD = {
    "ragged": ("a,b\n1,2\n1\n1,2\n1,2,3\n4\n5\n", r"4 rows do not have 2 cells.*rows\.csv:3 has 1, rows\.csv:5 has 3"),
    "empty": ("", "is empty"),
    "blank": ("\n\n\n", "only blank lines"),
    "header only": ("a,b\n", "no rows below"),
    "duplicate header": ("a,b,a\n1,2,3\n", "more than one column is called 'a'"),
    "blank header": (",b\n0,2\n", "column 1 of 2 has no name.*index"),
    "infinite": ("a,b\n1,2\n1e999,2\n", r"rows\.csv:3: column 'a' has '1e999', which is infinite"),
    "infinity word": ("a,b\n1,2\n-inf,2\n", "'-inf', which is infinite"),
    "decimal comma": ("a;b\n1,5;2\n2,5;3\n", "'1,5'.*read in two ways"),
    "thousands": ('a,b\n"1,000",2\n5,3\n', "'1,000'.*two ways"),
    "currency": ("a,b\n$5,2\n$6,3\n", r"'\$5'.*two ways"),
    "percent": ("a,b\n5%,2\n6,3\n", "'5%'.*two ways"),
    "mixed": ("a,b\n1,2\nabc,2\n3,4\n5,6\n", r"rows\.csv:3: column 'a' has 'abc', which is not a number"),
    "underscore": ("a,b\n1_000,2\n1,2\n3,4\n", "'1_000', which is not a number"),
    "latin-1": (b"a,b\nK\xf6ln,2\n", r"rows\.csv:2: byte 5 is 0xf6, which is not utf-8; pass encoding='latin-1'"),
    "utf-16": ("a,b\n1,2\n".encode("utf-16"), "UTF-16.*encoding='utf-16'"),
    "nul": ("a,b\n1,\x002\n", "NUL at byte 6"),
    "late nul": ("a,b\n" + "1,2\n" * 3000 + "1,\x002\n", r"rows\.csv:3002: a NUL"),
    "open quote": ('a,b\n"1,2\n3,4\n', r"rows\.csv:2: a quoted cell that begins here is never closed"),
    "text after quote": ('a,b\n"1"x,2\n3,4\n', "text follows a closing quote"),
    "long cell": ("a,b\n" + "x" * 200_000 + ",2\n", "a cell of more than 131,072"),
    "long line": ("a,b\n" + "1,2," * 2_000_000 + "\n", "a line of more than"),
    "wide": (",".join(f"c{i}" for i in range(50_000)) + "\n", r"50,000 cells.*\.npz"),
    "json": ('{"a": [1, 2]}', "is JSON"),
    "json list": ("[[1, 2], [3, 4]]", "is JSON"),
    "html": ("<!DOCTYPE html><html>", "HTML.*error page"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG image"),
    "pickle": (b"\x80\x04\x95" + bytes(50), "can run code.*savez"),
    "npz": (b"PK\x03\x04" + bytes(50), "named .csv but its content is npz"),
}


@pytest.mark.parametrize("content, message", BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_fast_and_says_where_and_what_to_do(written, content, message):
    path = written(content)
    start = time.perf_counter()
    with pytest.raises(DataError, match=f"(?s){message}") as caught:
        data.read(path)
    assert time.perf_counter() - start < 2
    assert len(str(caught.value)) < 1000
    assert "rows.csv" in str(caught.value)


def test_control_characters_of_names_are_escaped_in_messages(written):
    path = written("a\x1b[31m\u202e,b\nx,2\n3,4\n5,4\n7,4\n")
    with pytest.raises(DataError) as caught:
        data.read(path)
    said = str(caught.value)
    assert "\x1b" not in said and "\u202e" not in said and r"\x1b[31m\u202e" in said


def test_a_wrong_delimiter_is_noticed(written):
    with pytest.raises(DataError, match="one column under delimiter ','; it looks like ';'"):
        data.read(written("a;b\n1;2\n"), delimiter=",")
    with pytest.raises(ArgumentError, match="one character"):
        data.read(written(GOOD), delimiter="::")


def test_a_file_without_header_gets_names_and_a_note(written):
    table = data.read(written("5.1,3.5,setosa\n4.9,3.0,virginica\n"))
    assert table.names == ("column1", "column2", "column3") and table.rows == 2
    assert "no header" in table.notes[0]
    assert data.read(written("2019,2020\n1,2\n"), header=True).names == ("2019", "2020")
    assert data.read(written("x,y\nu,v\n"), header=False).rows == 2


def test_kinds_are_decided_over_the_whole_file(written):
    table = data.read(written("n,t,b,z\n1,1,TRUE,0123\n,a,false,0456\n3,b,,0789\n"), text=["z"])
    assert [column.kind for column in table.columns] == ["numeric", "text", "boolean", "text"]
    assert np.isnan(table.column("n").values[1]) and table.column("z").values.tolist() == ["0123", "0456", "0789"]


def test_long_integers_warn_that_digits_are_lost(written):
    with pytest.warns(ChainruleWarning, match="'id' has 2 integers beyond 2\\^53"):
        data.read(written(f"id,b\n{2**53 + 1},1\n{10**24},2\n"))


def test_missing_words_are_missing_and_reported_by_column_and_line(written):
    rows = "\n".join(f"{i},{'NA' if i % 3 == 0 else i},{i % 2}" for i in range(1, 10))
    path = written(f"a,b,y\n{rows}\n")
    with pytest.raises(DataError, match=r"'b' 3 \(first: rows\.csv:4\).*missing='mean'"):
        data.prepare(data.read(path), target="y")
    ready = data.prepare(data.read(path), target="y", missing="median")
    assert ready.notes == ("column 'b': 3 missing values filled by median",)
    dropped = data.prepare(data.read(path), target="y", missing="drop", validation=None)
    assert len(dropped.x) == 6 and "3 rows" in dropped.notes[0]


def test_options_misspelt_or_out_of_place_are_named(written, tmp_path):
    with pytest.raises(ArgumentError, match=r"delimeter= is no option.*did you mean 'delimiter'"):
        data.read(written(GOOD), delimeter=";")
    with pytest.raises(ArgumentError, match="encoding= is for delimited text"):
        data.read("digits", encoding="utf-8")
    with pytest.raises(ArgumentError, match="no column 'c'; it has 'a', 'b'"):
        data.read(written(GOOD), text=["c"])
    with pytest.raises(ArgumentError, match="no column 'A'; it has 'a', 'b'; did you mean 'a'"):
        data.read(written(GOOD), target="A")
    with pytest.raises(ArgumentError, match="Python does not know"):
        data.read(written(GOOD), encoding="utf-99")


def test_a_file_that_changes_while_it_is_read_is_refused(written, monkeypatch):
    path = written(GOOD)
    from chainrule.data import delimited

    rectangle = delimited._rectangle

    def append_then_read(*args):
        with path.open("a") as file:
            file.write("5,6\n")
            file.flush()
            os.fsync(file.fileno())
        return rectangle(*args)

    monkeypatch.setattr(delimited, "_rectangle", append_then_read)
    with pytest.raises(DataError, match="changed while it was being read"):
        data.read(path)


numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**53), 2**53).map(str),
    st.sampled_from(["+1.", ".5", "1E5", "-0", "1e-400", " 7 "]),
)
words = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1).map(lambda word: "w" + word)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(numbers, words), min_size=1, max_size=20),
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_cells_equal_pythons_csv_and_float(tmp_path_factory, rows, delimiter, end):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
    writer.writerow(["number", "word"])
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("cells") / "rows.csv"
    path.write_bytes(text.getvalue().encode())
    table = data.read(path, delimiter=delimiter, text=["word"], missing_words=[])
    assert table.column("number").values.tolist() == [float(number) for number, _ in rows]
    assert table.column("word").values.tolist() == [word.strip() for _, word in rows]


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_with_the_name(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "rows.csv"
    path.write_bytes(content)
    try:
        table = data.read(path)
    except DataError as error:
        assert "rows.csv" in str(error)
    else:
        assert table.rows > 0
