"""Failures: one line, the right exit code, no traceback, nothing on standard output that is not JSON."""

import errno
import json
import os
from pathlib import Path

import pytest

from chainrule import __version__, data, errors
from chainrule.cli import learn
from chainrule.cli.failure import failure_of
from chainrule.record import RunConfig, RunDirectory
from chainrule.record.config import Choice

QUICK = ("--layers", "8", "--epochs", "2")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "digts"), "did you mean 'digits'?"),
        (("train", "no.csv"), "'no.csv' does not exist"),
        (("train",), "Missing argument 'SOURCE'"),
        (("train", "digits", "--epoch", "3"), "--epochs"),
        (("train", "digits", "--epochs", "x"), "--epochs"),
        (("train", "digits", "--epochs", "0"), "epochs must be a whole number of at least 1, got 0"),
        (("train", "digits", "--batch-size", "0"), "batch_size must be"),
        (("train", "digits", "--lr", "-1"), "lr must be a finite number above 0, got -1.0"),
        (("train", "digits", "--lr", "nan"), "lr must be"),
        (("train", "digits", "--l2", "-1"), "l2 must be"),
        (("train", "digits", "--clip-norm", "0"), "norm"),
        (("train", "digits", "--dropout", "2"), "between 0 and 1, got 2.0"),
        (("train", "digits", "--layers", "64,x"), "'x' is no width"),
        (("train", "digits", "--layers", "64,0"), "'0' is no width"),
        (("train", "digits", "--activation", "rleu"), "did you mean relu?"),
        (("train", "digits", "--optimizer", "adm"), "did you mean adam?"),
        (("train", "digits", "--schedule", "cosin"), "did you mean cosine?"),
        (("train", "digits", "--loss", "cross"), "--loss 'cross'"),
        (("train", "digits", "--missing", "guess"), "missing"),
        (("train", "digits", "--validation", "1.5"), "--validation is 1.5"),
        (("train", "digits", "--target", "q"), "no column 'q'"),
        (("train", "digits", "--seed", "-1"), "seed is -1"),
        (("train", "digits", "--early-stopping", "0"), "patience"),
        (("train", "digits", "--loss", "binary_cross_entropy_with_logits"), "has 10; use --loss cross_entropy"),
        (("trian", "digits"), "trian"),
        (("predict", "nowhere"), "'nowhere' is no run: it is missing"),
        (("check", "nowhere"), "'nowhere' is no run"),
        (("info", "nowhere"), "'nowhere' is no run"),
        (("data", "show", "digts"), "digits, spirals, moons, circles, blobs, regression"),
        (("data", "shwo", "digits"), "shwo"),
    ],
)
def test_wrong_usage_or_input_ends_with_one_line_and_code_2(command, words, said):
    ended = command(*words)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.startswith("error: ") and ended.err.count("\n") == 1
    assert ended.out == ""
    assert command(*words, "--json").json["error"]["exit"] == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NonFiniteError("x"), 1),
        (errors.ArgumentError("x"), 2),
        (errors.DataError("x"), 2),
        (errors.ShapeError("x"), 2),
        (errors.CheckpointError("x"), 3),
        (errors.BusyError("x"), 4),
        (errors.MissingDependencyError("x"), 4),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 4),
        (MemoryError(), 4),
        (KeyError("x"), 1),
    ],
)
def test_each_error_has_its_exit_code_and_no_traceback(command, monkeypatch, error, code):
    def fails(*_):
        raise error

    monkeypatch.setattr(learn, "rows_of", fails)
    ended = command("train", "digits", "--json")
    assert ended.code == code
    assert "Traceback" not in ended.err and ended.err.startswith("error: ")
    assert ended.json["schema"] == 1 and ended.json["error"]["kind"] == type(error).__name__


def test_the_traceback_is_shown_where_it_is_asked_for(command, monkeypatch):
    monkeypatch.setenv("CHAINRULE_TRACEBACK", "1")
    with pytest.raises(errors.ArgumentError):
        command("train", "digts")


def test_a_checkpoint_that_the_system_refuses_is_the_environments_fault(command):
    refused = errors.CheckpointError("cannot be written")
    refused.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert failure_of(refused).code == 4


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_ends_with_code_4(command):
    Path("locked").mkdir(mode=0o500)
    assert command("train", "moons", *QUICK, "--run", "locked/run").code == 4


def test_a_folder_that_is_a_file_ends_with_code_4(command):
    Path("runs").write_text("in the way", encoding="utf-8")
    ended = command("train", "moons", *QUICK)
    assert (ended.code, ended.out) == (4, "")
    assert "cannot be made" in ended.err


def test_a_run_that_another_process_trains_ends_with_code_4(command):
    config = RunConfig(source="moons", architecture={}, loss=Choice("mse"), optimizer=Choice("SGD"), epochs=1,
                       batch_size=1, seed=0)  # fmt: skip
    with RunDirectory.create("mine", config):
        Path("mine/command.json").write_text('{"source": "moons"}', encoding="utf-8")
        ended = command("train", "moons", "--run", "mine", "--resume", "--json")
    assert (ended.code, ended.json["error"]["kind"]) == (4, "BusyError")


def test_messages_name_options_as_the_command_line_has_them():
    message = "pass missing='mean' or ignore=['user id'], batch_size=8 and resume=True; target=, one of 'a'"
    assert failure_of(errors.DataError(message)).message == (
        "pass --missing mean or --ignore 'user id', --batch-size 8 and --resume; --target, one of 'a'"
    )


def test_a_message_is_one_line_without_control_characters():
    failure = failure_of(errors.DataError("first\nsecond \x1b[2J \u202e"))
    assert failure.line == "error: first second \\x1b[2J \\u202e"


def test_a_warning_is_one_line_and_is_said_once(command):
    ended = command("train", "moons", "--batch-size", 5000, *QUICK)
    assert ended.code == 0
    warned = [line for line in ended.err.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 1 and "is more than the 800 rows" in warned[0]


def test_the_process_ends_with_the_code_and_without_a_traceback(start):
    process = start("train", "digts", "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert json.loads(out)["error"]["kind"] == "ArgumentError"
    assert err.count("\n") == 1 and all(name in err for name in data.names())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE")
def test_a_reader_that_leaves_is_no_error(start, tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"column{i}" for i in range(39)) + "\n" + ",".join("1" * 39) + "\n", encoding="utf-8")
    process = start("data", "show", path)
    process.stdout.close()
    process.wait(timeout=60)
    assert process.stderr.read() == ""
    assert process.returncode == 141


def test_the_package_runs_as_a_module(start):
    process = start("--version")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out == f"chainrule {__version__}\n"
