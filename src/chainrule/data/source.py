"""Reading a source by name or path: a file is what its content is, and an extension that contradicts is an error."""

import os
import re
import zlib
from collections.abc import Collection
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Unpack

from chainrule.data.catalogue import builtin, names
from chainrule.data.checks import nearest, shown
from chainrule.data.delimited import DelimitedOptions, read_delimited
from chainrule.data.files import reading, require_file
from chainrule.data.idx import read_idx
from chainrule.data.numpy_files import read_npy, read_npz
from chainrule.data.parquet import read_parquet
from chainrule.data.preprocess import Preprocess
from chainrule.data.table import Table
from chainrule.errors import ArgumentError, DataError

_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".ckpt")
_EXTENSIONS = {
    ".csv": "text",
    ".tsv": "text",
    ".txt": "text",
    ".npz": "npz",
    ".npy": "npy",
    ".parquet": "parquet",
    ".json": "JSON",
    ".jsonl": "JSON",
}
_FOREIGN = (
    (b"\x89PNG", "a PNG image", "put the pixels into an .npz with numpy.savez(path, x=…, y=…)"),
    (b"\xff\xd8\xff", "a JPEG image", "put the pixels into an .npz with numpy.savez(path, x=…, y=…)"),
    (b"GIF8", "a GIF image", "put the pixels into an .npz with numpy.savez(path, x=…, y=…)"),
    (b"%PDF", "a PDF document", "save the table as CSV"),
    (b"\x89HDF", "an HDF5 file", "save its arrays with numpy.savez(path, x=…, y=…)"),
    (b"SQLite format 3\0", "an SQLite database", "export the table as CSV"),
    (b"\x7fELF", "a program", "name a data file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save its sheet as CSV"),
    (b"BZh", "a bzip2 archive", "unpack it first with bunzip2"),
    (b"\xfd7zXZ", "an xz archive", "unpack it first with unxz"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first with unzstd"),
)
_JSON = re.compile(rb'\s*(\{\s*["}]|\[\s*[\[{\]"]|\[\s*-?\d[\d.eE+-]*\s*[,\]\s])')
_MARKUP = re.compile(rb"\s*<(!doctype|html|\?xml|[a-z]+[ >])", re.IGNORECASE)
_HEAD = 4096


def read(
    source: "str | PathLike[str]",
    *,
    target: str | int | None = None,
    like: Preprocess | None = None,
    ignore: Collection[str] = (),
    **delimited: Unpack[DelimitedOptions],
) -> Table:
    """The raw table of a built-in data set (`names()`), a file (CSV, NPZ, NPY, IDX, Parquet) or a folder with
    IDX files.

    target     the column to predict, where the source does not say so itself.
    like       the Preprocess of a trained network: text columns and missing words are read as they were for training.
    ignore     columns that are left out, and not checked either.
    delimited  delimiter, header, encoding, missing_words, text: for delimited text; see `delimited.read_delimited`.
    """
    _require_options(delimited)
    table = _read(source, target, like, ignore, delimited)
    unread = tuple(name for name in ignore if name in table.names)
    table = table.without(unread) if unread else table
    return replace(table, target=table.column(target).name) if isinstance(target, str) else table


def _read(
    source: "str | PathLike[str]",
    target: str | int | None,
    like: Preprocess | None,
    ignore: Collection[str],
    delimited: DelimitedOptions,
) -> Table:
    if not isinstance(source, str | PathLike):
        raise ArgumentError(f"source is {shown(source)} ({type(source).__name__}); pass a name or a path")
    kind, path = _kind_and_path(source, delimited.get("encoding"))
    if kind == "text":
        return read_delimited(path, like=like, ignore=ignore, **delimited)
    if delimited:
        raise ArgumentError(f"{next(iter(delimited))}= is for delimited text, and {shown(str(source))} is {kind}")
    if kind == "built-in":
        return builtin(str(source))
    if kind == "npz":
        return read_npz(path, target)
    if kind == "npy":
        return read_npy(path, target)
    return read_parquet(path) if kind == "parquet" else read_idx(path)


def _kind_and_path(source: "str | PathLike[str]", encoding: str | None) -> tuple[str, Path]:
    if isinstance(source, str) and source in names():
        return "built-in", Path(source)
    path = Path(os.fsdecode(source))
    _require_known(source, path)
    return ("idx", path) if path.is_dir() else (kind_of(path, encoding), path)


def kind_of(path: Path, encoding: str | None = None) -> str:
    """ "text", "npz", "npy", "idx" or "parquet", by the file's first bytes. Pickles, images, JSON and other things
    that are no table of numbers are refused by name, at once, and so is an extension that says something else."""
    require_file(path)
    name, extension = shown(str(path), 200), path.suffix.lower()
    if extension in _PICKLES:
        raise DataError(_pickle_refused(name))
    with reading(path) as file:
        head = file.read(_HEAD)
    kind = _kind_of_bytes(head, name, encoding)
    if _EXTENSIONS.get(extension, kind) != kind:
        raise DataError(
            f"{name} is named {extension} but its content is {kind} (it begins with {shown(head[:8])}); "
            "give it the name of what it is"
        )
    return kind


def _kind_of_bytes(head: bytes, name: str, encoding: str | None) -> str:
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "npz"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"\x1f\x8b"):
        return _kind_in_gzip(head, name)
    if _is_idx(head):
        return "idx"
    for start, kind, remedy in _FOREIGN:
        if head.startswith(start):
            raise DataError(f"{name} is {kind}, not a table; {remedy}")
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise DataError(_pickle_refused(name))
    if encoding is None:
        _require_text(head, name)
    if _JSON.match(head):
        raise DataError(f"{name} is JSON, not a table; write it as CSV, for example with a dataframe's to_csv")
    if _MARKUP.match(head):
        raise DataError(f"{name} is HTML or XML, not a table; was an error page saved in place of the data?")
    return "text"


def _require_text(head: bytes, name: str) -> None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{name} begins with a UTF-16 mark (byte 0), not UTF-8; pass encoding='utf-16'")
    if b"\0" in head:
        raise DataError(
            f"{name} has a NUL at byte {head.index(0):,}: it is binary, damaged, or text in another encoding "
            "(then pass encoding='utf-16')"
        )


def _is_idx(head: bytes) -> bool:
    return len(head) >= 4 and head[:2] == b"\0\0" and 0x08 <= head[2] <= 0x0E and head[3] > 0


def _kind_in_gzip(head: bytes, name: str) -> str:
    try:
        inside = zlib.decompressobj(wbits=31).decompress(head, 16)
    except zlib.error as error:
        raise DataError(f"{name} is a damaged gzip file: {error}; copy or download it again") from None
    if _is_idx(inside):
        return "idx"
    raise DataError(f"{name} is gzipped and not an IDX file inside; unpack it first with gunzip")


def _pickle_refused(name: str) -> str:
    return (
        f"{name} is a pickle; a pickle can run code when it is opened, so it is never read. Convert it where "
        "you trust it: "
        "load it there, and save the arrays with numpy.savez(path, x=…, y=…) or the dataframe with to_csv or to_parquet"
    )


def _require_options(delimited: DelimitedOptions) -> None:
    known = DelimitedOptions.__annotations__
    for option in delimited:
        if option not in known:
            raise ArgumentError(f"{option}= is no option; there are {', '.join(known)}{nearest(option, known)}")


def _require_known(source: object, path: Path) -> None:
    """A word that is neither a built-in name nor a path gets the list of names."""
    looks_like_path = not isinstance(source, str) or path.suffix or len(path.parts) > 1
    if looks_like_path or path.exists() or path.is_symlink():
        return
    raise ArgumentError(
        f"no data set and no file is called {shown(source)}; built-in are {', '.join(names())}"
        f"{nearest(str(source), names())}"
    )
