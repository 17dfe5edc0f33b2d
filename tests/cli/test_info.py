"""`chainrule info`: the machine, and what is in a run's directory."""

import platform
from pathlib import Path

import numpy as np

import chainrule

QUICK = ("--layers", "8", "--epochs", "2")


def test_the_machine_is_told_with_versions_and_missing_packages(command, monkeypatch):
    from importlib import metadata

    from chainrule.cli import machine

    known = metadata.version

    def without_pyarrow(name):
        if name == "pyarrow":
            raise metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(machine.metadata, "version", without_pyarrow)
    ended = command("info", "--json")
    assert (ended.json["python"], ended.json["chainrule"]) == (platform.python_version(), chainrule.__version__)
    assert ended.json["packages"]["numpy"] == np.__version__
    assert ended.json["packages"]["pyarrow"] is None
    assert "pip install 'chainrule[parquet]'" in command("info").out


def test_a_run_is_told_with_settings_history_and_checkpoints(command):
    trained = command("train", "moons", *QUICK, "--json").json
    ended = command("info", "runs/moons", "--json")
    found = ended.json
    assert (found["status"], found["config"]["epochs"], len(found["history"])) == ("finished", 2, 2)
    assert found["history"][-1]["validation"]["loss"] == trained["validation"]["loss"]
    assert found["checkpoints"][-1]["step"] == trained["steps"] and found["checkpoints"][-1]["whole"]
    out = command("info", "runs/moons").out
    assert (
        "Linear(2, 8) > ReLU() > Linear(8, 2)" in out and out.splitlines()[-1] == "next: chainrule predict runs/moons"
    )


def test_a_long_history_is_shown_in_part(command):
    command("train", "moons", "--layers", "2", "--epochs", 14)
    assert "(4 epochs in between are left out)" in command("info", "runs/moons").out


def damage(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def test_a_run_of_which_every_checkpoint_is_damaged_ends_with_code_3(command):
    command("train", "moons", *QUICK)
    checkpoints = sorted(Path("runs/moons/checkpoints").iterdir())
    for path in checkpoints:
        damage(path)
    for words in (("info", "runs/moons"), ("predict", "runs/moons"), ("check", "runs/moons")):
        ended = command(*words, "--json")
        assert ended.code == 3, words
        assert ended.json["error"]["kind"] == "CheckpointError"
        assert checkpoints[-1].name in ended.err


def test_a_damaged_config_ends_with_code_3(command):
    command("train", "moons", *QUICK)
    Path("runs/moons/config.json").write_text("{", encoding="utf-8")
    assert command("info", "runs/moons").code == 3


def test_damaged_settings_end_with_code_3(command):
    command("train", "moons", *QUICK)
    Path("runs/moons/command.json").write_text('{"source": 3}', encoding="utf-8")
    assert command("predict", "runs/moons").code == 3
