"""IDX files (the format of MNIST), plain or gzipped: images, and the labels file that belongs to them.

Format: two zero bytes, a byte for the type, a byte for the number of dimensions, each dimension as a big-endian 32-bit
integer, then the elements, big-endian, and nothing after them.
"""

import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from chainrule.data.checks import Array, listed, require_memory
from chainrule.data.files import reading
from chainrule.data.table import Column, Table
from chainrule.errors import DataError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_DIMENSIONS = 8
_BLOCK = 2**20
# Deflate codes at most 258 bytes in two bits, so that a packed byte unpacks to no more than about this many.
_DEFLATE_LIMIT = 1032
_IMAGES = re.compile(r"images(?P<mark>[.-]idx)\d", re.IGNORECASE)
_SECOND_PART = ("t10k", "test", "val")


def read_idx(path: Path) -> Table:
    """The images of one IDX file with the labels beside them (`…images-idx3…` and `…labels-idx1…`), or of a folder that
    holds such pairs: train-images with train-labels, and the pair of t10k or test as the second part."""
    if path.is_dir():
        return _read_folder(path)
    images = Column("image", "numeric", read_idx_array(path), scale=None)
    if images.values.ndim == 1:
        raise DataError(
            f"{path.name} has one dimension, like labels do; give the images file, labels are found beside it"
        )
    if images.values.dtype == np.uint8:
        images = replace(images, scale=255.0)
    labels_path = labels_beside(path)
    if labels_path is None:
        return Table(path.name, (images,), path=str(path), notes=(f"no labels file beside {path.name}",))
    labels = read_idx_array(labels_path)
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise DataError(f"{labels_path.name} is {labels.dtype} of shape {labels.shape}; labels are integers, one a row")
    if len(labels) != len(images.values):
        raise DataError(
            f"{path.name} has {len(images.values):,} images and {labels_path.name} {len(labels):,} labels; "
            "they are not of the same set"
        )
    columns = (images, Column("label", "numeric", labels))
    return Table(path.name, columns, "label", str(path), task="classification", dense=True)


def labels_beside(images: Path) -> Path | None:
    """The labels file of an images file by its name, gzipped or not; None where there is none."""
    if not _IMAGES.search(images.name):
        return None
    name = _IMAGES.sub(lambda found: f"labels{found['mark']}1", images.name).removesuffix(".gz")
    for candidate in (images.with_name(name + ".gz"), images.with_name(name)):
        if candidate.is_file():
            return candidate
    return None


def _read_folder(folder: Path) -> Table:
    try:
        found = sorted(path for path in folder.iterdir() if _IMAGES.search(path.name))
    except OSError as error:
        raise DataError(f"{str(folder)!r} cannot be read: {error.strerror or error}") from None
    if not found:
        raise DataError(f"{str(folder)!r} is a folder without IDX images (names like train-images-idx3-ubyte.gz)")
    second = [path for path in found if path.name.lower().startswith(_SECOND_PART)]
    first = [path for path in found if path not in second]
    if len(first) != 1 or len(second) > 1:
        names = listed(path.name for path in found)
        raise DataError(f"{str(folder)!r} holds {len(found)} IDX image files: {names}; name the one to train on")
    table = read_idx(first[0])
    return replace(table, source=folder.name, validation=read_idx(second[0]) if second else None)


def read_idx_array(path: Path) -> Array:
    """The array of one IDX file in this machine's byte order. Its size has to be exactly what its header declares."""
    with reading(path) as file:
        size = path.stat().st_size
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        take = _Unpacking(file.read, path.name) if packed else file.read
        dtype, shape = _read_header(take, path.name)
        needed = dtype.itemsize * prod(shape)
        _require_possible(path.name, needed, size, packed)
        data = bytearray(needed)
        _fill(take, data, path.name)
        if take(1):
            raise DataError(f"{path.name} has bytes after its {needed:,} declared ones; copy or download it again")
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def _read_header(take: Callable[[int], bytes], name: str) -> tuple[np.dtype, tuple[int, ...]]:
    start = take(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES:
        raise DataError(f"{name} is not an IDX file: it begins with {start.hex(' ')}, not 00 00 and a type code")
    if not 1 <= start[3] <= _MOST_DIMENSIONS:
        raise DataError(f"{name} declares {start[3]} dimensions; 1 to {_MOST_DIMENSIONS} are read")
    raw = take(4 * start[3])
    if len(raw) < 4 * start[3]:
        raise DataError(f"{name} is cut short in its header; copy or download it again")
    shape = tuple(int(n) for n in np.frombuffer(raw, dtype=">u4"))
    if 0 in shape:
        raise DataError(f"{name} is empty: it declares the shape {shape}")
    return np.dtype(_TYPES[start[2]]), shape


def _require_possible(name: str, needed: int, size: int, packed: bool) -> None:
    """Refuse by size before allocating: a header may declare anything."""
    most = size * _DEFLATE_LIMIT if packed else size
    if needed > most:
        raise DataError(
            f"{name} is cut short or damaged: its header declares {needed:,} bytes and its {size:,} "
            f"{'packed ' if packed else ''}bytes cannot hold them; copy or download it again"
        )
    if packed and needed > 256 * 2**20 and needed > 100 * size:
        raise DataError(
            f"{name} declares {needed:,} bytes in {size:,} packed ones (over 100 times as many), which is how a bomb "
            "looks; if it is yours, unpack it first with gunzip"
        )
    require_memory(needed, name)


def _fill(take: Callable[[int], bytes], data: bytearray, name: str) -> None:
    filled = 0
    while filled < len(data):
        block = take(min(_BLOCK, len(data) - filled))
        if not block:
            raise DataError(f"{name} is cut short: {filled:,} of {len(data):,} bytes; copy or download it again")
        data[filled : filled + len(block)] = block
        filled += len(block)


class _Unpacking:
    """Reads of a gzip stream: never more than was asked for, one member, its checksum checked, nothing after it."""

    def __init__(self, read: Callable[[int], bytes], name: str) -> None:
        self._read, self._name = read, name
        self._stream = zlib.decompressobj(wbits=31)

    def __call__(self, wanted: int) -> bytes:
        """The next bytes, fewer than `wanted` only at the end."""
        parts, had = [], 0
        while had < wanted and not self._stream.eof:
            packed = self._stream.unconsumed_tail or self._read(_BLOCK)
            if not packed:
                raise DataError(f"{self._name} is cut short: its gzip stream does not end; copy or download it again")
            try:
                part = self._stream.decompress(packed, wanted - had)
            except zlib.error as error:
                raise DataError(f"{self._name} is damaged: {error}; copy or download it again") from None
            parts.append(part)
            had += len(part)
        if self._stream.eof and (self._stream.unused_data or self._read(1)):
            raise DataError(f"{self._name} has bytes after its gzip stream; copy or download it again")
        return b"".join(parts)
