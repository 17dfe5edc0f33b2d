"""Machine code and plans of what calls it, kept between processes: a private directory of files that are verified.

A file is a head (format, key, digest) and what is kept, an object file or a plan. Whoever can write the directory
could make this process run code, so a directory that others own or can write is not used at all. A file that is
damaged, cut short, of another key or not a plain file of ours counts as missing: what it held is made again, and
replaces it. Losing the cache costs milliseconds, so nothing here is made durable and no failure to write is an error.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import secrets
import stat
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

from chainrule.errors import ChainruleWarning

log = logging.getLogger("chainrule.cache")

MAGIC = b"chainrule machine code 1\n"
HEAD = len(MAGIC) + 32 + 32
"""Bytes before what is kept: MAGIC, the key, and the SHA-256 of the key and what is kept."""

MOST_BYTES = 64 << 20
"""What the directory may hold; a nest takes 3 to 10 KB, a plan 10 to 100, that of 1,000 layers 1,600."""
MOST_BYTES_OF_A_FILE = 16 << 20

SUFFIX = ".code"
TRIM_EVERY = 86_400.0
"""s between two looks at how much is kept."""
LITTER_AFTER = 3600.0
"""s after which a temporary file is what a killed process left behind."""


def load(key: str) -> bytes | None:
    """The object file stored under ``key`` (64 hex digits), or None where there is none that can be trusted."""
    directory = _directory()
    if directory is None:
        return None
    path = directory / (key + SUFFIX)
    try:
        content = _content(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.info("cached machine code %s cannot be read (%s): compiling it again", path, error.strerror or error)
        return None
    code = content[HEAD:]
    if content[:HEAD] != _head(key, code):
        log.info("cached machine code %s is damaged: compiling it again", path)
        return None
    return code


def store(key: str, code: bytes) -> None:
    """Keep an object file under ``key``; where that fails, nothing changes but the next start."""
    directory = _directory()
    if directory is None or len(code) + HEAD > MOST_BYTES_OF_A_FILE:
        return
    temporary = directory / f"{key}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(temporary, _safe(flags), 0o600), "wb") as file:
            file.write(_head(key, code) + code)
        os.replace(temporary, directory / (key + SUFFIX))
    except OSError as error:
        log.info("machine code is not kept in %s: %s", directory, error.strerror or error)
        with contextlib.suppress(OSError):
            temporary.unlink()


def directory_of(environment: dict[str, str], platform: str = sys.platform) -> Path | None:
    """Where machine code is kept: CHAINRULE_CACHE ("off": nowhere), else the platform's place for caches."""
    asked = environment.get("CHAINRULE_CACHE")
    if asked == "off":
        return None
    if asked:
        return Path(asked)
    if platform == "win32" and environment.get("LOCALAPPDATA"):
        return Path(environment["LOCALAPPDATA"]) / "chainrule" / "cache"
    try:
        home = Path.home()
    except RuntimeError:  # no home directory is known
        return None
    if platform == "darwin":
        return home / "Library" / "Caches" / "chainrule"
    # The XDG base directory specification: a relative path there is to be ignored.
    base = environment.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else home / ".cache") / "chainrule"


def _directory() -> Path | None:
    """The directory, made and checked once a process; None: work without."""
    return _checked(directory_of(dict(os.environ)))


@functools.cache
def _checked(directory: Path | None) -> Path | None:
    if directory is None:
        return None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        fault = _fault(os.lstat(directory))
    except OSError as error:
        log.info("no cache of machine code: %s: %s", directory, error.strerror or error)
        return None
    if fault:
        warnings.warn(
            f"Machine code is not cached: {str(directory)!r} {fault}, so that somebody else could change what this "
            "process runs. Remove it, or set CHAINRULE_CACHE to a directory of your own, or to off.",
            ChainruleWarning,
            stacklevel=2,
        )
        return None
    _trim_now_and_then(directory)
    return directory


def _fault(found: os.stat_result) -> str | None:
    """Why a directory must not be used, in words that follow its name."""
    if not stat.S_ISDIR(found.st_mode):
        return "is no directory"
    if os.name != "posix":  # elsewhere a user's own folder for local data is private by its access list
        return None
    if found.st_uid != os.geteuid():
        return f"belongs to user {found.st_uid}, not to user {os.geteuid()}"
    if found.st_mode & 0o022:
        return f"can be written by others (mode {stat.S_IMODE(found.st_mode):04o})"
    return None


def _content(path: Path) -> bytes:
    """A file's bytes, if it is a plain file of ours. What is checked is what is read: the opened file."""
    # O_NONBLOCK: a pipe planted at this name must not make us wait.
    with open(os.open(path, _safe(os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))), "rb") as file:
        found = os.fstat(file.fileno())
        ours = os.name != "posix" or (found.st_uid == os.geteuid() and not found.st_mode & 0o022)
        if not stat.S_ISREG(found.st_mode) or not ours:
            raise OSError("it is not a plain file that only this user can write")
        if found.st_size > MOST_BYTES_OF_A_FILE:
            raise OSError(f"it has {found.st_size:,} bytes")
        return file.read(MOST_BYTES_OF_A_FILE)


def _safe(flags: int) -> int:
    """``flags`` of open, never following a link, never inherited, never translating line ends."""
    for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    return flags


def _head(key: str, code: bytes) -> bytes:
    raw = bytes.fromhex(key)
    return MAGIC + raw + hashlib.sha256(raw + code).digest()


class _Entry(NamedTuple):
    path: Path
    size: int
    age: float


def _trim_now_and_then(directory: Path) -> None:
    """Trim unless that was done lately: looking at thousands of files would cost more than all that is read here."""
    stamp = directory / "trimmed"
    try:
        if 0 <= time.time() - stamp.stat().st_mtime < TRIM_EVERY:
            return
    except FileNotFoundError:
        pass
    with contextlib.suppress(OSError):
        os.close(os.open(stamp, _safe(os.O_WRONLY | os.O_CREAT), 0o600))
        os.utime(stamp)
    _trim(directory)


def _trim(directory: Path) -> None:
    """Remove what killed processes left behind and, where the directory holds too much, the oldest half."""
    now = time.time()
    entries = []
    with contextlib.suppress(OSError), os.scandir(directory) as found:
        for item in found:
            with contextlib.suppress(OSError):
                status = item.stat(follow_symlinks=False)
                entries.append(_Entry(Path(item.path), status.st_size, now - status.st_mtime))
    unwanted = [e for e in entries if e.path.suffix == ".tmp" and e.age > LITTER_AFTER]
    codes = sorted((e for e in entries if e.path.suffix == SUFFIX), key=lambda e: e.age)
    kept = 0
    if sum(e.size for e in codes) > MOST_BYTES:
        for entry in codes:
            kept += entry.size
            if kept > MOST_BYTES // 2:
                unwanted.append(entry)
    for entry in unwanted:
        with contextlib.suppress(OSError):
            entry.path.unlink()
