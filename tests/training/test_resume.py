"""A run that is broken off anywhere and goes on ends in the same bits as one that is not."""

import signal
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import chainrule as cr
import recipes
from chainrule.errors import ArgumentError, CheckpointError
from chainrule.record import RunDirectory
from recipes import Left, Raising, left, sampled, train

PIPELINE = sys.modules[cr.fit.__module__]  # chainrule.training.fit is the function


def raising(*_: object) -> None:
    raise RuntimeError("of the test")


@cache
def unbroken(recipe: tuple[str, str]) -> Left:
    with TemporaryDirectory() as parent:
        train(recipe, Path(parent) / "run")
        return left(Path(parent) / "run")


def broken(recipe: tuple[str, str], directory: Path, step: int, kind: type[BaseException] = RuntimeError) -> None:
    # A recipe that stops early may never come to the step.
    try:
        train(recipe, directory, callbacks=Raising(step, kind))
    except kind:
        return
    pytest.skip("training ended before that step")


def named(pair: tuple[tuple[str, str], int]) -> str:
    return f"{pair[0][0]}, {pair[0][1]}, step {pair[1]}"


@pytest.mark.parametrize("pair", sampled(60, seed=0), ids=named)
def test_a_resumed_run_ends_in_the_bits_of_an_unbroken_one(pair, tmp_path):
    recipe, step = pair
    broken(recipe, tmp_path / "run", step, KeyboardInterrupt if step % 2 else RuntimeError)
    resumed = train(recipe, tmp_path / "run", resume=True)
    whole, found = unbroken(recipe), left(tmp_path / "run")
    assert found == whole
    assert found.steps["step"] == list(range(1, resumed.step + 1))
    assert resumed.losses == whole.steps["loss"]


@pytest.mark.long
@pytest.mark.parametrize("pair", sampled(600, seed=1), ids=named)
def test_a_resumed_run_ends_in_the_bits_of_an_unbroken_one_at_many_more_steps(pair, tmp_path):
    test_a_resumed_run_ends_in_the_bits_of_an_unbroken_one(pair, tmp_path)


def test_a_run_may_be_broken_off_again_and_again(tmp_path):
    recipe = ("adam", "accumulated")
    broken(recipe, tmp_path / "run", 2)
    for step in (4, 5, 8, 9, 11):
        with pytest.raises(RuntimeError):
            train(recipe, tmp_path / "run", resume=True, callbacks=Raising(step))
    train(recipe, tmp_path / "run", resume=True)
    assert left(tmp_path / "run") == unbroken(recipe)


def test_the_resumed_history_equals_the_unbroken_one(tmp_path):
    whole = train(("adam", "scheduled on a plateau"), None)
    broken(("adam", "scheduled on a plateau"), tmp_path / "run", 12)
    resumed = train(("adam", "scheduled on a plateau"), tmp_path / "run", resume=True)
    assert list(resumed.history.items()) == list(whole.history.items())
    assert (resumed.losses, resumed.step, resumed.epoch, resumed.best_epoch) == (
        whole.losses,
        whole.step,
        whole.epoch,
        whole.best_epoch,
    )
    assert resumed.metrics == whole.metrics


@pytest.mark.parametrize("part", ["validation", "on_epoch", "on_end", "on_start"])
def test_a_run_may_be_broken_off_between_epochs(part, tmp_path):
    recipe = ("adamw", "stopped early")

    class Breaking(cr.Callback):
        def on_start(self, run):
            if part == "on_start":
                raise RuntimeError

        def on_epoch(self, run, epoch, metrics):
            if part == "on_epoch" and epoch == 2:
                raise RuntimeError

        def on_end(self, run):
            if part == "on_end":
                raise RuntimeError

    def failing(prediction, truth):
        failing.calls += 1
        if part == "validation" and failing.calls == 2:
            raise RuntimeError
        return 0.0

    failing.calls = 0
    with pytest.raises(RuntimeError):
        train(recipe, tmp_path / "run", callbacks=Breaking(), metrics=[failing])
    failing.calls = 10
    train(recipe, tmp_path / "run", resume=True, metrics=[failing])
    train(recipe, tmp_path / "whole", metrics=[failing])
    assert left(tmp_path / "run") == left(tmp_path / "whole")


def test_early_stopping_is_not_forgotten_by_a_kill_after_the_last_epoch(tmp_path, monkeypatch):
    recipe = ("sgd", "stopped early")
    whole = unbroken(recipe)
    assert whole.header["epoch"] < recipes.EPOCHS  # or it would show nothing
    monkeypatch.setattr(PIPELINE, "chosen_examples", raising)
    with pytest.raises(RuntimeError):
        train(recipe, tmp_path / "run", checkpoint_every=1)
    monkeypatch.undo()
    train(recipe, tmp_path / "run", resume=True)
    assert left(tmp_path / "run") == whole


def test_a_stop_that_a_callback_asked_for_is_not_forgotten(tmp_path):
    class Stopping(cr.Callback):
        def on_epoch(self, run, epoch, metrics):
            return epoch == 2

    with pytest.raises(RuntimeError):
        callbacks = [Stopping(), lambda run, epoch, metrics: raising() if epoch == 2 else None]
        train(("sgd", "plain"), tmp_path / "run", callbacks=callbacks)
    assert train(("sgd", "plain"), tmp_path / "run", resume=True).epoch == 2


def test_an_epoch_whose_metrics_came_after_the_checkpoint_is_measured_again(tmp_path, monkeypatch):
    recipe = ("adam", "plain")
    monkeypatch.setattr(PIPELINE._Trainer, "_measured", raising)
    with pytest.raises(RuntimeError):
        train(recipe, tmp_path / "run")  # a checkpoint between the last update of epoch 1 and its metrics
    monkeypatch.undo()
    monkeypatch.setattr(PIPELINE._Trainer, "_save", lambda _: None)
    with pytest.raises(RuntimeError):  # the record gets the metrics of epochs 1 and 2, and no checkpoint follows
        train(recipe, tmp_path / "run", resume=True, callbacks=Raising(12))
    monkeypatch.undo()
    train(recipe, tmp_path / "run", resume=True)
    assert left(tmp_path / "run") == unbroken(recipe)


# ---- kill -9 ---------------------------------------------------------------------------------------------------------


def killed(recipe: tuple[str, str], directory: Path, step: int, every: int) -> None:
    """Start the training in a process of its own, and end it by SIGKILL soon after the step."""
    command = [sys.executable, recipes.__file__, str(directory), *recipe, str(every), "0.005"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= step:
                process.kill()
                break
        assert process.wait() == -signal.SIGKILL


KILLS = [
    (("adam", "plain"), 1, 3),
    (("adam", "accumulated"), 5, 1),
    (("momentum", "scheduled by step"), 8, 3),
    (("amsgrad", "scheduled on a plateau"), 13, 4),
    (("adamw", "a stream"), 7, 2),
    (("rmsprop", "clipped and penalised"), 11, 5),
]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("kill", KILLS, ids=lambda k: f"{', '.join(k[0])}, step {k[1]}, checkpoint every {k[2]}")
def test_a_killed_run_ends_in_the_bits_of_an_unbroken_one(kill, tmp_path):
    recipe, step, every = kill
    killed(recipe, tmp_path / "run", step, every)
    assert RunDirectory.open(tmp_path / "run").status.state == "interrupted"
    train(recipe, tmp_path / "run", resume=True, checkpoint_every=every)
    assert left(tmp_path / "run") == unbroken(recipe)


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("pair", sampled(80, seed=2), ids=named)
def test_a_killed_run_ends_in_the_bits_of_an_unbroken_one_at_many_more_steps(pair, tmp_path):
    recipe, step = pair
    killed(recipe, tmp_path / "run", min(step, 8), 1 + step % 4)
    train(recipe, tmp_path / "run", resume=True)
    assert left(tmp_path / "run") == unbroken(recipe)


# ---- what a resume refuses -------------------------------------------------------------------------------------------


def test_resume_lists_every_setting_that_differs(tmp_path):
    broken(("adam", "plain"), tmp_path / "run", 3)
    before = left(tmp_path / "run")
    with pytest.raises(ArgumentError) as refused:
        train(
            ("sgd", "plain"),
            tmp_path / "run",
            resume=True,
            batch_size=6,
            seed=9,
            l1=0.5,
            early_stopping=3,
            on_nan="skip",
        )
    wanted = [
        "optimizer (then Adam(lr=0.01",
        "now SGD(lr=0.05",
        "batch_size (then 5, now 6)",
        "seed (then 3, now 9)",
        "l1 (then 0.0, now 0.5)",
        "early_stopping",
        "on_nan (then 'stop', now 'skip')",
    ]
    for part in wanted:
        assert part in str(refused.value)
    assert left(tmp_path / "run") == before


def test_resume_with_another_network_names_what_differs(tmp_path):
    from chainrule import nn

    x, y = recipes.rows(1)
    with pytest.raises(RuntimeError):
        cr.fit(
            nn.Sequential(nn.Linear(4, 3)), (x, y), loss="cross_entropy", run_dir=tmp_path / "r", callbacks=Raising(1)
        )
    wider = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    with pytest.raises(ArgumentError, match=r"architecture: 0.weight \[3, 4\] -> \[5, 4\].*2.weight none -> \[3, 5\]"):
        cr.fit(wider, (x, y), loss="cross_entropy", run_dir=tmp_path / "r", resume=True)
    other = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    with pytest.raises(ArgumentError, match="of 1 layers became Sequential of 2"):
        cr.fit(other, (x, y), loss="cross_entropy", run_dir=tmp_path / "r", resume=True)


def test_resume_with_other_rows_is_refused(tmp_path, monkeypatch):
    broken(("adam", "plain"), tmp_path / "run", 3)
    original = recipes.rows
    x, y = original(1)
    x[17, 2] += 1e-3
    monkeypatch.setattr(recipes, "rows", lambda seed, count=23: (x, y) if seed == 1 else original(seed, count))
    with pytest.raises(CheckpointError, match="the data is not that of the run"):
        train(("adam", "plain"), tmp_path / "run", resume=True)
    monkeypatch.undo()
    train(("adam", "plain"), tmp_path / "run", resume=True)
    assert left(tmp_path / "run") == unbroken(("adam", "plain"))


def test_a_finished_run_is_not_touched(tmp_path):
    train(("sgd", "plain"), tmp_path / "run")
    before = left(tmp_path / "run")
    with pytest.raises(ArgumentError, match="finished"):
        train(("sgd", "plain"), tmp_path / "run", resume=True)
    with pytest.raises(ArgumentError, match="finished"):
        train(("sgd", "plain"), tmp_path / "run")
    assert left(tmp_path / "run") == before


def test_resume_needs_a_directory():
    with pytest.raises(ArgumentError, match="needs run_dir"):
        train(("sgd", "plain"), None, resume=True)


def test_an_interrupted_run_can_be_made_longer(tmp_path):
    broken(("adam", "plain"), tmp_path / "run", 7)
    longer = train(("adam", "plain"), tmp_path / "run", resume=True, epochs=6)
    assert longer.losses == train(("adam", "plain"), None, epochs=6).losses


def test_a_damaged_checkpoint_falls_back_to_the_one_before_it(tmp_path):
    with pytest.raises(RuntimeError):
        train(("adam", "plain"), tmp_path / "run", checkpoint_every=2, callbacks=Raising(9))
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(("adam", "plain"), tmp_path / "run", resume=True)
    assert left(tmp_path / "run") == unbroken(("adam", "plain"))


def test_checkpoints_come_every_so_many_updates(tmp_path):
    seen = []

    class Watching(cr.Callback):
        def on_step(self, run, step, loss):
            with RunDirectory.open(run.path) as directory:
                seen.append(directory.checkpoints())

    train(("sgd", "plain"), tmp_path / "run", checkpoint_every=3, callbacks=Watching())
    # 5 updates an epoch: step 15 ends one, the others lie within.
    assert [steps[-1] if steps else 0 for steps in seen] == [3 * ((step - 1) // 3) for step in range(1, 21)]
