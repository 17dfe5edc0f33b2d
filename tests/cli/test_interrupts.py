"""Ctrl-C and SIGTERM: a checkpoint is kept, and the resumed run ends as if nothing had happened."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from chainrule.record import RunDirectory

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGTERM that a program can see")

WORDS = ("train", "digits", "--layers", "32", "--dropout", "0.1", "--optimizer", "adam", "--schedule", "cosine")
EPOCHS = 600
MOST_SECONDS = 60


def wait_for_steps(path):
    """Wait until training is under way, seen in the record as another process would."""
    until = time.monotonic() + MOST_SECONDS
    while time.monotonic() < until:
        if (path / "command.json").exists() and (path / "record.sqlite").exists():
            with RunDirectory.open(path) as run:
                if len(run.record.history()) >= 2:
                    return
        time.sleep(0.01)
    raise AssertionError("training did not start")


def weights(path):
    with RunDirectory.open(path) as run:
        return run.latest().arrays


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_keeps_a_checkpoint_and_resumes_to_the_same_weights(command, start, number, code):
    process = start(*WORDS, "--epochs", EPOCHS, "--run", "stopped")
    wait_for_steps(Path("stopped"))
    process.send_signal(number)
    _, err = process.communicate(timeout=MOST_SECONDS)
    assert process.returncode == code, err
    assert "Traceback" not in err and "error: stopped by" in err and "a checkpoint of step" in err
    assert err.splitlines()[-1] == "next: chainrule train digits --run stopped --resume"
    with RunDirectory.open("stopped") as run:
        assert run.status.state == "interrupted"
        assert 0 < run.latest().header["epoch"] < EPOCHS

    resumed = command("train", "digits", "--run", "stopped", "--resume", "--json")
    assert resumed.code == 0, resumed.err
    unbroken = command(*WORDS, "--epochs", EPOCHS, "--run", "unbroken", "--json")
    assert {**resumed.json, "run": ""} == {**unbroken.json, "run": ""}
    left, right = weights("stopped"), weights("unbroken")
    assert left.keys() == right.keys()
    assert all(np.array_equal(left[name], right[name]) for name in right)


@pytest.fixture
def interrupted(command, monkeypatch):
    """`interrupted("moons")` leaves an interrupted run of three epochs, of which one was made."""
    from chainrule.cli import learn

    def leave(source, *words):
        def announced(rows, net, output):
            os.kill(os.getpid(), signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(learn, "_announce", announced)
            return command("train", source, "--layers", "4", "--epochs", 3, *words)

    return leave


def test_ctrl_c_in_this_process_ends_with_code_130_and_json(interrupted):
    ended = interrupted("moons", "--json")
    assert (ended.code, ended.json["error"]["kind"]) == (130, "Interrupted")


def test_without_a_directory_the_latest_unfinished_run_of_the_source_goes_on(command, interrupted):
    interrupted("moons")
    ended = interrupted("moons")
    assert "run 'runs/moons' is unfinished" in ended.err and "--resume" in ended.err
    resumed = command("train", "moons", "--resume", "--json")
    assert (resumed.code, resumed.json["run"], resumed.json["epochs"]) == (0, "runs/moons-2", 3)
    assert command("train", "moons", "--resume", "--json").json["run"] == "runs/moons"
    nothing_left = command("train", "moons", "--resume")
    assert nothing_left.code == 2 and "no unfinished run" in nothing_left.err


def test_a_resumed_run_keeps_its_settings_and_only_epochs_may_grow(command, interrupted):
    interrupted("moons", "--lr", "0.02")
    refused = command("train", "moons", "--resume", "--lr", "0.1", "--layers", "9")
    assert refused.code == 2 and "--layers, --lr" in refused.err
    assert command("train", "moons", "--resume", "--epochs", 2).code == 2
    assert command("train", "spirals", "--resume", "--run", "runs/moons").code == 2
    resumed = command("train", "moons", "--resume", "--epochs", 5, "--json")
    assert (resumed.code, resumed.json["epochs"]) == (0, 5)
    assert {entry["train"]["learning_rate"] for entry in history(command)} == {0.02}


def history(command):
    return command("info", "runs/moons", "--json").json["history"]


def test_a_schedule_that_was_laid_out_over_the_epochs_does_not_let_them_grow(command, interrupted):
    interrupted("moons", "--schedule", "cosine")
    ended = command("train", "moons", "--resume", "--epochs", 5)
    assert ended.code == 2 and "laid out for 3 epochs" in ended.err


def test_a_run_resumes_from_another_folder(command, interrupted, houses, tmp_path, monkeypatch):
    interrupted(houses.name, "--target", "price", "--missing", "mean")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    ended = command("train", "houses.csv", "--run", "../runs/houses", "--resume", "--json")
    assert ended.code == 0, ended.err


def test_data_that_changed_under_a_run_is_refused(command, interrupted, houses):
    interrupted(houses, "--target", "price", "--missing", "mean")
    houses.write_text(houses.read_text(encoding="utf-8").replace("35000.5", "99000.5"), encoding="utf-8")
    ended = command("train", houses, "--resume")
    assert ended.code == 3 and "the data is not that of the run" in ended.err


def test_a_run_that_was_started_in_python_is_resumed_there(command):
    from chainrule import nn, training

    x = np.zeros((4, 2), np.float32)
    training.fit(nn.Sequential(nn.Linear(2, 1)), (x, x[:, :1]), loss="mse", batch_size=2, run_dir="mine")
    ended = command("train", "moons", "--run", "mine", "--resume")
    assert ended.code == 2 and "not started by chainrule train" in ended.err
