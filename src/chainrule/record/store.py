"""The record of a run: loss, metrics, measurements and notes by step, in one SQLite file, readable as it grows."""

import contextlib
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from chainrule.errors import ArgumentError, BusyError, CheckpointError
from chainrule.record import chunks

FORMAT = 2
"""Version of the tables that this chainrule writes and reads."""

# SQLite keeps these four bytes in the file's head for the application: "chnr".
APPLICATION = 0x63686E72

NOTHING: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]] = MappingProxyType({})

# How long one waits for another's transaction. Ours take milliseconds.
PATIENCE = 10.0

# Every REAL may be NULL: SQLite has no NaN and stores it as NULL, which is read back as NaN.
TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE steps(
    step INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, loss REAL, learning_rate REAL, rows INTEGER NOT NULL, seconds REAL
);
CREATE TABLE epochs(
    epoch INTEGER NOT NULL, part TEXT NOT NULL CHECK (part IN ('train', 'validation')), name TEXT NOT NULL,
    step INTEGER NOT NULL, value REAL, PRIMARY KEY (epoch, part, name)
) WITHOUT ROWID;
CREATE TABLE notes(id INTEGER PRIMARY KEY, step INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Step:
    """One update. step: counted from 1 over the whole run; rows: of its batch; seconds: it took."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    rows: int
    seconds: float


@dataclass(frozen=True)
class Measurement:
    """One number that a probe took at a layer: quantity "gradient", "dead" and so on. step: updates made before it."""

    step: int
    layer: str
    quantity: str
    value: float


@dataclass(frozen=True)
class Note:
    """Something worth knowing that happened at a step: kind "warning", "event" and so on."""

    step: int
    kind: str
    text: str


@dataclass(frozen=True)
class Epoch:
    """Metrics by name at the end of an epoch, whose last update was `step`."""

    epoch: int
    step: int
    train: dict[str, float]
    validation: dict[str, float]


class Record:
    """The record at `path`. Close it, or use it in a ``with``. One connection serves one thread.

    What was appended survives a kill of the process at once. A loss of power may take the last appends, but never the
    order or the file; `sync` makes them durable, and belongs before each checkpoint, so that the record never ends
    before the checkpoint from which training goes on.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, writable: bool) -> None:
        self.path = path
        self._connection = connection
        self._writable = writable
        self._layers = chunks.Chunks(connection)

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> "Record":
        """A new record. ArgumentError: something is there already."""
        path = Path(path)
        if path.exists():
            raise ArgumentError(f"Record.create: {str(path)!r} is there already. Open it, or give another path")
        with _named(path):
            connection = _connected(path, "rwc")
            try:
                _prepare(connection)
                marks = f"PRAGMA application_id={APPLICATION}; PRAGMA user_version={FORMAT};"
                connection.executescript(f"BEGIN IMMEDIATE; {TABLES} {chunks.TABLE} {marks} COMMIT;")
            except BaseException:
                connection.close()
                raise
        return cls(path, connection, writable=True)

    @classmethod
    def open(cls, path: str | os.PathLike[str], write: bool = False) -> "Record":
        """The record at `path`, to read, or also to append to (then the whole file is checked).

        CheckpointError: missing, empty, damaged, foreign or of a newer chainrule.
        """
        path = Path(path)
        _refuse_other_files(path)
        with _named(path):
            connection = _connected(path, "rw" if write else "ro")
            try:
                _refuse_other_tables(connection, path)
                if write:
                    _refuse_damage(connection, path)
                    _prepare(connection)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection, write)

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. The last writer folds the log into it, so that it can be read from where nobody can write."""
        if self._writable:
            # A reader in the way keeps the log where it is, which does no harm.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("PRAGMA busy_timeout=0")
                self._connection.execute("PRAGMA journal_mode=DELETE")
        self._connection.close()

    def sync(self) -> None:
        """Make everything appended durable against a loss of power."""
        with _named(self.path):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    # ---- writing ----------------------------------------------------------------------------------------------------

    def append_steps(
        self, steps: Iterable[Step], measured: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]] = NOTHING
    ) -> None:
        """Append all or none. ArgumentError: a step that the record has already.

        measured: by (layer, quantity) at which steps a probe took which numbers: int64 and float64, in order.
        """
        rows = [
            (int(s.step), int(s.epoch), float(s.loss), float(s.learning_rate), int(s.rows), float(s.seconds))
            for s in steps
        ]
        self._insert({"steps": rows}, measured)

    def append_epoch(
        self, epoch: int, step: int, part: Literal["train", "validation"], metrics: Mapping[str, float]
    ) -> None:
        """Append the metrics of one part at the end of an epoch. ArgumentError: the record has them already."""
        self._insert({"epochs": [(int(epoch), part, name, int(step), float(value)) for name, value in metrics.items()]})

    def append_measurements(self, measurements: Iterable[Measurement]) -> None:
        """Append all or none. ArgumentError: one that the record has already."""
        by_place: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for m in measurements:
            by_place.setdefault((m.layer, str(m.quantity)), []).append((int(m.step), float(m.value)))
        columns = {place: tuple(zip(*sorted(found), strict=True)) for place, found in by_place.items()}
        self._insert({}, {p: (np.array(s, np.int64), np.array(v, np.float64)) for p, (s, v) in columns.items()})

    def append_note(self, step: int, kind: str, text: str) -> None:
        """Append a note."""
        self._insert({"notes": [(None, int(step), kind, text)]})

    def set_meta(self, key: str, value: str) -> None:
        """Set or replace one entry about the run as a whole."""
        with self._transaction():
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def truncate_after(self, step: int, epoch: int | None = None) -> int:
        """Remove what came after `step`, and count the steps removed.

        epoch: the last that was closed. A checkpoint can lie between an epoch's last update and its metrics, which then
               have the checkpoint's step and are made again.

        Called with the step of the checkpoint from which training goes on: what follows is made again, and the record
        then has each step exactly once.
        """
        with self._transaction():
            for table in ("epochs", "notes"):
                self._connection.execute(f"DELETE FROM {table} WHERE step > ?", (int(step),))
            # A measurement has the number of updates before it: that of the checkpoint is made again.
            self._layers.truncate(int(step))
            if epoch is not None:
                self._connection.execute("DELETE FROM epochs WHERE epoch > ?", (int(epoch),))
            return self._connection.execute("DELETE FROM steps WHERE step > ?", (int(step),)).rowcount

    # ---- reading ----------------------------------------------------------------------------------------------------

    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps (int64) and the loss of each (float64), in order."""
        steps = self.steps()
        return steps["step"], steps["loss"]

    def steps(self, after: int = 0) -> dict[str, np.ndarray]:
        """The columns of the steps that came after `after`, in order: int64 or float64 arrays of equal length."""
        types = {
            "step": np.int64,
            "epoch": np.int64,
            "loss": np.float64,
            "learning_rate": np.float64,
            "rows": np.int64,
            "seconds": np.float64,
        }
        rows = self._rows(f"SELECT {', '.join(types)} FROM steps WHERE step > ? ORDER BY step", int(after))
        columns = list(zip(*rows, strict=True)) or [()] * len(types)
        # NULL becomes NaN in an array of floats.
        return {name: np.array(column, kind) for (name, kind), column in zip(types.items(), columns, strict=True)}

    def history(self) -> tuple[Epoch, ...]:
        """The epochs in order, each with its metrics."""
        epochs: dict[int, Epoch] = {}
        for epoch, step, part, name, value in self._rows(
            "SELECT epoch, step, part, name, value FROM epochs ORDER BY epoch, part, name"
        ):
            entry = epochs.setdefault(epoch, Epoch(epoch, step, {}, {}))
            (entry.train if part == "train" else entry.validation)[name] = _number(value)
        return tuple(epochs.values())

    def measurements(self, layer: str, quantity: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps (int64) and values (float64) of one quantity at one layer, in order."""
        with _named(self.path):
            return self._layers.read((layer, str(quantity)))

    def measured(self) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
        """The same for every layer and quantity of which there are measurements."""
        with _named(self.path):
            return self._layers.read_all()

    def notes(self) -> tuple[Note, ...]:
        """The notes in the order in which they were made."""
        return tuple(Note(*row) for row in self._rows("SELECT step, kind, text FROM notes ORDER BY id"))

    def meta(self) -> dict[str, str]:
        """The entries about the run as a whole."""
        return dict(self._rows("SELECT key, value FROM meta ORDER BY key"))

    def _rows(self, query: str, *arguments: object) -> list[tuple]:
        with _named(self.path):
            return self._connection.execute(query, arguments).fetchall()

    def _insert(
        self,
        tables: Mapping[str, list[tuple]],
        measured: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]] = NOTHING,
    ) -> None:
        """Rows of several tables and measurements, all or none."""
        table = ""
        rows: list[tuple] = []
        try:
            with self._transaction():
                for table, rows in tables.items():
                    if rows:
                        places = ", ".join("?" * len(rows[0]))
                        self._connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)
                if measured:
                    self._layers.append(measured)
        except sqlite3.IntegrityError as error:
            raise ArgumentError(
                f"{str(self.path)!r}: rows of table {table} from {rows[0]} to {rows[-1]} were refused, and none is "
                f"kept: {error}. After a resume, call truncate_after with the step of the checkpoint"
            ) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self._writable:
            raise ArgumentError(f"{str(self.path)!r} is open for reading. Open it with write=True")
        with _named(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._layers.forget()
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    # as_uri escapes what means something in a URI: ?, # and %.
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=PATIENCE, isolation_level=None)


def _prepare(connection: sqlite3.Connection) -> None:
    # With a write-ahead log readers and the writer do not wait for each other.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    # Until something was read, SQLite 3.40 calls a checkpoint of the log that was just begun locked.
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _refuse_other_files(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(16)
    except OSError as error:
        raise CheckpointError(
            f"record {str(path)!r} cannot be opened: {error.strerror or error}. Check the path and its permissions."
        ) from error
    if not magic:
        raise CheckpointError(f"record {str(path)!r} is empty. Remove it, and the run goes on without its past curves.")
    if magic != b"SQLite format 3\0":
        raise CheckpointError(f"record {str(path)!r} is damaged or no SQLite file: it begins with {magic!r}.")


def _refuse_other_tables(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        raise CheckpointError(
            f"record {str(path)!r} is an SQLite file that chainrule did not write (application {application:#x} "
            f"instead of {APPLICATION:#x}). Give the record.sqlite of a run."
        )
    if version > FORMAT:
        raise CheckpointError(
            f"record {str(path)!r} was made by a newer chainrule (format {version}; this one reads {FORMAT}). "
            "Upgrade: pip install --upgrade chainrule"
        )
    if version < FORMAT:
        raise CheckpointError(
            f"record {str(path)!r} was made by an older chainrule (format {version}; this one reads {FORMAT}). "
            + MOVE_AWAY
        )


def _refuse_damage(connection: sqlite3.Connection, path: Path) -> None:
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise CheckpointError(f"record {str(path)!r} is damaged: {verdict}. {MOVE_AWAY}")


MOVE_AWAY = (
    "The checkpoints are not touched by this: move the record away, and the run goes on without its past curves."
)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of SQLite name neither the file nor what to do."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BusyError(f"record {str(path)!r} is held by another program for {PATIENCE:g} s. Close it.") from error
        raise CheckpointError(
            f"record {str(path)!r} cannot be used: {error}. Check that the disk has room and that you may write there."
        ) from error
    except sqlite3.DatabaseError as error:
        raise CheckpointError(f"record {str(path)!r} is damaged: {error}. {MOVE_AWAY}") from error


def _number(value: float | None) -> float:
    return math.nan if value is None else value
