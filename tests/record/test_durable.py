"""Saving under faults: the disk is full, the disk is broken, the process is killed. The old checkpoint always loads."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from chainrule.errors import CheckpointError
from chainrule.record import RunDirectory, durable, load_checkpoint, save_checkpoint

OLD, NEW = {"w": np.arange(1000.0)}, {"w": np.arange(1000.0) + 1}


def step_of(path):
    arrays, header = load_checkpoint(path)
    assert np.array_equal(arrays["w"], (OLD if header["step"] == 1 else NEW)["w"])
    return header["step"]


@pytest.fixture
def old(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "WRITE_AT_MOST", 2048)  # several writes a file
    save_checkpoint(tmp_path / "a", OLD, {"step": 1})
    return tmp_path / "a"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("keep_failing", [False, True])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace", "close"])
def test_a_fault_at_any_call_leaves_one_whole_checkpoint_and_no_litter(old, monkeypatch, call, keep_failing, code):
    real = getattr(os, call)
    reached = 0
    for failing in range(100):
        calls = 0

        def faulty(*arguments, failing=failing, **options):
            nonlocal calls
            calls += 1
            if calls - 1 == failing or (keep_failing and calls > failing):
                if call == "close":
                    real(*arguments)  # the descriptor is gone also when close reports an error
                raise OSError(code, os.strerror(code))
            return real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, faulty)
            try:
                save_checkpoint(old, NEW, {"step": 2})
            except CheckpointError as error:
                reached += 1
                message = str(error)
            else:
                break
        assert str(old) in message
        assert os.strerror(code) in message
        assert "needs 8," in message
        assert "free" in message
        renamed = "written whole" in message
        assert step_of(old) == (2 if renamed else 1)
        assert [path.name for path in old.parent.iterdir()] == ["a"]
        save_checkpoint(old, OLD, {"step": 1})
    assert reached >= {"open": 2, "write": 5, "fsync": 2, "replace": 1, "close": 2}[call]
    assert step_of(old) == 2


def test_half_a_write_is_continued(old, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[: max(1, len(data) // 2)]))
    save_checkpoint(old, NEW, {"step": 2})
    assert step_of(old) == 2


def test_ctrl_c_in_a_save_leaves_the_old_one_and_no_litter(old, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(old, NEW, {"step": 2})
    assert step_of(old) == 1
    assert [path.name for path in old.parent.iterdir()] == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no fsync of a directory")
def test_the_order_is_write_fsync_rename_fsync_of_the_directory(old, monkeypatch):
    log = []

    def logged(name):
        real = getattr(os, name)

        def call(first, *rest, **options):
            is_directory = name == "fsync" and os.path.isdir(f"/proc/self/fd/{first}")
            log.append(f"{name} directory" if is_directory else name)
            return real(first, *rest, **options)

        monkeypatch.setattr(os, name, call)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("tells a directory's descriptor by /proc")
    for name in ("write", "fsync", "replace"):
        logged(name)
    save_checkpoint(old, NEW, {"step": 2})
    assert log[-3:] == ["fsync", "replace", "fsync directory"]
    assert set(log[:-3]) == {"write"}


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_a_link_at_the_target_is_replaced_and_never_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "a").symlink_to(victim)
    save_checkpoint(tmp_path / "a", NEW, {"step": 2})
    assert victim.read_text() == "precious"
    assert step_of(tmp_path / "a") == 2


@pytest.mark.skipif(os.name == "nt", reason="umask is POSIX")
def test_the_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o077)
    try:
        save_checkpoint(tmp_path / "a", NEW, {"step": 2})
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("target", ["no/parent", "directory", "x" * 300])
def test_impossible_targets_are_refused_and_leave_nothing(tmp_path, target):
    (tmp_path / "directory").mkdir()
    with pytest.raises(CheckpointError, match="was not saved"):
        save_checkpoint(tmp_path / target, NEW, {})
    assert [path.name for path in tmp_path.rglob("*")] == ["directory"]


SAVE_WITHOUT_END = """
import sys, numpy as np
from chainrule.record import RunDirectory
run = RunDirectory.resume(sys.argv[1])
latest = run.latest()
step = latest.step if latest else 0
while True:
    step += 1
    run.save({"w": np.full(20_000, float(step)), "m": np.full(3, step)}, {"step": step}, score=1 / step)
    print(step, flush=True)
"""


def kill_and_load(directory, trials, draw):
    for _ in range(trials):
        command = [sys.executable, "-c", SAVE_WITHOUT_END, str(directory)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            first = int(process.stdout.readline())
            time.sleep(draw.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
            lines = process.stdout.read().split("\n")
        acknowledged = max([first, *map(int, filter(None, lines[:-1]))])
        assert RunDirectory.open(directory).status.state == "interrupted"
        latest = RunDirectory.open(directory).latest()
        assert latest.step in (acknowledged, acknowledged + 1)  # saved, but killed before it could say so
        assert np.all(latest.arrays["w"] == latest.step)
    with RunDirectory.resume(directory) as run:
        assert not list(run.path.rglob(durable.TEMPORARY))
        assert run.checkpoints()[-1] == latest.step


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_after_kill_9_the_newest_acknowledged_checkpoint_loads(tmp_path, config):
    RunDirectory.create(tmp_path / "run", config).close()
    kill_and_load(tmp_path / "run", 20, np.random.default_rng(0))


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_after_many_kills_the_newest_acknowledged_checkpoint_loads(tmp_path, config):
    RunDirectory.create(tmp_path / "run", config).close()
    kill_and_load(tmp_path / "run", 1000, np.random.default_rng(1))


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_a_link_planted_at_the_temporary_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(durable.secrets, "token_hex", lambda length: "ab")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".chainrule-{os.getpid()}-ab.tmp").symlink_to(victim)
    with pytest.raises(CheckpointError, match="File exists"):
        save_checkpoint(tmp_path / "a", NEW, {})
    assert victim.read_text() == "precious"
