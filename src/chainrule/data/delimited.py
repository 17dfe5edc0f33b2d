"""Delimited text (CSV, TSV): every decision about delimiter, header and types is made over the whole file, and said."""

import csv
import io
import itertools
import re
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypedDict

import numpy as np

from chainrule.data.checks import Array, listed, shown
from chainrule.data.files import reading
from chainrule.data.preprocess import Preprocess
from chainrule.data.table import Column, Kind, Table
from chainrule.errors import ArgumentError, ChainruleWarning, DataError

# A cell that is one of these (in any case, spaces around it aside) is missing.
MISSING_WORDS = ("", "na", "n/a", "#n/a", "nan", "null", "none", "?")

_DELIMITERS = (",", ";", "\t", "|")
_MAX_COLUMNS = 10_000
_MAX_LINE = 2 * 2**20
_SAMPLE_ROWS = 50
_EXACT_INTEGER = 2**53
# 1,000 or 1.000,5 or 3,14 or $5 or 12% or 1'000: numbers to a person, and two different ones to two persons.
_LOCALE_NUMBER = re.compile(
    r"[+-]?[$€£¥]?\s?(\d{1,3}(?:[,.'\u00a0\u202f ]\d{3})+(?:[.,]\d+)?|\d+,\d+|\d+(?:\.\d+)?)\s?[$€£¥%]?"
)


class DelimitedOptions(TypedDict, total=False):
    """What a person may say about a delimited file; see `read_delimited`."""

    delimiter: str | None
    header: bool | None
    encoding: str
    missing_words: Collection[str] | None
    text: Collection[str]


@dataclass(frozen=True)
class _Cells:
    """The file's cells as text: a header, and the rows with the line each starts at."""

    header: tuple[str, ...]
    rows: list[list[str]]
    lines: Array
    notes: tuple[str, ...]


def read_delimited(
    path: Path,
    *,
    delimiter: str | None = None,
    header: bool | None = None,
    encoding: str = "utf-8",
    missing_words: Collection[str] | None = None,
    text: Collection[str] = (),
    ignore: Collection[str] = (),
    like: Preprocess | None = None,
) -> Table:
    """The table of a delimited file.

    delimiter      one character; None finds the one of `, ; tab |` under which all rows have equally many cells.
    header         whether the first row names the columns; None: it does if none of its cells is a number.
    missing_words  what counts as missing, in any case; None: an empty cell, NA, N/A, #N/A, NaN, null, none and ?.
    text           columns whose cells are words even where they look like numbers (postcodes).
    ignore         columns that are neither read nor checked.
    like           a trained network's Preprocess: its text columns are text here, its ignored ones are ignored, and its
                   missing words are missing, wherever they occur.

    A column is numeric if every cell that is not missing is a finite number, boolean if each is true or false, text
    otherwise; one in which more than half are numbers is refused with the first cell that is not.
    """
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n'):
        raise ArgumentError(f"delimiter is {shown(delimiter)}; it must be one character such as ',' or ';'")
    if isinstance(missing_words, str):
        raise ArgumentError(f"missing_words is the text {shown(missing_words)}; pass a list: [{shown(missing_words)}]")
    cells = _read_cells(path, delimiter, header, encoding)
    if missing_words is None:
        missing_words = like.missing_words if like and like.missing_words is not None else MISSING_WORDS
    absent = {word.strip().lower() for word in missing_words}
    for name in (*text, *ignore):
        if name not in cells.header:
            raise ArgumentError(f"{path.name} has no column {shown(name)}; it has {listed(cells.header)}")
    if like is not None:
        text = (*text, *like.text)
        ignore = (*ignore, *(name for name in like.ignored if name != like.target.name))
    columns = [
        _column(path.name, name, [row[i] for row in cells.rows], cells.lines, absent, as_text=name in text)
        for i, name in enumerate(cells.header)
        if name not in ignore
    ]
    words = tuple(sorted(absent))
    return Table(path.name, tuple(columns), path=str(path), lines=cells.lines, notes=cells.notes, missing_words=words)


def _read_cells(path: Path, delimiter: str | None, header: bool | None, encoding: str) -> _Cells:
    try:
        with reading(path) as file:
            chosen = delimiter or _find_delimiter(path, file, encoding)
            file.seek(0)
            rows, lines = _rectangle(path, _rows(path, file, encoding, chosen), chosen)
    except UnicodeError as error:
        raise DataError(_not_decoded(path, encoding, error)) from None
    except LookupError:
        raise ArgumentError(f"encoding is {shown(encoding)}, which Python does not know; try 'latin-1'") from None
    if len(rows[0]) == 1 and delimiter is not None:
        _require_right_delimiter(path, rows, delimiter)
    names, notes = _header(path, rows[0], header)
    if not notes:
        rows, lines = rows[1:], lines[1:]
    if not rows:
        raise DataError(f"{path.name} has a header ({listed(names, 6)}) and no rows below it")
    return _Cells(names, rows, np.array(lines, dtype=np.int64), notes)


def _lines(path: Path, file: BinaryIO, encoding: str) -> Iterator[str]:
    """The file's lines with their ends kept; \\n, \\r\\n and \\r all end one. A line without end is refused."""
    text = io.TextIOWrapper(
        file, encoding="utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding, newline=""
    )
    try:
        for number in itertools.count(1):
            line = text.readline(_MAX_LINE + 1)
            if not line:
                return
            if len(line) > _MAX_LINE:
                raise DataError(
                    f"{path.name}:{number}: a line of more than {_MAX_LINE:,} characters; is this really CSV?"
                )
            if "\0" in line:
                raise DataError(
                    f"{path.name}:{number}: a NUL character at column {line.index(chr(0)) + 1}; the file is binary, "
                    "damaged, or in another encoding (then pass encoding='utf-16')"
                )
            yield line
    finally:
        # Left to itself the wrapper would close the file, which belongs to the caller and is read again.
        if not file.closed:
            text.detach()


def _rows(path: Path, file: BinaryIO, encoding: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each row; a quoted cell may span lines."""
    reader = csv.reader(_lines(path, file, encoding), delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path.name}:{start}: {_csv_fault(str(error))}") from None
        if len(cells) > _MAX_COLUMNS:
            raise DataError(
                f"{path.name}:{start}: {len(cells):,} cells in a row; at most {_MAX_COLUMNS:,} are read from text. "
                "Save such wide data as .npz or .npy"
            )
        yield start, cells


def _csv_fault(message: str) -> str:
    if "field limit" in message:
        return f"a cell of more than {csv.field_size_limit():,} characters; is a quote left open?"
    if "unexpected end" in message:
        return 'a quoted cell that begins here is never closed; look for a single " without its partner'
    if "expected after" in message:
        return 'text follows a closing quote; inside a quoted cell write "" for a quote'
    return message


def _find_delimiter(path: Path, file: BinaryIO, encoding: str) -> str:
    """The delimiter under which the first rows all have the same number of cells, and the most of them."""
    best, widest = "," if path.suffix.lower() != ".tsv" else "\t", 1
    for candidate in _DELIMITERS:
        file.seek(0)
        try:
            sample = itertools.islice(_rows(path, file, encoding, candidate), _SAMPLE_ROWS)
            widths = {len(cells) for _, cells in sample if cells}
        except DataError:
            continue  # the chosen delimiter meets the same fault again, and then it is reported
        if len(widths) == 1 and max(widths) > widest:
            best, widest = candidate, max(widths)
    return best


def _rectangle(path: Path, rows: Iterator[tuple[int, list[str]]], delimiter: str) -> tuple[list[list[str]], list[int]]:
    """All rows, of one width. Blank lines are no rows, except inside a file of one column, where they are missing."""
    kept: list[list[str]] = []
    lines: list[int] = []
    ragged: list[tuple[int, int]] = []
    bad, pending = 0, list[int]()
    for line, cells in rows:
        if not cells:
            pending.append(line)
            continue
        if kept and len(kept[0]) == 1:
            kept.extend([""] for _ in pending)
            lines.extend(pending)
        pending.clear()
        if kept and len(cells) != len(kept[0]):
            bad += 1
            ragged.extend([(line, len(cells))] if bad <= 3 else [])
            continue
        kept.append(cells)
        lines.append(line)
    if not kept:
        raise DataError(f"{path.name} has no rows: only blank lines")
    if bad:
        first = ", ".join(f"{path.name}:{line} has {width}" for line, width in ragged)
        raise DataError(
            f"{path.name}: {bad:,} rows do not have {len(kept[0])} cells like line {lines[0]} does (delimiter "
            f"{delimiter!r}): {first}; mend these lines, put quotes around cells that contain the delimiter, "
            "or pass delimiter="
        )
    return kept, lines


def _require_right_delimiter(path: Path, rows: list[list[str]], delimiter: str) -> None:
    for other in _DELIMITERS:
        widths = {row[0].count(other) for row in rows[:_SAMPLE_ROWS]}
        if other != delimiter and len(widths) == 1 and widths != {0}:
            raise DataError(
                f"{path.name} has one column under delimiter {delimiter!r}; it looks like {other!r}: "
                f"pass delimiter={other!r}"
            )


def _header(path: Path, first: list[str], header: bool | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(column names, notes); with a note, the first row is data and the names are made up."""
    if header is False or (header is None and any(_number(cell) is not None for cell in first)):
        names = tuple(f"column{i + 1}" for i in range(len(first)))
        said = "as asked" if header is False else "its first row holds numbers; pass header=True if they are names"
        return names, (f"{path.name} has no header ({said}): its columns are {listed(names, 3)}",)
    names = tuple(cell.strip() for cell in first)
    blank = [i + 1 for i, name in enumerate(names) if not name]
    if blank:
        hint = " (a first column without a name is often an index that a dataframe wrote)" if blank[0] == 1 else ""
        raise DataError(f"{path.name}:1: column {blank[0]} of {len(names)} has no name{hint}; name it or remove it")
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"{path.name}:1: more than one column is called {listed(twice, 3)}; give each its own name")
    return names, ()


def _column(name_of_file: str, name: str, cells: list[str], lines: Array, absent: set[str], as_text: bool) -> Column:
    stripped = [cell.strip() for cell in cells]
    missing = np.array([cell.lower() in absent for cell in stripped], dtype=bool)
    present = [cell for cell, gone in zip(stripped, missing, strict=True) if not gone]
    where = np.flatnonzero(~missing)
    kind, found = ("text", None) if as_text else _decide(name_of_file, name, present, lines[where])
    values: Array
    if kind == "text":
        values = np.full(len(cells), None, dtype=object)
        values[where] = present
    else:
        values = np.full(len(cells), np.nan)
        values[where] = found
    return Column(name, kind, values)


def _decide(source: str, name: str, present: list[str], lines: Array) -> tuple[Kind, Array | None]:
    """The column's kind, over all its cells, and its numbers if it has them."""
    numbers = _all_numbers(present)
    if numbers is not None:
        _require_representable(source, name, present, numbers, lines)
        return "numeric", numbers
    if {cell.lower() for cell in present} <= {"true", "false"}:
        return "boolean", np.array([float(cell.lower() == "true") for cell in present])
    each = [_number(cell) for cell in present]
    odd = [i for i, number in enumerate(each) if number is None]
    place = f"{source}:{lines[odd[0]]}: column {shown(name)} has {shown(present[odd[0]])}"
    if all(_LOCALE_NUMBER.fullmatch(present[i]) for i in odd):
        raise DataError(
            f"{place} and {len(odd) - 1:,} more such cells: numbers with a comma, blanks or a sign of unit can "
            "be read in "
            f"two ways; write plain numbers such as 1234.5, or pass text=[{shown(name)}] if they are words"
        )
    if len(odd) < len(present) / 2:
        raise DataError(
            f"{place}, which is not a number, as are {len(odd) - 1:,} more of its {len(present):,} cells; "
            "correct them, "
            f"add the word to missing_words=, or pass text=[{shown(name)}]"
        )
    return "text", None


def _all_numbers(present: list[str]) -> Array | None:
    """The cells as float64 if each is a number, by way of one conversion of the whole column."""
    if not all(map(str.isascii, present)) or any("_" in cell for cell in present):
        return None
    try:
        return np.array([float(cell) for cell in present])
    except ValueError:
        return None


def _number(cell: str) -> float | None:
    """A cell as a number, or None. Python would also take 1_000 and the digits of other scripts."""
    if not cell.isascii() or "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _require_representable(source: str, name: str, present: list[str], numbers: Array, lines: Array) -> None:
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise DataError(
            f"{source}:{lines[bad[0]]}: column {shown(name)} has {shown(present[bad[0]])}, which is infinite or not a "
            f"number ({len(bad):,} such cells); correct them, or leave them empty and pass missing="
        )
    candidates = np.flatnonzero(np.abs(numbers) >= _EXACT_INTEGER)
    large = [i for i in candidates if present[i].lstrip("+-").isdigit() and abs(int(present[i])) > _EXACT_INTEGER]
    if large:
        warnings.warn(
            ChainruleWarning(
                f"{source}:{lines[large[0]]}: column {shown(name)} has {len(large):,} integers beyond 2^53 (first "
                f"{shown(present[large[0]])}), which lose their last digits; if they are identifiers pass "
                f"text=[{shown(name)}] or ignore=[{shown(name)}]"
            ),
            stacklevel=2,
        )


def _not_decoded(path: Path, encoding: str, error: UnicodeError) -> str:
    """Where the first byte is that does not belong, found by decoding again (the error counts from a chunk's start)."""
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return f"{path.name} begins with a UTF-16 mark (byte 0), not {encoding}; pass encoding='utf-16'"
    try:
        data.decode(encoding)
    except UnicodeDecodeError as exact:
        line = data.count(b"\n", 0, exact.start) + 1
        return (
            f"{path.name}:{line}: byte {exact.start:,} is 0x{data[exact.start]:02x}, which is not {encoding}; "
            "pass encoding='latin-1' (or 'cp1252', 'utf-16'), or save the file as UTF-8"
        )
    except UnicodeError:
        pass
    return f"{path.name} is not {encoding} ({error}); pass encoding="
