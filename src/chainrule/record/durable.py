"""Write a file so that a crash leaves the old one or the new one, and never a torn one."""

import contextlib
import os
import secrets
import shutil
from pathlib import Path

from chainrule.errors import CheckpointError

TEMPORARY = ".chainrule-*.tmp"
"""What the temporary files of `replace_file` are called: what a killed process leaves behind matches it."""

# A call that writes less returns sooner, so that Ctrl-C is noticed while a large file is on its way.
WRITE_AT_MOST = 1 << 24


def replace_file(path: Path, *pieces: bytes | memoryview) -> None:
    """Put `pieces`, one behind the other, at `path`, whole and durable, or raise and leave what was there.

    Temporary file beside the target, fsync, rename over the target, fsync of the directory: only this order survives a
    loss of power (Pillai et al., OSDI 2014). A symbolic link at `path` is replaced, never followed.

    CheckpointError: the system refused a step. It says which file, why, how many bytes were needed and how many are
    free. A failed fsync counts as not saved and is not repeated: the system may have dropped the data already.
    """
    needed = sum(map(len, pieces))
    temporary = path.parent / f".chainrule-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        try:
            _write(temporary, pieces)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise CheckpointError(
            f"{str(path)!r} was not saved: {error.strerror or error} (needs {needed:,} bytes, "
            f"{_free(path.parent)}). What was there before is untouched. Make room or mend the disk, or choose another "
            "directory."
        ) from error
    try:
        sync_directory(path.parent)
    except OSError as error:
        raise CheckpointError(
            f"{str(path)!r} is written whole, but the system could not make its name durable: "
            f"{error.strerror or error} (needs {needed:,} bytes, {_free(path.parent)}). A loss of power may bring "
            "the older file back. Check the disk, then save again."
        ) from error


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable. Windows offers no such call, and journals names by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_litter(directory: Path) -> int:
    """Remove the temporary files in `directory` and count them. Only for who holds the lock of the run."""
    litter = list(directory.glob(TEMPORARY))
    for path in litter:
        # What cannot be removed now does no harm, and is tried again at the next start.
        with contextlib.suppress(OSError):
            path.unlink()
    return len(litter)


def _write(path: Path, pieces: tuple[bytes | memoryview, ...]) -> None:
    # O_EXCL and O_NOFOLLOW: in a directory that others can write, a planted link must not choose our target.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags, 0o666)  # less the umask
    try:
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[os.write(descriptor, left[:WRITE_AT_MOST]) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free(directory: Path) -> str:
    try:
        return f"{shutil.disk_usage(directory).free:,} are free"
    except OSError:
        return "how many are free is unknown"
