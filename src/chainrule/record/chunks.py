"""Measurements in the file of a record: those of a layer and quantity as arrays, in rows of up to `LONGEST`.

A row for each number would take as long to write as a small step takes to run, and seconds to read after a long run.
"""

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from chainrule.errors import ArgumentError

LONGEST = 256
"""Numbers in a row: the last row of a series is written anew until it has so many."""

TABLE = """
CREATE TABLE layers(
    id INTEGER PRIMARY KEY, layer TEXT NOT NULL, quantity TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    steps BLOB NOT NULL, numbers BLOB NOT NULL
);
CREATE UNIQUE INDEX layers_in_order ON layers(layer, quantity, first);
"""
"""steps: int64, numbers: float64, equally many of both, little-endian; first and last: of the steps."""

STEPS, NUMBERS = "<i8", "<f8"

Place = tuple[str, str]
"""(layer, quantity)"""

Arrays = tuple[np.ndarray, np.ndarray]
"""(steps, numbers), in the order of steps."""

NOTHING: Arrays = (np.zeros(0, np.int64), np.zeros(0, np.float64))


class Chunks:
    """The measurements of a record that is open. Whoever writes does so within a transaction of theirs."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._ends: dict[Place, Arrays] = {}
        """The last row of each series that was appended to."""

    def append(self, columns: Mapping[Place, Arrays]) -> None:
        """Add to each series. ArgumentError: a step that one has already."""
        rows: list[tuple] = []
        shared: dict[tuple[int, int], tuple[np.ndarray, _Steps]] = {}
        """By identity of the steps before, which stay alive here, and of those added: what is measured together has the
        same arrays of steps."""
        for place, (steps, numbers) in columns.items():
            if not len(steps):
                continue
            before = self._end(place)
            if len(before[0]) and steps[0] <= before[0][-1]:
                before = self._taken_out(place)
            elif len(before[0]) == LONGEST:
                before = NOTHING
            both = id(before[0]), id(steps)
            if both not in shared:
                shared[both] = before[0], _joined(place, before[0], steps)
            joined = shared[both][1]
            held = np.concatenate([before[1], numbers])
            if joined.order is not None:
                held = held[joined.order]
            held = held.astype(NUMBERS, copy=False)
            rows += [(*place, first, last, blob, held[part].tobytes()) for part, first, last, blob in joined.rows]
            self._ends[place] = joined.end, held[joined.rows[-1][0]]
        self.connection.executemany(
            "INSERT INTO layers(layer, quantity, first, last, steps, numbers) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT(layer, quantity, first) DO UPDATE SET last = excluded.last, steps = excluded.steps, "
            "numbers = excluded.numbers",
            rows,
        )

    def truncate(self, step: int) -> None:
        """Remove what was measured at ``step`` and after it."""
        self._ends.clear()
        self.connection.execute("DELETE FROM layers WHERE first >= ?", (step,))
        cut = self.connection.execute("SELECT id, steps, numbers FROM layers WHERE last >= ?", (step,)).fetchall()
        for row, *blobs in cut:
            steps, numbers = _arrays(*blobs)
            kept = steps < step
            self.connection.execute(
                "UPDATE layers SET last = ?, steps = ?, numbers = ? WHERE id = ?",
                (int(steps[kept][-1]), *_bytes((steps[kept], numbers[kept])), row),
            )

    def forget(self) -> None:
        """The file is no longer what it was after the last call."""
        self._ends.clear()

    def read(self, place: Place) -> Arrays:
        """One series; empty arrays if there is none."""
        query = "SELECT steps, numbers FROM layers WHERE layer = ? AND quantity = ? ORDER BY first"
        return _together([_arrays(*row) for row in self.connection.execute(query, place)])

    def read_all(self) -> dict[Place, Arrays]:
        """All series."""
        found: dict[Place, list[Arrays]] = {}
        query = "SELECT layer, quantity, steps, numbers FROM layers ORDER BY layer, quantity, first"
        for layer, quantity, *blobs in self.connection.execute(query):
            found.setdefault((layer, quantity), []).append(_arrays(*blobs))
        return {place: _together(rows) for place, rows in found.items()}

    def _end(self, place: Place) -> Arrays:
        if place not in self._ends:
            query = "SELECT steps, numbers FROM layers WHERE layer = ? AND quantity = ? ORDER BY first DESC LIMIT 1"
            row = self.connection.execute(query, place).fetchone()
            self._ends[place] = NOTHING if row is None else _arrays(*row)
        return self._ends[place]

    def _taken_out(self, place: Place) -> Arrays:
        """A whole series, no longer in the file."""
        found = self.read(place)
        self.connection.execute("DELETE FROM layers WHERE layer = ? AND quantity = ?", place)
        return found


class _Steps(NamedTuple):
    """The steps of a series after an append, as they are cut into rows."""

    order: np.ndarray | None
    """What puts the numbers before and those added in order; None where they are."""
    rows: list[tuple[slice, int, int, bytes]]
    """(where a row lies, its first and its last step, its steps)"""
    end: np.ndarray
    """The steps of the last row."""


def _joined(place: Place, before: np.ndarray, added: np.ndarray) -> _Steps:
    steps = np.concatenate([before, added]).astype(STEPS, copy=False)
    order = None
    if (steps[1:] <= steps[:-1]).any():
        order = np.argsort(steps, kind="stable")
        steps = steps[order]
        twice = steps[1:][steps[1:] == steps[:-1]]
        if len(twice):
            raise ArgumentError(
                f"{place[1]} of layer {place[0]!r} was measured at step {twice[0]} already, and nothing is kept. After "
                "a resume, call truncate_after with the step of the checkpoint"
            )
    parts = [slice(start, start + LONGEST) for start in range(0, len(steps), LONGEST)]
    rows = [(part, int(steps[part][0]), int(steps[part][-1]), steps[part].tobytes()) for part in parts]
    return _Steps(order, rows, steps[parts[-1]])


def _together(rows: list[Arrays]) -> Arrays:
    if not rows:
        return NOTHING
    return np.concatenate([s for s, _ in rows]), np.concatenate([n for _, n in rows])


def _bytes(arrays: Arrays) -> tuple[bytes, bytes]:
    return arrays[0].astype(STEPS).tobytes(), arrays[1].astype(NUMBERS).tobytes()


def _arrays(steps: bytes, numbers: bytes) -> Arrays:
    """sqlite3.DatabaseError: no row of ours."""
    if not isinstance(steps, bytes) or not isinstance(numbers, bytes) or len(steps) != len(numbers) or len(steps) % 8:
        raise sqlite3.DatabaseError("a row of table layers holds no arrays")
    return np.frombuffer(steps, STEPS).astype(np.int64), np.frombuffer(numbers, NUMBERS).astype(np.float64)
