"""The directory of a run: what is in it, who may write, which checkpoint is the latest whole one.

    runs/digits/
        config.json                             what was asked; once written, never changed
        status.json                             running, finished, interrupted or failed
        run.lock                                held while a process trains here
        record.sqlite                           losses, metrics, measurements, notes
        rows.safetensors                        rows of a few batches, so that a step can be looked at later
        checkpoints/step-000000120.safetensors

Nothing in it points to anything: the latest checkpoint and the best one are computed from the headers, so that no
pointer can be wrong after a crash.
"""

import contextlib
import itertools
import json
import math
import os
import re
import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from chainrule.errors import ArgumentError, ChainruleWarning, CheckpointError
from chainrule.record.checkpoint import load_checkpoint, load_header, save_checkpoint
from chainrule.record.config import RunConfig
from chainrule.record.durable import remove_litter, replace_file, sync_directory
from chainrule.record.lock import RunLock, acquire, is_locked
from chainrule.record.store import Record

Ending = Literal["finished", "interrupted", "failed"]

KEPT = 2
"""How many of the newest whole checkpoints stay; the best one stays besides."""

CHECKPOINT_NAME = re.compile(r"step-(\d{9,18})\.safetensors")

# Windows keeps these names for devices, in every directory and with any extension.
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Status:
    """Where a run stands. "interrupted" is also a run whose process is gone without a word."""

    state: Literal["running", "finished", "interrupted", "failed"]
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A whole checkpoint, read and verified. header: with "step" and, where it was given, "score"."""

    path: Path
    step: int
    arrays: dict[str, np.ndarray] = field(repr=False)
    header: dict[str, Any] = field(repr=False)


class RunDirectory:
    """A run's directory: `create` and `resume` hold its lock and write, `open` reads. Use it in a ``with``.

    A ``with`` that is left without `end` marks the run as interrupted (also by Ctrl-C) or, by an error, as failed.
    """

    def __init__(self, path: Path, lock: RunLock | None) -> None:
        self.path = path
        self._lock = lock
        self._record: Record | None = None
        self._whole: set[Path] = set()

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: RunConfig) -> "RunDirectory":
        """Start a run in `path`, which is new or empty. A run that is there already is never touched.

        ArgumentError: `path` holds a run (an unfinished one is named with the line that resumes it) or other files.
        BusyError: another process starts there. CheckpointError: the system refused to write.
        """
        path = Path(path)
        _refuse_occupied(path)
        _make(path)
        run = cls(path, acquire(path / "run.lock"))
        try:
            _refuse_occupied(path)  # again, now that nobody else can start here
            remove_litter(path)
            _make(path / "checkpoints")
            run._write_status(Status("running"))
            replace_file(path / "config.json", config.to_json().encode())
            Record.create(path / "record.sqlite").close()
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def create_named(cls, source: str, config: RunConfig, parent: str | os.PathLike[str] = "runs") -> "RunDirectory":
        """Start a run in ``parent/<source>``, or ``-2``, ``-3`` behind it: the first that is free.

        source: what the user gave, a path or a name; see `run_name`.
        ChainruleWarning: an unfinished run of that name is there; it is named with the line that resumes it.
        """
        return cls.create(claim_directory(source, parent), config)

    @classmethod
    def resume(cls, path: str | os.PathLike[str]) -> "RunDirectory":
        """Hold the run at `path` to go on with it; what a killed process left half-written is removed.

        ArgumentError: no run, or a finished one. BusyError: another process trains there.
        """
        path = Path(path)
        _refuse_no_run(path)
        run = cls(path, acquire(path / "run.lock"))
        try:
            if _written_status(path).state == "finished":
                raise ArgumentError(
                    f"run {str(path)!r} is finished, and a finished run is never touched. Start a new one"
                )
            remove_litter(path)
            remove_litter(path / "checkpoints")
            run._write_status(Status("running"))
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunDirectory":
        """The run at `path`, to read, also while it goes on. ArgumentError: there is no run."""
        path = Path(path)
        _refuse_no_run(path)
        return cls(path, None)

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._lock is None:
            self.close()
            return
        try:
            if kind is not None and issubclass(kind, Exception):
                self.end("failed", f"{kind.__name__}: {error}")
            else:
                self.end("interrupted", "" if kind is None else kind.__name__)
        except CheckpointError as refused:
            if error is None:
                raise
            error.add_note(str(refused))  # what ended the block matters more than that its end could not be written

    def end(self, state: Ending, reason: str = "") -> None:
        """Say how the run ended, and let go of it."""
        if state not in get_args(Ending):
            raise ArgumentError(f"RunDirectory.end: state must be one of {', '.join(get_args(Ending))}, not {state!r}")
        self._refuse_reader()
        try:
            self._write_status(Status(state, reason))
        finally:
            self.close()

    def close(self) -> None:
        """Close the record and let go of the lock. A run closed without `end` reads as interrupted."""
        if self._record is not None:
            self._record.close()
            self._record = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def status(self) -> Status:
        """Where the run stands now."""
        status = _written_status(self.path)
        if status.state == "running" and self._lock is None and not is_locked(self.path / "run.lock"):
            return Status("interrupted", "its process is gone")
        return status

    @property
    def config(self) -> RunConfig:
        """What was asked. CheckpointError: the file is damaged or of another version."""
        path = self.path / "config.json"
        try:
            return RunConfig.from_json(path.read_bytes())
        except (OSError, ArgumentError) as error:
            raise CheckpointError(f"{str(path)!r} cannot be used: {error}. Repair it, or start a new run.") from error

    @property
    def record(self) -> Record:
        """The run's record, opened at first use; writable for who holds the lock. Closed with the directory."""
        if self._record is None:
            self._record = Record.open(self.path / "record.sqlite", write=self._lock is not None)
        return self._record

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def checkpoints(self) -> tuple[int, ...]:
        """The steps of the checkpoints that are there, ascending, by their names."""
        return tuple(sorted(int(CHECKPOINT_NAME.fullmatch(path.name)[1]) for path in self._files()))  # type: ignore[index]

    def save(self, arrays: Mapping[str, np.ndarray], header: Mapping[str, Any], score: float | None = None) -> Path:
        """Save a checkpoint durably, then remove those that are neither among the newest nor the best.

        header: with "step", the updates made so far. score: lower is better (the validation loss, minus the accuracy);
        it goes into the header. The record is made durable first, so that it never ends before the checkpoint.

        CheckpointError: the system refused; every checkpoint that was there is still there.
        """
        self._refuse_reader()
        step = header.get("step")
        if type(step) is not int or not 0 <= step < 10**18:
            raise ArgumentError(f"RunDirectory.save: header['step'] must be an int from 0 on, not {step!r}")
        if self._record is not None:
            self._record.sync()
        path = self._file(step)
        save_checkpoint(path, arrays, {**header, "score": None if score is None else float(score)})
        self._whole.add(path)
        self._rotate()
        return path

    def load(self, step: int) -> Checkpoint:
        """The checkpoint of `step`. CheckpointError: missing or damaged."""
        path = self._file(step)
        if not path.exists():
            raise CheckpointError(
                f"run {str(self.path)!r} has no checkpoint of step {step}. There are {list(self.checkpoints())}."
            )
        return _loaded(path)

    def save_rows(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep rows of the data beside the checkpoints."""
        self._refuse_reader()
        save_checkpoint(self.path / "rows.safetensors", arrays, {})

    def rows(self) -> dict[str, np.ndarray]:
        """What ``save_rows`` kept; empty if nothing was."""
        path = self.path / "rows.safetensors"
        return load_checkpoint(path)[0] if path.exists() else {}

    def latest(self) -> Checkpoint | None:
        """The checkpoint with the highest step in its header that is whole; None if none was ever saved.

        ChainruleWarning: a damaged one was passed over; it is named with what is wrong and which is used instead.
        CheckpointError: all are damaged.
        """
        return self._first_whole(lambda header: -header["step"])

    def best(self) -> Checkpoint | None:
        """The whole checkpoint with the lowest score, of equals the earliest; None if none has a score.

        Warnings and errors as for `latest`.
        """
        return self._first_whole(_by_score, lambda header: _score(header) < math.inf)

    def _first_whole(
        self, order: Callable[[dict[str, Any]], Any], wanted: Callable[[dict[str, Any]], bool] = lambda header: True
    ) -> Checkpoint | None:
        headers, errors = self._headers()
        found = None
        for path in sorted((path for path in headers if wanted(headers[path])), key=lambda path: order(headers[path])):
            try:
                found = _loaded(path)
                break
            except CheckpointError as error:
                if not path.exists():
                    return self._first_whole(order, wanted)  # a rotation came between the listing and the reading
                errors.append(error)
        if errors and found is None:
            raise CheckpointError(
                f"run {str(self.path)!r} has no whole checkpoint to use; start a new run. " + " ".join(map(str, errors))
            )
        for damage in errors:
            instead = f"Used instead: {found.path.name} (step {found.step:,})."  # type: ignore[union-attr]
            warnings.warn(f"{damage} {instead}", ChainruleWarning, stacklevel=3)
        return found

    def _rotate(self) -> None:
        headers, _ = self._headers()
        newest = sorted(headers, key=lambda path: -headers[path]["step"])
        kept = list(itertools.islice(filter(self._is_whole, newest), KEPT))
        if len(kept) < KEPT:
            return
        scored = sorted(
            (path for path in headers if _score(headers[path]) < math.inf), key=lambda p: _by_score(headers[p])
        )
        kept.extend(itertools.islice(filter(self._is_whole, scored), 1))
        oldest = headers[kept[KEPT - 1]]["step"]
        for path in self._files():
            # By its name where the header cannot be read: a damaged one that is newer is left for the user to see.
            step = headers[path]["step"] if path in headers else int(CHECKPOINT_NAME.fullmatch(path.name)[1])  # type: ignore[index]
            if step < oldest and path not in kept:
                # Windows refuses while somebody reads it; the next rotation tries again.
                with contextlib.suppress(OSError):
                    path.unlink()

    def _is_whole(self, path: Path) -> bool:
        if path not in self._whole:
            try:
                load_checkpoint(path)
            except CheckpointError:
                return False
            self._whole.add(path)
        return True

    def _headers(self) -> tuple[dict[Path, dict[str, Any]], list[CheckpointError]]:
        headers, errors = {}, []
        for path in self._files():
            try:
                headers[path] = _with_step(path, load_header(path))
            except CheckpointError as error:
                if not path.exists():
                    return self._headers()  # a rotation came between the listing and the reading
                errors.append(error)
        return headers, errors

    def _files(self) -> list[Path]:
        try:
            names: Iterable[str] = os.listdir(self.path / "checkpoints")
        except FileNotFoundError:
            return []
        return [self.path / "checkpoints" / name for name in sorted(names) if CHECKPOINT_NAME.fullmatch(name)]

    def _file(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step-{step:09d}.safetensors"

    def _write_status(self, status: Status) -> None:
        content = json.dumps({"state": status.state, "reason": status.reason}) + "\n"
        replace_file(self.path / "status.json", content.encode())

    def _refuse_reader(self) -> None:
        if self._lock is None:
            raise ArgumentError(f"run {str(self.path)!r} is open for reading. Use RunDirectory.resume to write")


def claim_directory(source: str, parent: str | os.PathLike[str] = "runs") -> Path:
    """Make ``parent/<source>``, or ``-2``, ``-3`` behind it, empty: the first that is free is the caller's alone.

    ChainruleWarning: an unfinished run of that name is there; it is named with the line that resumes it.
    """
    unfinished: list[Path] = []
    for path in _numbered(source, parent):
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            if _can_resume(path):
                unfinished.append(path)
        except OSError as error:
            raise ArgumentError(_cannot_make(path, error)) from error
    if unfinished:
        warnings.warn(f"{_resume_line(unfinished[-1])}. This run goes to {path}.", ChainruleWarning, stacklevel=3)
    return path


def unfinished_runs(source: str, parent: str | os.PathLike[str] = "runs") -> list[Path]:
    """The interrupted runs of a source under ``parent``, the one that was started last at the end."""
    there = itertools.takewhile(lambda path: path.is_dir(), _numbered(source, parent))
    return [path for path in there if _can_resume(path)]


def _numbered(source: str, parent: str | os.PathLike[str]) -> Iterator[Path]:
    name = run_name(source)
    return (Path(parent) / (name if n == 1 else f"{name}-{n}") for n in itertools.count(1))


def run_name(source: str) -> str:
    """A name for a directory from what the user gave as the source: ``../data/my file.csv`` -> ``my-file``.

    The result has 1 to 84 characters of ``A-Za-z0-9._-``, does not begin with a dot or dash, and is no device of
    Windows: so it never leads out of a directory.
    """
    last = re.split(r"[\\/]", source.rstrip("\\/"))[-1]
    stem = re.sub(r"\.[A-Za-z0-9]{1,10}(\.gz)?$", "", last)
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:80].strip(".-")
    if not plain or DEVICES.fullmatch(plain):
        return f"run-{plain}".rstrip("-")
    return plain


def _loaded(path: Path) -> Checkpoint:
    arrays, header = load_checkpoint(path)
    return Checkpoint(path, _with_step(path, header)["step"], arrays, header)


def _with_step(path: Path, header: dict[str, Any]) -> dict[str, Any]:
    if type(header.get("step")) is not int:
        raise CheckpointError(f"checkpoint {str(path)!r} has no step in its header: it was not saved by a run.")
    return header


def _score(header: dict[str, Any]) -> float:
    score = header.get("score")
    return float(score) if isinstance(score, int | float) and not math.isnan(score) else math.inf


def _by_score(header: dict[str, Any]) -> tuple[float, int]:
    return _score(header), header["step"]


def _written_status(path: Path) -> Status:
    try:
        content = json.loads((path / "status.json").read_bytes())
        if content["state"] in ("running", *get_args(Ending)):
            return Status(content["state"], str(content["reason"]))
        raise ValueError(f"unknown state {content['state']!r}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{str(path / 'status.json')!r} cannot be used: {error!r}. Write "
            '{"state": "interrupted", "reason": ""} into it to go on with the run.'
        ) from error


def _can_resume(path: Path) -> bool:
    if not (path / "config.json").exists():
        return False
    try:
        return RunDirectory(path, None).status.state == "interrupted"
    except CheckpointError:
        return False


def _resume_line(path: Path) -> str:
    run = RunDirectory(path, None)
    steps = run.checkpoints()
    reached = f"saved up to step {steps[-1]:,}" if steps else "without a checkpoint"
    line = shlex.join(["chainrule", "train", run.config.source, "--run", str(path), "--resume"])
    return f"run {str(path)!r} is unfinished ({reached}); to go on with it: {line}"


def _refuse_occupied(path: Path) -> None:
    if (path / "config.json").exists():
        if _can_resume(path):
            raise ArgumentError(f"{_resume_line(path)}. Or give another directory")
        state = RunDirectory(path, None).status.state
        raise ArgumentError(f"run {str(path)!r} is {state} and is not touched. Give another directory")
    # A start that was killed leaves these without a config.json.
    ours = {"run.lock", "checkpoints", "status.json", "record.sqlite", "record.sqlite-wal", "record.sqlite-shm"}
    if path.is_dir():
        others = [name for name in os.listdir(path) if name not in ours and not name.startswith(".chainrule-")]
        if others:
            raise ArgumentError(
                f"{str(path)!r} holds other files ({len(others)}, such as {sorted(others)[0]!r}). Give a new directory"
            )


def _refuse_no_run(path: Path) -> None:
    if not (path / "config.json").is_file():
        found = "an empty directory" if path.is_dir() else "a file" if path.exists() else "missing"
        if path.is_dir() and os.listdir(path):
            found = "a directory without config.json"
        raise ArgumentError(f"{str(path)!r} is no run: it is {found}. Give the directory of a run, such as runs/digits")


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise ArgumentError(_cannot_make(path, error)) from error


def _cannot_make(path: Path, error: OSError) -> str:
    return f"directory {str(path)!r} cannot be made: {error.strerror or error}. Give another one"
