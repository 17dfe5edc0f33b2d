"""Run directories: one writer, nothing overwritten, the latest whole checkpoint found whatever happened."""

import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

from chainrule.errors import ArgumentError, BusyError, ChainruleWarning, CheckpointError
from chainrule.record import (
    Choice,
    RunConfig,
    RunDirectory,
    Step,
    claim_directory,
    durable,
    run_directory,
    run_name,
    save_checkpoint,
    unfinished_runs,
)


@pytest.fixture
def run(tmp_path, config):
    with RunDirectory.create(tmp_path / "run", config) as run:
        yield run


def save(run, step, score=None):
    return run.save({"w": np.full(50, float(step))}, {"step": step}, score)


def damage(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def names(run):
    return sorted(path.name for path in run.path.rglob("*") if path.is_file())


def test_a_new_run_has_its_files_and_gives_back_its_configuration(run, config):
    assert names(run) == ["config.json", "record.sqlite", "run.lock", "status.json"]
    assert run.config == config
    assert run.status.state == "running"
    assert run.latest() is None
    assert run.best() is None
    save(run, 120)
    assert (run.path / "checkpoints" / "step-000000120.safetensors").is_file()


def test_a_claimed_directory_is_empty_and_nobody_elses(tmp_path):
    claimed = [claim_directory("digits", tmp_path) for _ in range(3)]
    assert [path.name for path in claimed] == ["digits", "digits-2", "digits-3"]
    assert all(list(path.iterdir()) == [] for path in claimed)


def test_unfinished_runs_are_those_that_were_interrupted_the_latest_at_the_end(tmp_path, config):
    for state in ("interrupted", "finished", "failed", "interrupted"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ChainruleWarning)
            RunDirectory.create_named("digits", config, tmp_path).end(state)
    assert [path.name for path in unfinished_runs("digits", tmp_path)] == ["digits", "digits-4"]
    assert unfinished_runs("moons", tmp_path) == []


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("digits", "digits"),
        ("../data/my file.csv", "my-file"),
        ("C:\\data\\prices.parquet", "prices"),
        ("train-images.gz", "train-images"),
        ("images/", "images"),
        ("..", "run"),
        ("/", "run"),
        ("", "run"),
        (".hidden", "run"),
        ("-rf", "rf"),
        ("a\0b\nc", "a-b-c"),
        ("nul", "run-nul"),
        ("COM1.x.csv", "run-COM1.x"),
        ("データ.csv", "run"),
        ("x" * 300, "x" * 80),
    ],
)
def test_a_source_becomes_a_plain_name_inside_the_directory(source, name):
    assert run_name(source) == name


def test_runs_without_a_name_are_numbered(tmp_path, config):
    for expected in ("digits", "digits-2", "digits-3"):
        run = RunDirectory.create_named("digits", config, tmp_path)
        assert run.path == tmp_path / expected
        run.end("finished")


def test_a_directory_that_is_no_run_is_passed_over(tmp_path, config):
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits-2").write_text("a file")
    with RunDirectory.create_named("digits", config, tmp_path) as run:
        assert run.path.name == "digits-3"
    assert not list((tmp_path / "digits").iterdir())


def test_an_unfinished_run_is_named_with_the_line_that_resumes_it(tmp_path, config):
    run = RunDirectory.create_named("digits", config, tmp_path / "my runs")
    save(run, 1200)
    run.end("interrupted")
    with pytest.warns(ChainruleWarning) as caught:
        RunDirectory.create_named("digits", config, tmp_path / "my runs").end("finished")
    message = str(caught[0].message)
    assert f"chainrule train digits --run '{run.path}' --resume" in message
    assert "step 1,200" in message
    with pytest.raises(ArgumentError, match="--resume"):
        RunDirectory.create(run.path, config)


def test_a_run_that_goes_on_elsewhere_is_passed_over_in_silence(tmp_path, config):
    with (
        RunDirectory.create_named("digits", config, tmp_path),
        RunDirectory.create_named("digits", config, tmp_path) as second,
    ):
        assert second.path.name == "digits-2"


def test_a_finished_run_is_never_touched(tmp_path, config):
    run = RunDirectory.create(tmp_path / "run", config)
    save(run, 1)
    run.end("finished")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    for start in (lambda: RunDirectory.create(run.path, config), lambda: RunDirectory.resume(run.path)):
        with pytest.raises(ArgumentError, match="finished"):
            start()
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_a_directory_with_other_files_is_refused(tmp_path, config):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ArgumentError, match=r"thesis\.tex"):
        RunDirectory.create(tmp_path, config)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("door", [RunDirectory.open, RunDirectory.resume])
def test_what_is_no_run_is_refused_with_what_it_is(tmp_path, door):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name, says in (("none", "missing"), ("file", "a file"), ("empty", "empty"), ("", "without config.json")):
        with pytest.raises(ArgumentError, match=says):
            door(tmp_path / name)


@pytest.mark.parametrize("call", ["mkdir", "open", "write", "fsync", "replace"])
def test_a_start_that_fails_can_be_tried_again(tmp_path, config, monkeypatch, call):
    real = getattr(os, call)
    for failing in range(100):
        calls = 0

        def faulty(*arguments, failing=failing, **options):
            nonlocal calls
            calls += 1
            if calls - 1 == failing:
                raise OSError(28, "No space left on device")
            return real(*arguments, **options)

        path = tmp_path / f"run-{failing}"
        with monkeypatch.context() as patch:
            patch.setattr(os, call, faulty)
            try:
                RunDirectory.create(path, config).close()
                break
            except (ArgumentError, CheckpointError) as error:
                assert "No space left" in str(error)
        if not (path / "config.json").exists():
            RunDirectory.create(path, config).end("finished")
    assert failing >= 1


# ---- one writer -----------------------------------------------------------------------------------------------------


def test_a_second_writer_is_refused_and_told_who_is_first(run):
    with pytest.raises(BusyError, match=f"process {os.getpid()} on"):
        RunDirectory.resume(run.path)
    program = "import sys; from chainrule.record import RunDirectory; RunDirectory.resume(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", program, str(run.path)], capture_output=True, text=True, check=False)
    assert "BusyError" in done.stderr
    assert f"process {os.getpid()} on" in done.stderr
    save(run, 1)


def test_a_run_that_began_while_we_waited_for_the_lock_is_not_touched(tmp_path, config, monkeypatch):
    real = run_directory.acquire

    def late(path):
        monkeypatch.setattr(run_directory, "acquire", real)
        RunDirectory.create(path.parent, config).end("finished")
        return real(path)

    monkeypatch.setattr(run_directory, "acquire", late)
    with pytest.raises(ArgumentError, match="finished"):
        RunDirectory.create(tmp_path / "run", config)
    assert RunDirectory.open(tmp_path / "run").status.state == "finished"


def test_a_lock_of_a_dead_process_stops_nobody(tmp_path, config):
    RunDirectory.create(tmp_path / "run", config).close()
    # As after kill -9: the file names a process, and the number may belong to a living one by now.
    (tmp_path / "run" / "run.lock").write_text(f'{{"process": {os.getppid()}, "machine": "m", "since": "s"}}')
    assert RunDirectory.open(tmp_path / "run").status.state == "interrupted"
    RunDirectory.resume(tmp_path / "run").end("finished")
    assert RunDirectory.open(tmp_path / "run").status.state == "finished"


def test_readers_need_no_lock_and_cannot_write(run):
    save(run, 3)
    with RunDirectory.open(run.path) as reader:
        assert reader.status.state == "running"
        assert reader.latest().step == 3
        assert reader.record.history() == ()
        for write in (lambda: save(reader, 4), lambda: reader.end("finished")):
            with pytest.raises(ArgumentError, match="open for reading"):
                write()
        with pytest.raises(ArgumentError, match="open for reading"):
            reader.record.append_note(1, "a", "b")
    assert run.status.state == "running"


def test_resume_removes_what_a_killed_process_left_half_written(tmp_path, config):
    run = RunDirectory.create(tmp_path / "run", config)
    save(run, 1)
    run.close()
    for place in (run.path, run.path / "checkpoints"):
        (place / ".chainrule-1-ab.tmp").write_bytes(b"half")
    with RunDirectory.resume(run.path) as resumed:
        assert not list(resumed.path.rglob(durable.TEMPORARY))
        assert resumed.checkpoints() == (1,)


@pytest.mark.parametrize(
    ("error", "state"), [(KeyboardInterrupt, "interrupted"), (SystemExit, "interrupted"), (ValueError("bad"), "failed")]
)
def test_leaving_by_an_error_says_so_and_lets_go(tmp_path, config, error, state):
    kind = error if isinstance(error, type) else type(error)
    with pytest.raises(kind), RunDirectory.create(tmp_path / "run", config):
        raise error
    assert RunDirectory.open(tmp_path / "run").status.state == state
    RunDirectory.resume(tmp_path / "run").end("finished")


def test_an_unknown_ending_is_refused(run):
    with pytest.raises(ArgumentError, match="'done'"):
        run.end("done")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "asleep", "reason": ""}', "[" * 100_000])
def test_a_damaged_status_is_named(tmp_path, config, content):
    run = RunDirectory.create(tmp_path / "run", config)
    run.close()
    (run.path / "status.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"status\.json"):
        RunDirectory.resume(run.path)
    (run.path / "status.json").write_text('{"state": "interrupted", "reason": ""}')  # as the message says
    RunDirectory.resume(run.path).close()


def test_a_damaged_configuration_is_named(run):
    (run.path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json.*source"):
        _ = run.config


# ---- checkpoints ----------------------------------------------------------------------------------------------------


def test_the_two_newest_and_the_best_are_kept(run):
    for step, score in ((1, 0.5), (2, 0.1), (3, float("nan")), (4, 0.3), (5, None), (6, 0.1)):
        save(run, step, score)
    assert run.checkpoints() == (2, 5, 6)
    assert run.best().step == 2
    assert run.latest().step == 6
    assert run.latest().header == {"step": 6, "score": 0.1}


def test_steps_are_ordered_as_numbers(run):
    for step in (9, 10, 999_999_999, 1_000_000_000):
        save(run, step)
    assert run.checkpoints() == (999_999_999, 1_000_000_000)
    assert run.latest().step == 1_000_000_000


def test_the_latest_is_the_highest_step_in_the_headers_whatever_names_and_times_say(run):
    older, newer = save(run, 1), save(run, 2)
    spare = run.path / "spare"
    os.replace(older, spare)
    os.replace(newer, older)
    os.replace(spare, newer)
    os.utime(newer, (2e9, 2e9))
    assert run.latest().step == 2
    assert run.latest().path == older


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(run):
    save(run, 1)
    damage(save(run, 2))
    with pytest.warns(ChainruleWarning) as caught:
        assert run.latest().step == 1
    assert "step-000000002" in str(caught[0].message)
    assert "array 'w'" in str(caught[0].message)
    assert "Used instead: step-000000001.safetensors" in str(caught[0].message)


def test_an_unreadable_header_is_passed_over_too(run):
    save(run, 1)
    save(run, 2).write_bytes(b"")
    with pytest.warns(ChainruleWarning, match="0 bytes"):
        assert run.latest().step == 1


def test_if_all_are_damaged_nothing_is_made_up(run):
    damage(save(run, 1))
    with pytest.raises(CheckpointError, match=r"no whole checkpoint.*step-000000001"):
        run.latest()


def test_rotation_never_counts_a_damaged_checkpoint_as_kept(tmp_path, config):
    run = RunDirectory.create(tmp_path / "run", config)
    save(run, 1)
    damage(save(run, 2))
    run.close()
    with RunDirectory.resume(run.path) as run:
        save(run, 3)
        assert run.checkpoints() == (1, 2, 3)
        save(run, 4)
        assert run.checkpoints() == (3, 4)


def test_a_failed_save_removes_nothing(run, monkeypatch):
    save(run, 1)
    save(run, 2)
    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match="No space"):
        patch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        save(run, 3)
    assert run.checkpoints() == (1, 2)
    assert run.latest().step == 2


def test_the_record_is_made_durable_before_the_checkpoint(run, monkeypatch):
    order = []
    monkeypatch.setattr(run.record, "sync", lambda: order.append("record"))
    monkeypatch.setattr(run_directory, "save_checkpoint", lambda *arguments: order.append("checkpoint"))
    save(run, 1)
    assert order == ["record", "checkpoint"]


def test_the_same_step_twice_is_replaced(run):
    save(run, 1, 0.5)
    save(run, 1, 0.25)
    assert run.latest().header["score"] == 0.25


@pytest.mark.parametrize("step", [None, -1, 1.0, True, "1"])
def test_a_checkpoint_without_a_step_is_refused(run, step):
    with pytest.raises(ArgumentError, match=r"header\['step'\]"):
        run.save({}, {"step": step})


def test_a_missing_step_is_refused_with_those_that_are_there(run):
    save(run, 5)
    assert run.load(5).arrays["w"][0] == 5
    with pytest.raises(CheckpointError, match=r"\[5\]"):
        run.load(6)


def test_a_checkpoint_that_no_run_saved_is_named(run):
    save_checkpoint(run.path / "checkpoints" / "step-000000009.safetensors", {}, {})
    save(run, 1)
    with pytest.warns(ChainruleWarning, match="no step"):
        assert run.latest().step == 1


def test_other_files_among_the_checkpoints_are_left_alone(run):
    (run.path / "checkpoints" / "mine.safetensors").write_text("x")
    for step in range(1, 5):
        save(run, step)
    assert (run.path / "checkpoints" / "mine.safetensors").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run.latest().step == 4


def test_a_reader_finds_a_latest_checkpoint_while_the_writer_rotates(run):
    save(run, 1)
    writer = threading.Thread(target=lambda: [save(run, step) for step in range(2, 200)])
    reader, seen = RunDirectory.open(run.path), []
    writer.start()
    while writer.is_alive():
        seen.append(reader.latest().step)
    writer.join()
    assert seen == sorted(seen)
    assert reader.latest().step == 199


def test_after_a_resume_the_record_has_each_step_once(tmp_path, config):
    run = RunDirectory.create(tmp_path / "run", config)

    def train(run, steps):
        for step in steps:
            run.record.append_steps([Step(step, 1, 1 / step, 0.1, 64, 0.01)])
            if step % 5 == 0:
                save(run, step)

    train(run, range(1, 14))
    run.close()
    with RunDirectory.resume(run.path) as run:
        latest = run.latest()
        assert latest.step == 10
        assert run.record.truncate_after(latest.step) == 3
        train(run, range(latest.step + 1, 21))
        steps, losses = run.record.losses()
    assert steps.tolist() == list(range(1, 21))
    assert losses.tolist() == [1 / step for step in range(1, 21)]


# ---- configuration --------------------------------------------------------------------------------------------------


def test_a_configuration_comes_back_equal(config):
    assert RunConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"learing_rate_schedule": None}, "Did you mean `learning_rate_schedule`"),
        ({"epoch": 3}, "Did you mean `epochs`"),
        ({"zzz": 3}, "Known are source"),
        ({"optimizer": {"nam": "Adam"}}, "nam.*Did you mean `name`"),
        ({"epochs": 0}, ">= 1.*epochs"),
        ({"epochs": True}, "int.*epochs"),
        ({"epochs": 2.5}, "int.*epochs"),
        ({"dtype": "float16"}, "float16.*dtype"),
        ({"seed": "1"}, "int.*seed"),
    ],
)
def test_wrong_keys_and_values_are_refused_by_name(config, change, says):
    import json

    with pytest.raises(ArgumentError, match=says):
        RunConfig.from_json(json.dumps({**json.loads(config.to_json()), **change}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("{}", "source"),
        ("[]", "object"),
        ('{"seed": 1, "seed": 2}', "'seed' stands there twice"),
        ("[" * 100_000, "deep"),
        (b"\xff", "not JSON"),
    ],
)
def test_text_that_is_no_configuration_is_refused(text, says):
    with pytest.raises(ArgumentError, match=says):
        RunConfig.from_json(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_a_configuration_that_json_would_change_is_refused(config, value):
    import msgspec

    with pytest.raises(ArgumentError, match="RunConfig"):
        msgspec.structs.replace(config, optimizer=Choice("SGD", {"lr": value})).to_json()
