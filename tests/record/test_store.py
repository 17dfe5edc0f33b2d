"""The SQLite record: complete after a kill, readable as it grows, each step once."""

import math
import os
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from chainrule.errors import ArgumentError, BusyError, CheckpointError
from chainrule.record import Epoch, Measurement, Note, Record, Step


def step(number, loss=0.5):
    return Step(number, epoch=1 + number // 10, loss=loss, learning_rate=0.1, rows=64, seconds=0.001)


@pytest.fixture
def record(tmp_path):
    with Record.create(tmp_path / "record.sqlite") as record:
        yield record


def test_what_is_appended_is_read_back(record):
    record.append_steps([step(1, 0.75), step(2, np.float32(0.25))])
    record.append_epoch(1, 2, "train", {"loss": 0.5})
    record.append_epoch(1, 2, "validation", {"loss": 0.625, "accuracy": np.float64(0.9)})
    record.append_measurements([Measurement(1, "0", "gradient", 1e-9), Measurement(2, "0", "gradient", 2e-9)])
    record.append_note(2, "warning", "odd")
    record.set_meta("seed", "1")
    record.set_meta("seed", "2")
    steps, losses = record.losses()
    assert (steps.dtype, losses.dtype) == (np.int64, np.float64)
    assert (steps.tolist(), losses.tolist()) == ([1, 2], [0.75, 0.25])
    assert record.steps(after=1)["rows"].tolist() == [64]
    assert record.history() == (Epoch(1, 2, {"loss": 0.5}, {"loss": 0.625, "accuracy": 0.9}),)
    assert list(record.measured()) == [("0", "gradient")]
    assert record.measurements("0", "gradient")[1].tolist() == [1e-9, 2e-9]
    assert record.notes() == (Note(2, "warning", "odd"),)
    assert record.meta() == {"seed": "2"}


def test_an_empty_record_reads_as_empty_arrays(record):
    steps, losses = record.losses()
    assert (steps.shape, steps.dtype, losses.dtype) == ((0,), np.int64, np.float64)
    assert record.history() == ()


def test_nan_and_infinity_are_kept(record):
    record.append_steps([step(1, math.nan), step(2, math.inf), step(3, -0.0)])
    record.append_epoch(1, 3, "validation", {"loss": math.nan})
    losses = record.losses()[1]
    assert math.isnan(losses[0])
    assert losses[1] == math.inf
    assert math.isnan(record.history()[0].validation["loss"])


def test_a_batch_is_appended_whole_or_not_at_all(record):
    record.append_steps([step(3)])
    with pytest.raises(ArgumentError, match="truncate_after"):
        record.append_steps([step(1), step(2), step(3)])
    assert record.losses()[0].tolist() == [3]
    with pytest.raises(ArgumentError, match="epochs"):
        record.append_epoch(1, 1, "test", {"loss": 1.0})


def test_truncation_removes_all_that_came_after(record):
    record.append_steps([step(number) for number in range(1, 31)])
    for epoch, last in ((1, 10), (2, 20), (3, 30)):
        record.append_epoch(epoch, last, "train", {"loss": 1.0})
        record.append_note(last, "event", str(epoch))
        record.append_measurements([Measurement(last, "0", "norm", 1.0)])
    assert record.truncate_after(20) == 10
    assert record.losses()[0].tolist() == list(range(1, 21))
    assert [epoch.epoch for epoch in record.history()] == [1, 2]
    assert [note.step for note in record.notes()] == [10, 20]
    # Of the step after the 20th, which is made again.
    assert record.measurements("0", "norm")[0].tolist() == [10]
    record.append_steps([step(21)])


def test_measurements_come_back_in_order_however_they_were_appended(record):
    rng = np.random.default_rng(0)
    place, steps = ("0", "gradient"), rng.permutation(2000)
    numbers = rng.normal(size=2000)
    first = 0
    for count in (1, 3, 255, 1, 256, 700, 1, 783):  # also whole rows of the table, and steps between those it has
        chosen = np.sort(steps[first : first + count])
        record.append_steps([], {place: (chosen, numbers[chosen]), ("1", "error"): (chosen, -numbers[chosen])})
        first += count
        held = np.sort(steps[:first])
        with Record.open(record.path) as reader:
            for found, sign in ((reader.measured()[place], 1), (reader.measurements("1", "error"), -1)):
                assert found[0].tolist() == held.tolist()
                assert found[1].tolist() == (sign * numbers[held]).tolist()
    record.truncate_after(1000)
    assert record.measurements(*place)[0].tolist() == list(range(1000))
    record.append_steps([], {place: (np.arange(1000, 1300), numbers[1000:1300])})
    assert record.measurements(*place)[1].tolist() == numbers[:1300].tolist()


def test_a_step_is_measured_once(record):
    given = (np.array([3, 5]), np.array([math.nan, math.inf]))
    record.append_steps([step(1)], {("0", "gradient"): given})
    for again in (3, 5):
        with pytest.raises(ArgumentError, match=f"step {again} already.*truncate_after"):
            record.append_steps([step(2)], {("0", "gradient"): (np.array([again]), np.array([1.0]))})
    steps, numbers = record.measurements("0", "gradient")
    assert steps.tolist() == [3, 5]
    assert math.isnan(numbers[0])
    assert numbers[1] == math.inf
    assert record.losses()[0].tolist() == [1]


def test_a_row_that_holds_no_arrays_is_refused_by_name(record):
    record.append_measurements([Measurement(1, "0", "gradient", 1.0)])
    record._connection.execute("UPDATE layers SET numbers = x'0102'")
    with pytest.raises(CheckpointError, match=r"record\.sqlite.*damaged.*no arrays"):
        record.measured()


def test_a_closed_record_is_one_file_that_needs_no_right_to_write(tmp_path):
    path = tmp_path / "run" / "record.sqlite"
    path.parent.mkdir()
    with Record.create(path) as record:
        record.append_steps([step(1)])
        record.sync()
    assert [file.name for file in path.parent.iterdir()] == ["record.sqlite"]
    path.chmod(0o400)
    with Record.open(path) as reader:
        assert reader.losses()[0].tolist() == [1]


@pytest.mark.parametrize("name", ["a b?mode=memory.sqlite", "50%20#x.sqlite", "é.sqlite"])
def test_any_path_means_itself(tmp_path, name):
    with Record.create(tmp_path / name) as record:
        record.append_steps([step(1)])
    assert [file.name for file in tmp_path.iterdir()] == [name]
    with pytest.raises(ArgumentError, match="is there already"):
        Record.create(tmp_path / name)


WRITE_WITHOUT_END = """
import sys, time
from chainrule.record import Record, Step
with Record.create(sys.argv[1]) as record:
    for first in range(1, 1_000_000, 10):
        record.append_steps([Step(n, 1, 1 / n, 0.1, 64, 0.0) for n in range(first, first + 10)])
        print(first + 9, flush=True)
        time.sleep(0.002)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_another_process_reads_while_one_writes_and_nothing_is_lost_by_kill_9(tmp_path):
    path = tmp_path / "record.sqlite"
    command = [sys.executable, "-c", WRITE_WITHOUT_END, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        acknowledged = int(writer.stdout.readline())
        with Record.open(path) as reader:
            seen = [len(reader.losses()[0]) for _ in range(20)]
            for line in range(20):
                acknowledged = int(writer.stdout.readline())
                assert len(reader.losses()[0]) >= acknowledged, line
        writer.send_signal(signal.SIGKILL)
        lines = writer.stdout.read().split("\n")
    acknowledged = max([acknowledged, *map(int, filter(None, lines[:-1]))])
    assert seen == sorted(seen)
    assert all(count % 10 == 0 for count in seen)  # whole transactions only
    with Record.open(path, write=True) as record:
        steps, losses = record.losses()
        assert steps.tolist() == list(range(1, len(steps) + 1))
        assert len(steps) >= acknowledged
        assert np.array_equal(losses, 1 / steps)
        record.truncate_after(acknowledged)
        record.append_steps([step(acknowledged + 1)])


@pytest.fixture
def closed(tmp_path):
    path = tmp_path / "record.sqlite"
    with Record.create(path) as record:
        record.append_steps([step(number) for number in range(1, 2001)])
    return path


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"step,loss\n1,0.5\n"), "no SQLite file"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:20_000]), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(90_000)), "damaged"),
    ],
)
def test_damaged_files_are_refused_by_name(closed, spoil, says, write):
    spoil(closed)
    with pytest.raises(CheckpointError, match=says) as caught, Record.open(closed, write=write) as record:
        record.losses()
    assert str(closed) in str(caught.value)


def test_damage_that_reading_the_losses_would_not_meet_is_found_before_writing(closed):
    content = closed.read_bytes()
    with Record.open(closed) as record:
        page = record._connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'layers'").fetchone()[0]
    size = int.from_bytes(content[16:18], "big")
    closed.write_bytes(content[: (page - 1) * size] + bytes(size) + content[page * size :])
    with pytest.raises(CheckpointError, match=r"record\.sqlite.*damaged"):
        Record.open(closed, write=True)


def test_a_reader_that_takes_its_time_does_not_stop_the_writer(record):
    record.append_steps([step(1)])
    with Record.open(record.path) as reader:
        reader._connection.execute("BEGIN")
        assert reader.losses()[0].tolist() == [1]
        record._connection.execute("PRAGMA busy_timeout=0")
        record.append_steps([step(2)])
        record.sync()
        assert reader.losses()[0].tolist() == [1]  # as it was when the reader began
        reader._connection.execute("COMMIT")
        assert reader.losses()[0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("pragma", "says"),
    [
        ("application_id=0", "did not write"),
        ("user_version=3", r"newer chainrule.*Upgrade"),
        ("user_version=1", "older chainrule"),
    ],
)
def test_foreign_and_newer_databases_are_refused(closed, pragma, says):
    connection = sqlite3.connect(closed)
    connection.execute(f"PRAGMA {pragma}")
    connection.close()
    with pytest.raises(CheckpointError, match=says):
        Record.open(closed)


def test_a_record_that_another_program_holds_is_named(closed, monkeypatch):
    from chainrule.record import store

    monkeypatch.setattr(store, "PATIENCE", 0.05)
    holder = sqlite3.connect(closed, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(BusyError, match=r"record\.sqlite"):
            Record.open(closed, write=True)
    finally:
        holder.close()


def test_a_full_disk_is_named_and_keeps_what_was_there(record):
    record.append_steps([step(1)])
    pages = record._connection.execute("PRAGMA page_count").fetchone()[0]
    record._connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(CheckpointError, match=r"record\.sqlite.*full"):
        record.append_steps([step(number) for number in range(2, 5000)])
    assert record.losses()[0].tolist() == [1]


def test_a_record_that_was_just_opened_can_be_made_durable(tmp_path):
    path = tmp_path / "record.sqlite"
    Record.create(path).close()
    with Record.open(path, write=True) as record:
        record.sync()
