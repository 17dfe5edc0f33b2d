"""The lock of a run directory: one process writes, whoever comes second is told who it is.

The operating system holds the lock and lets it go when the process ends, however it ends. So a lock is never stale, not
after kill -9, not after a restart of the machine, and not when another process got the same number. What stands in the
file (process, machine, start) is only for the message.
"""

import contextlib
import errno
import json
import os
import socket
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from chainrule.errors import BusyError, ChainruleWarning, CheckpointError

# `is_locked` holds the lock for microseconds; a writer that comes at that moment must not give up.
PATIENCE = 0.25

# Windows locks bytes against reading too, so the locked byte lies behind any content.
LOCKED_BYTE = 1 << 30

UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@dataclass(frozen=True)
class RunLock:
    """A lock that this process holds. A child made by fork shares it; one made by spawn does not."""

    path: Path
    descriptor: int

    def release(self) -> None:
        """Let the next writer in. The file stays: removing it would let two processes lock two files of one name."""
        with contextlib.suppress(OSError):
            os.ftruncate(self.descriptor, 0)
        _unlock(self.descriptor)
        os.close(self.descriptor)


def acquire(path: Path) -> RunLock:
    """Lock `path`, which is made if missing.

    BusyError: another process, or another part of this one, holds it; the message names it.
    CheckpointError: the system refused to make it.
    ChainruleWarning: the file system offers no locks, so that nothing stops a second writer.
    """
    try:
        return _acquired(path)
    except OSError as error:
        raise CheckpointError(
            f"lock {str(path)!r} cannot be taken: {error.strerror or error}. Check that the disk has room and that you "
            "may write there."
        ) from error


def _acquired(path: Path) -> RunLock:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        if not _lock_patiently(descriptor, exclusive=True):
            raise BusyError(
                f"{str(path.parent)!r} is being trained by {_holder(path)}. Wait for it to end, stop it, or give this "
                "run another directory."
            )
        owner = {"process": os.getpid(), "machine": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(owner).encode())
    except BaseException:
        os.close(descriptor)
        raise
    return RunLock(path, descriptor)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock at `path`."""
    try:
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except OSError:
        return False
    try:
        if not _lock_patiently(descriptor, exclusive=False):
            return True
        _unlock(descriptor)
        return False
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        owner = json.loads(path.read_bytes()[:1000])
        return f"process {owner['process']:d} on {str(owner['machine'])!r} since {str(owner['since'])!r}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _lock_patiently(descriptor: int, exclusive: bool) -> bool:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            _lock(descriptor, exclusive)
            return True
        except OSError as error:
            if error.errno in UNSUPPORTED:
                warnings.warn(
                    "The file system of the run directory offers no locks: let only one process train there.",
                    ChainruleWarning,
                    stacklevel=4,
                )
                return True
            if time.monotonic() > deadline:
                return False
        time.sleep(0.01)


if os.name == "nt":
    import msvcrt

    def _lock(descriptor: int, exclusive: bool) -> None:
        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
        with contextlib.suppress(OSError):
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]

else:
    import fcntl

    # flock, not lockf: lockf would let a second part of the same process in, and drop the lock when any of its
    # descriptors of the file is closed.
    def _lock(descriptor: int, exclusive: bool) -> None:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
