"""NPY and NPZ files: headers are checked before anything is allocated, and no file can carry code."""

import ast
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from chainrule.data.checks import Array, array_of, listed, require_memory, require_numbers, shown
from chainrule.data.files import reading
from chainrule.data.table import Column, Table
from chainrule.errors import ArgumentError, DataError

_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 64 * 2**10
_MOST_DIMENSIONS = 32
# More than this, unpacked from less than a hundredth of it, is taken for a bomb.
_BOMB_BYTES = 256 * 2**20
_BOMB_RATIO = 100
_PLAIN_TYPE = re.compile(r"[<>|=]?(?:[biuf][1248]|[US]\d{1,6}|\?)")

_INPUT_NAMES = ("x", "data", "images", "inputs", "features")
_TARGET_NAMES = ("y", "target", "targets", "label", "labels")
_PARTS = {"": "", "_train": "train", "_test": "validation", "_val": "validation", "_valid": "validation"}


@dataclass(frozen=True)
class _Header:
    """What the first bytes of an .npy declare."""

    dtype: np.dtype
    fortran: bool
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """The size of the elements, in Python's integers, which do not overflow."""
        size = self.dtype.itemsize
        for length in self.shape:
            size *= length
        return size


def read_npy(path: Path, target: str | int | None = None) -> Table:
    """The one array of an .npy as a column "x"; `target`, an integer, takes this column of a 2-D array as target."""
    with reading(path) as file:
        size = path.stat().st_size
        array = _read_array(file.read, size, path.name)
    return table_of_arrays(path.name, {"x": array}, target=target, path=str(path))


def read_npz(path: Path, target: str | int | None = None) -> Table:
    """The members of an .npz as columns.

    Inputs and target are recognised by name: x, data, images, inputs or features, and y, target, targets, label or
    labels, in any case, each also with _train (and then _test, _val or _valid for the second part). With
    `target="name"` that member is the target and every other one an input.
    """
    with reading(path) as file:
        arrays = _members(file, path.name)
    if isinstance(target, str) or target is None:
        paired = None if isinstance(target, str) else _recognised(arrays)
        if paired is not None:
            train, second = paired
            own = None if second is None else table_of_arrays(path.name, second, target="y", path=str(path))
            return table_of_arrays(path.name, train, target="y", path=str(path), validation=own)
    return table_of_arrays(path.name, arrays, target=target, path=str(path))


def table_of_arrays(
    source: str,
    arrays: dict[str, Array],
    *,
    target: str | int | None = None,
    path: str | None = None,
    validation: Table | None = None,
) -> Table:
    """Arrays with one entry a row as a table. Bytes in blocks of two or more dimensions are taken for images (scale
    255); integer, truth and text targets are classes, real numbers are values."""
    for name, array in arrays.items():
        if array.ndim == 0:
            raise DataError(f"{source}: member {shown(name)} is a single value; every member needs one entry a row")
    if isinstance(target, int) and not isinstance(target, bool):
        arrays, target = _column_taken(source, arrays, target)
    if target is not None and target not in arrays:
        raise ArgumentError(f"{source} has no member {shown(target)}; it has {listed(arrays)}")
    columns = tuple(_column(source, name, array, is_target=name == target) for name, array in arrays.items())
    task = None
    if target is not None:
        task = "regression" if arrays[target].dtype.kind == "f" else "classification"
    return Table(source, columns, target, path, validation=validation, task=task, dense=True)


def _column(source: str, name: str, array: Array, is_target: bool) -> Column:
    if is_target and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind in "US" and array.ndim == 1:
        return Column(name, "text", _texts(source, name, array))
    require_numbers(array, f"{source}: {name}")
    if array.dtype.kind == "b":
        return (
            Column(name, "boolean", array.astype(np.float64))
            if array.ndim == 1
            else Column(name, "numeric", array.astype(np.uint8), scale=1.0)
        )
    return Column(name, "numeric", array, scale=255.0 if array.dtype == np.uint8 and array.ndim > 2 else None)


def _texts(source: str, name: str, array: Array) -> Array:
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{source}: {name} holds bytes that are not UTF-8 ({error.reason}); decode them") from None
    texts = np.empty(len(array), dtype=object)
    texts[:] = array.tolist()
    return texts


def _column_taken(source: str, arrays: dict[str, Array], target: int) -> tuple[dict[str, Array], str]:
    """One 2-D array divided into inputs and the target column `target` (negative: from the end)."""
    (name, array), *others = arrays.items()
    if others or array.ndim != 2:
        raise ArgumentError(
            f"{source}: target={target} picks a column of a single 2-D array; here pass a member's name"
        )
    if not -array.shape[1] <= target < array.shape[1] or array.shape[1] < 2:
        raise ArgumentError(f"{source}: target={target} is outside its {array.shape[1]} columns")
    return {name: np.delete(array, target, axis=1), "y": array[:, target]}, "y"


def _recognised(arrays: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array] | None] | None:
    """(training arrays, second part or None) by the members' names, or None where they say nothing."""
    found: dict[tuple[str, str], Array] = {}
    for name, array in arrays.items():
        lower = name.lower()
        for suffix, part in _PARTS.items():
            stem = lower.removesuffix(suffix) if suffix else lower
            role = "x" if stem in _INPUT_NAMES else "y" if stem in _TARGET_NAMES else None
            if role and (lower.endswith(suffix)) and (part, role) not in found:
                found[part, role] = array
    if len(found) != len(arrays):
        return None
    first = "" if ("", "x") in found else "train"
    if (first, "x") not in found or (first, "y") not in found:
        return None
    parts = {part for part, _ in found}
    second = None
    if "validation" in parts:
        if ("validation", "x") not in found or ("validation", "y") not in found:
            return None
        second = {"x": found["validation", "x"], "y": found["validation", "y"]}
    return {"x": found[first, "x"], "y": found[first, "y"]}, second


def _members(file: BinaryIO, source: str) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _require_sound(entries, source)
            return {entry.filename.removesuffix(".npy"): _member(archive, entry, source) for entry in entries}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, ValueError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source} is damaged or cut short: {error}; copy or save it again") from None


def _require_sound(entries: list[zipfile.ZipInfo], source: str) -> None:
    """Refuse an archive by its list of contents alone: nothing has been unpacked yet, and nothing goes to disk."""
    names = [entry.filename for entry in entries]
    if not names:
        raise DataError(f"{source} is an archive without members")
    if any(name.endswith("data.pkl") for name in names):
        raise DataError(
            f"{source} is a PyTorch pickle; a pickle can run code when it is opened, so it is never read. In "
            "PyTorch, save "
            "the arrays with numpy.savez(path, x=x.numpy(), y=y.numpy())"
        )
    if "xl/workbook.xml" in names:
        raise DataError(f"{source} is an Excel workbook; save its sheet as CSV")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{source} has more than one member called {listed(twice, 3)}; save it again")
    for entry in entries:
        if not entry.filename.endswith(".npy"):
            raise DataError(f"{source}: member {shown(entry.filename)} is not an .npy array; save it with numpy.savez")
    total, packed = sum(entry.file_size for entry in entries), sum(entry.compress_size for entry in entries)
    if total > _BOMB_BYTES and total > _BOMB_RATIO * max(packed, 1):
        raise DataError(
            f"{source} declares {total:,} bytes in {packed:,} packed ones (over {_BOMB_RATIO} times as many), "
            "which is how a "
            "zip bomb looks; if it is yours, save it with numpy.savez instead of savez_compressed"
        )
    require_memory(total, source)


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, source: str) -> Array:
    where = f"{source}: member {shown(entry.filename)}"
    try:
        with archive.open(entry) as file:
            array = _read_array(file.read, entry.file_size, where)
            if file.read(1):
                raise DataError(f"{where} has bytes after its array; save it again")
            return array
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise DataError(f"{where} is damaged: {error}; copy or save the file again") from None


def _read_array(read: Callable[[int], bytes], size: int, where: str) -> Array:
    """The array that follows; `size` is how many bytes header and elements have together, and it has to be exact."""
    header, used = _read_header(read, where)
    if header.bytes != size - used:
        fault = "is cut short" if header.bytes > size - used else "has bytes after its array"
        raise DataError(
            f"{where} {fault}: its header declares {header.shape} of {header.dtype}, {header.bytes:,} bytes, and "
            f"{size - used:,} follow; copy or save it again"
        )
    if header.bytes == 0:
        raise DataError(f"{where} is empty: its shape is {header.shape}; there is nothing to learn from")
    require_memory(header.bytes, where)
    data = read(header.bytes)
    if len(data) != header.bytes:
        raise DataError(f"{where} is cut short: {len(data):,} of {header.bytes:,} bytes; copy or save it again")
    array = np.frombuffer(data, dtype=header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
    return array_of(array, where) if array.ndim else array


def _read_header(read: Callable[[int], bytes], where: str) -> tuple[_Header, int]:
    """(header, bytes it took). Format: magic, version, length, a literal dict; nothing is evaluated as code."""
    start = read(8)
    if not start.startswith(_MAGIC) or len(start) < 8:
        raise DataError(f"{where} is not an .npy array: it begins with {shown(start)}; save it with numpy.save")
    version = (start[6], start[7])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise DataError(f"{where} has .npy version {version[0]}.{version[1]}; versions 1.0, 2.0 and 3.0 are known")
    digits = 2 if version == (1, 0) else 4
    length = int.from_bytes(read(digits), "little")
    if length > _LONGEST_HEADER:
        raise DataError(f"{where} declares a header of {length:,} bytes; at most {_LONGEST_HEADER:,} are read")
    raw = read(length)
    if len(raw) < length:
        raise DataError(f"{where} is cut short in its header; copy or save it again")
    try:
        fields = ast.literal_eval(raw.decode("utf-8" if version == (3, 0) else "latin-1").strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, UnicodeDecodeError):
        fields = None
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise DataError(f"{where} has a damaged header: {shown(raw[:80])}; copy or save it again")
    return _header(fields, where), 8 + digits + length


def _header(fields: dict[str, object], where: str) -> _Header:
    descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if isinstance(descr, str) and "O" in descr:
        raise DataError(
            f"{where} holds pickled Python objects; a pickle can run code when it is opened, so it is never read. "
            "Convert first: numpy.save(path, array.astype(float)), or .astype(str) for labels"
        )
    if not isinstance(descr, str) or not _PLAIN_TYPE.fullmatch(descr):
        raise DataError(
            f"{where} has elements of type {shown(descr)}; integers, floats, truth values and texts are read"
        )
    lengths_fit = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 2**63 for n in shape)
    if (
        not isinstance(shape, tuple)
        or not lengths_fit
        or len(shape) > _MOST_DIMENSIONS
        or not isinstance(fortran, bool)
    ):
        raise DataError(f"{where} declares the shape {shown(shape)}, which no array can have; copy or save it again")
    return _Header(np.dtype(descr), fortran, shape)
