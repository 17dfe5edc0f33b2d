"""Opening a file that a person named: regular files only, with errors that name the path and say what is wrong."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from chainrule.data.checks import nearest, shown
from chainrule.errors import DataError

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def require_file(path: Path) -> os.stat_result:
    """The status of a regular, non-empty file; anything else is refused without opening it (a pipe would block)."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise DataError(_absent(path)) from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{shown(str(path), 200)} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    for matches, kind in _KINDS:
        if matches(status.st_mode):
            raise DataError(f"{shown(str(path), 200)} is {kind}, not a file; save the data to a regular file first")
    if status.st_size == 0:
        raise DataError(f"{shown(str(path), 200)} is empty (0 bytes)")
    return status


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """The open file, for one read from start to end; a file that changed meanwhile is refused at the end."""
    require_file(path)
    with _opened(path) as file:
        before = os.fstat(file.fileno())
        yield file
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise DataError(
            f"{shown(str(path), 200)} changed while it was being read ({before.st_size:,} bytes, then "
            f"{after.st_size:,}); wait until it is complete"
        )


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{shown(str(path), 200)} cannot be opened: {error.strerror or error}") from None


def _absent(path: Path) -> str:
    name = shown(str(path), 200)
    if path.is_symlink():
        return f"{name} is a link to {shown(os.readlink(path), 200)}, which does not exist"
    try:
        beside = [entry.name for entry in os.scandir(path.parent)]
    except OSError:
        return f"{name} does not exist, nor does its folder"
    return f"{name} does not exist{nearest(path.name, beside)}"
