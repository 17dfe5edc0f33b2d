"""A checkpoint: named arrays and a header of plain data in one safetensors file, in which no damage goes unseen.

The file is a plain safetensors file: 8 bytes with the length n of the table (little-endian), n bytes of table (JSON:
type, shape and place of each array, and a metadata dictionary of strings), then the arrays without gaps. The format
itself has no checksum, so the metadata holds

    chainrule.format    version of this layout
    chainrule.version   the chainrule that wrote it
    chainrule.header    the caller's header as JSON
    chainrule.arrays    JSON: name -> blake2b of type, shape and bytes, in the order in which the arrays were given
    chainrule.digest    blake2b of the 8 bytes and the whole table, taken with zeros in the place of this digest

so that every bit of the file is under one digest or another. A digest tells damage, not malice: who can write the file
can also write its digests. Therefore the table is checked like a stranger's before anything is allocated, and nothing
in it is ever run.
"""

import hashlib
import json
import math
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from chainrule.errors import ArgumentError, CheckpointError, DTypeError
from chainrule.record.durable import replace_file
from chainrule.spec import is_masked

FORMAT = 1
"""Version of the layout that this chainrule writes, and the newest that it reads."""

# Limits of what is read. The first is that of safetensors; the others are far above any network.
TABLE_AT_MOST = 100_000_000
ARRAYS_AT_MOST = 100_000
NAME_AT_MOST = 1_000
DIMENSIONS_AT_MOST = 32
DEPTH_AT_MOST = 64

TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
    "C64": "<c8",
}
"""Element types of a checkpoint: safetensors' name and NumPy's."""

# What else people hand over, by its first bytes.
SIGNATURES = {
    b"PK\x03\x04": "a zip archive (.npz, torch.save or .keras)",
    b"\x93NUMPY": "a .npy file",
    b"\x89HDF": "an HDF5 file",
    b"SQLite": "an SQLite file",
    b"\x80\x02": "a pickle, which can carry code and is never read",
    b"\x80\x03": "a pickle, which can carry code and is never read",
    b"\x80\x04": "a pickle, which can carry code and is never read",
    b"\x80\x05": "a pickle, which can carry code and is never read",
    b"\x1f\x8b": "a gzip file",
}

USE_ANOTHER = "Use an older checkpoint of this run, or train again."


def save_checkpoint(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    """Write `arrays` and `header` to `path`, whole and durable, or raise and leave what was there.

    header: plain data: None, bool, int, float (also NaN and infinity), str, lists and dictionaries with text keys. A
    tuple comes back as a list. The memory needed is up to three times the size of the arrays.

    DTypeError: an array that is no array, masked, or of a type without a fixed layout (object, text, longdouble).
    ArgumentError: a header that is not plain data, or a name that is empty, too long or not text.
    CheckpointError: the system refused to write; see `replace_file`.
    """
    from safetensors.numpy import save

    dense = {_checked_name(name): _dense(name, array) for name, array in arrays.items()}
    placeholder = "0" * len(_hexdigest(b""))
    metadata = {
        "chainrule.format": str(FORMAT),
        "chainrule.version": _version(),
        "chainrule.header": json.dumps(_plain(dict(header), "header", DEPTH_AT_MOST)),
        "chainrule.arrays": json.dumps({name: digest_array(array) for name, array in dense.items()}),
        "chainrule.digest": placeholder,
    }
    content = save(dense, metadata=metadata)
    end = 8 + int.from_bytes(content[:8], "little")
    table = content[:end]
    # In a string the quotes would be escaped, so the pair of key and placeholder stands in the table exactly once.
    pair = '"chainrule.digest":"{}"'
    signed = table.replace(pair.format(placeholder).encode(), pair.format(_hexdigest(table)).encode())
    replace_file(Path(path), signed, memoryview(content)[end:])


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays (fresh, writable, in the order they were saved) and the header of the checkpoint at `path`.

    CheckpointError: cut short, damaged, foreign or of a newer chainrule; it names the file, the array, what was found
    and what to do. Never returns numbers that were not saved.
    """
    path = Path(path)
    with _opened(path) as file:
        table = _read_table(file, path)
        arrays = {entry.name: _read_array(file, path, entry, table) for entry in table.entries}
    return {name: arrays[name] for name in table.digests}, table.header


def load_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The header of the checkpoint at `path`, without its arrays, of which only the places and sizes are checked."""
    path = Path(path)
    with _opened(path) as file:
        return _read_table(file, path).header


def digest_array(array: np.ndarray) -> str:
    """blake2b (128 bits, hexadecimal) of type, shape and bytes. array: contiguous in C order."""
    digest = hashlib.blake2b(f"{array.dtype.str}{list(array.shape)}".encode(), digest_size=16)
    digest.update(_bytes_of(array))
    return digest.hexdigest()


@dataclass(frozen=True)
class Entry:
    """One array in the table. start, stop: bytes from the end of the table."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    stop: int

    def __str__(self) -> str:
        return f"array {self.name!r} ({self.dtype.name}{list(self.shape)})"


@dataclass(frozen=True)
class Table:
    """What stands before the arrays, checked. size: bytes up to the first array. Entries in the order of the file."""

    size: int
    entries: tuple[Entry, ...]
    digests: dict[str, str]
    header: dict[str, Any]


# ---- saving ---------------------------------------------------------------------------------------------------------


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= NAME_AT_MOST or name == "__metadata__":
        raise ArgumentError(
            f"save_checkpoint: the name of an array must be text of 1 to {NAME_AT_MOST} characters other than "
            f"'__metadata__', not {str(name)[:80]!r}"
        )
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(f"save_checkpoint: the name {name[:80]!r} cannot be written as UTF-8: {error}") from error
    return name


def _dense(name: str, array: np.ndarray) -> np.ndarray:
    """The array in C order, little-endian. safetensors 0.8.0 writes the bytes of a strided array in the wrong order."""
    if is_masked(array):
        raise DTypeError(
            f"save_checkpoint: array {name!r} is masked, and a checkpoint has no masks. Fill it: array.filled(value)"
        )
    if not isinstance(array, np.ndarray | np.generic):
        raise DTypeError(f"save_checkpoint: {name!r} is a {type(array).__name__}, not a numpy array")
    little = array.dtype.newbyteorder("<")
    if little.str not in TYPES.values():
        raise DTypeError(
            f"save_checkpoint: array {name!r} has dtype {array.dtype}, which a checkpoint cannot hold. "
            f"Convert it to one of {', '.join(np.dtype(known).name for known in TYPES.values())}"
        )
    # Not ascontiguousarray alone: it turns the shape () into (1,).
    return np.ascontiguousarray(array, dtype=little).reshape(array.shape)


def _plain(value: Any, where: str, depth: int) -> Any:
    """`value` with lists for tuples, or the place of the first thing in it that JSON would change or cannot hold."""
    if depth == 0:
        raise ArgumentError(f"save_checkpoint: {where} is nested more than {DEPTH_AT_MOST} deep")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{position}]", depth - 1) for position, item in enumerate(value)]
    if not isinstance(value, dict):
        raise ArgumentError(
            f"save_checkpoint: {where} is a {type(value).__name__}; a header holds only None, bool, int, float, str, "
            "lists and dictionaries. Convert it, or save it as an array"
        )
    for key in value:
        if not isinstance(key, str):
            raise ArgumentError(f"save_checkpoint: {where} has the key {key!r}; keys must be text")
    return {key: _plain(item, f"{where}[{key!r}]", depth - 1) for key, item in value.items()}


# ---- loading --------------------------------------------------------------------------------------------------------


def _opened(path: Path) -> BinaryIO:
    try:
        # Without O_NONBLOCK, opening a named pipe waits for a writer that may never come.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} cannot be opened: {error.strerror or error}. Check the path and its permissions."
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"checkpoint {str(path)!r} is not a regular file. Give the path of a .safetensors file.")
    return open(descriptor, "rb", buffering=0)


def _read_table(file: BinaryIO, path: Path) -> Table:
    found = os.fstat(file.fileno()).st_size
    prefix = _read(file, path, 8, found) if found >= 8 else b""
    length = int.from_bytes(prefix, "little")
    if not prefix or not 2 <= length <= TABLE_AT_MOST:
        _refuse_foreign(path, prefix, found)
    if 8 + length > found:
        _refuse_foreign(path, prefix, found) if _signature(prefix) else _refuse_cut(
            path, found, 8 + length, "its table"
        )
    text = _read(file, path, length, found)
    if not text.startswith(b"{"):
        _refuse_foreign(path, prefix, found)
    content = _parsed(path, text, "its table")
    metadata = content.pop("__metadata__", None)
    _refuse_other_formats(path, metadata)
    _refuse_changed_table(path, prefix + text, metadata["chainrule.digest"])
    header = _parsed(path, metadata["chainrule.header"], "its header")
    digests = _parsed(path, metadata["chainrule.arrays"], "its list of digests")
    entries = _entries(path, content)
    if set(digests) != {entry.name for entry in entries}:
        _refuse_damaged(path, "its table and its list of digests name different arrays")
    _refuse_other_sizes(path, found, 8 + length, entries)
    return Table(8 + length, entries, digests, header)


def _read_array(file: BinaryIO, path: Path, entry: Entry, table: Table) -> np.ndarray:
    array = np.empty(entry.shape, entry.dtype)
    left = _bytes_of(array)
    while left:
        count = file.readinto(left)  # type: ignore[attr-defined]
        if not count:
            _refuse_cut(path, file.tell(), table.size + entry.stop, str(entry))
        left = left[count:]
    if digest_array(array) != table.digests[entry.name]:
        _refuse_damaged(path, f"{entry} does not match its digest")
    return array


def _read(file: BinaryIO, path: Path, count: int, found: int) -> bytes:
    parts = []
    while count:
        part = file.read(count)
        if not part:
            raise CheckpointError(
                f"checkpoint {str(path)!r} shrank from {found:,} to {file.tell():,} bytes while it was read. "
                f"{USE_ANOTHER}"
            )
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _parsed(path: Path, text: str | bytes, what: str) -> dict[str, Any]:
    def refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        merged = dict(pairs)
        if len(merged) < len(pairs):
            raise ValueError("a key stands there twice")
        return merged

    try:
        parsed = json.loads(text, object_pairs_hook=refuse_repeated)
    except RecursionError:
        _refuse_damaged(path, f"{what} is nested too deep")
    except ValueError as error:
        _refuse_damaged(path, f"{what} is not JSON ({str(error)[:200]})")
    if not isinstance(parsed, dict):
        _refuse_damaged(path, f"{what} is not a JSON object")
    return parsed


def _refuse_other_formats(path: Path, metadata: Any) -> None:
    if not isinstance(metadata, dict) or "chainrule.format" not in metadata:
        raise CheckpointError(
            f"checkpoint {str(path)!r} is a safetensors file that chainrule did not write: it has no digests and no "
            "state of a training. To take over its arrays: net.load_state_dict(safetensors.numpy.load_file(path))"
        )
    wanted = {f"chainrule.{key}" for key in ("format", "version", "header", "arrays", "digest")}
    version = metadata["chainrule.format"]
    if isinstance(version, str) and version.isascii() and version.isdigit() and int(version[:9]) > FORMAT:
        raise CheckpointError(
            f"checkpoint {str(path)!r} was made by a newer chainrule ({str(metadata.get('chainrule.version'))[:40]!r}, "
            f"format {version[:9]}); this is {_version()}, which reads formats up to {FORMAT}. "
            "Upgrade: pip install --upgrade chainrule"
        )
    strings = all(isinstance(value, str) for value in metadata.values())
    if version != str(FORMAT) or set(metadata) != wanted or not strings:
        _refuse_damaged(path, "its metadata is not what chainrule writes")


def _refuse_changed_table(path: Path, table: bytes, digest: str) -> None:
    pair = b'"chainrule.digest":"%s"'
    zeroed = table.replace(pair % digest.encode("utf-8", "replace"), pair % (b"0" * len(_hexdigest(b""))))
    if _hexdigest(zeroed) != digest:
        _refuse_damaged(path, "its table does not match its digest")


def _entries(path: Path, content: dict[str, Any]) -> tuple[Entry, ...]:
    """The arrays in the order of the file, or an error unless they fill it from 0 on without gap or overlap."""
    if len(content) > ARRAYS_AT_MOST:
        _refuse_damaged(path, f"it claims {len(content):,} arrays; at most {ARRAYS_AT_MOST:,} are read")
    entries = sorted(
        (_entry(path, name, claim) for name, claim in content.items()), key=lambda entry: (entry.start, entry.stop)
    )
    end = 0
    for entry in entries:
        if entry.start != end:
            _refuse_damaged(path, f"{entry} starts at byte {entry.start:,} instead of {end:,}")
        end = entry.stop
    return tuple(entries)


def _entry(path: Path, name: str, claim: Any) -> Entry:
    if len(name) > NAME_AT_MOST:
        _refuse_damaged(path, f"the name of an array has {len(name):,} characters")
    if (
        not isinstance(claim, dict)
        or set(claim) != {"dtype", "shape", "data_offsets"}
        or str(claim["dtype"]) not in TYPES
    ):
        _refuse_damaged(path, f"the entry of array {name!r} is not one that chainrule writes")
    shape, offsets = claim["shape"], claim["data_offsets"]
    if not _are_sizes(shape) or len(shape) > DIMENSIONS_AT_MOST or not _are_sizes(offsets) or len(offsets) != 2:
        _refuse_damaged(path, f"array {name!r} claims shape {str(shape)[:80]} at bytes {str(offsets)[:80]}")
    entry = Entry(name, np.dtype(TYPES[claim["dtype"]]), tuple(shape), *offsets)
    if entry.stop - entry.start != math.prod(shape) * entry.dtype.itemsize:
        _refuse_damaged(path, f"{entry} has {entry.stop - entry.start:,} bytes, which its shape does not fill")
    return entry


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 62 for value in values)


def _refuse_other_sizes(path: Path, found: int, start: int, entries: tuple[Entry, ...]) -> None:
    wanted = start + (entries[-1].stop if entries else 0)
    if found > wanted:
        _refuse_damaged(path, f"it has {found:,} bytes, {found - wanted:,} more than its arrays need")
    for entry in entries:
        if start + entry.stop > found:
            _refuse_cut(path, found, wanted, str(entry))


def _refuse_cut(path: Path, found: int, wanted: int, what: str) -> NoReturn:
    raise CheckpointError(
        f"checkpoint {str(path)!r} is cut short in {what}: it has {found:,} of {wanted:,} bytes. {USE_ANOTHER}"
    )


def _refuse_damaged(path: Path, what: str) -> NoReturn:
    raise CheckpointError(f"checkpoint {str(path)!r} is damaged: {what}. {USE_ANOTHER}")


def _refuse_foreign(path: Path, prefix: bytes, found: int) -> NoReturn:
    if not prefix:
        raise CheckpointError(
            f"checkpoint {str(path)!r} is cut short or foreign: it has {found:,} bytes, and the smallest has more. "
            f"{USE_ANOTHER}"
        )
    guess = _signature(prefix) or f"damaged or of another format: it begins with {prefix!r}"
    raise CheckpointError(f"checkpoint {str(path)!r} is {guess}. Give a .safetensors file that chainrule wrote.")


def _signature(prefix: bytes) -> str | None:
    return next((meaning for magic, meaning in SIGNATURES.items() if prefix.startswith(magic)), None)


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _version() -> str:
    # Looked up, not imported: the top of the package imports everything above this layer.
    return str(sys.modules["chainrule"].__version__)


def _hexdigest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
