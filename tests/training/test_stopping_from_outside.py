"""Signals, exceptions and threads: training stops between two updates, and what it leaves is whole."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
import recipes
from chainrule import nn, optim
from chainrule.errors import BusyError
from chainrule.record import RunDirectory
from chainrule.training import CompiledStep
from chainrule.training.interrupts import Interrupts, Terminated
from recipes import Raising, left, train

posix = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")

PROGRAM = """
import sys, time
import numpy as np
import chainrule as cr
from chainrule import nn, optim

where, run_dir = sys.argv[1:3]

def wait(place):
    if place == where:
        print("now", flush=True)
        time.sleep(20)

class Waiting(cr.Callback):
    def on_step(self, run, step, loss):
        if step == 12:
            wait("on_step")
            if where == "anywhere":
                print("now", flush=True)
        if where == "stubborn" and step == 12:
            print("now", flush=True)
            try:
                time.sleep(20)
            except KeyboardInterrupt:
                print("again", flush=True)
                time.sleep(20)

    def on_epoch(self, run, epoch, metrics):
        if epoch == 3:
            wait("on_epoch")

class Batches:
    passes = 0
    def __iter__(self):
        self.passes += 1
        generator = np.random.default_rng(0)
        for i in range(5):
            if self.passes == 4 and i == 2:
                wait("data")
            x = generator.normal(size=(5, 4)).astype("float32")
            yield x, (x[:, 0] > 0).astype("int64")

net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))
try:
    cr.fit(net, Batches(), loss="cross_entropy", optimizer=optim.Adam(0.01), epochs=200000, run_dir=run_dir,
           callbacks=Waiting())
except BaseException as error:
    print(type(error).__name__, *error.__notes__, flush=True)
    raise
"""


def interrupted(where: str, directory: Path, number: int) -> tuple[int, str, float]:
    """(exit code, what it printed, seconds from the signal to the end) of a training that gets a signal at a place."""
    command = [sys.executable, "-c", PROGRAM, where, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "now\n"
            time.sleep(0.1)
            began = time.monotonic()
            process.send_signal(number)
            if where == "stubborn":
                assert process.stdout.readline() == "again\n"
                process.send_signal(number)
            printed, _ = process.communicate(timeout=15)
            return process.returncode, printed, time.monotonic() - began
        finally:
            process.kill()


@posix
@pytest.mark.parametrize("where", ["anywhere", "on_step", "on_epoch", "data", "stubborn"])
def test_ctrl_c_ends_within_a_second_with_a_checkpoint_and_the_way_to_go_on(where, tmp_path):
    _, printed, seconds = interrupted(where, tmp_path / "run", signal.SIGINT)
    assert seconds < 1.5  # the interpreter's own end included
    assert printed.startswith("KeyboardInterrupt stopped after step ")
    assert f"go on with resume=True and run_dir='{tmp_path}" in printed
    found = left(tmp_path / "run")
    assert found.state == "interrupted"
    assert found.header["step"] == found.steps["step"][-1] == len(found.steps["step"]) == int(printed.split()[4][:-1])


@posix
def test_sigterm_ends_like_ctrl_c_under_its_own_name(tmp_path):
    code, printed, seconds = interrupted("anywhere", tmp_path / "run", signal.SIGTERM)
    assert printed.startswith("Terminated stopped after step ")
    assert (seconds < 1.5, code != 0, left(tmp_path / "run").state) == (True, True, "interrupted")


@posix
def test_handlers_are_as_before_after_any_end():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    train(("sgd", "plain"), None)
    for kind in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(kind):
            train(("sgd", "plain"), None, callbacks=Raising(3, kind))
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


@posix
def test_a_handler_of_the_users_own_is_left_alone():
    called = []
    before = signal.signal(signal.SIGTERM, lambda *_: called.append(True))
    try:
        run = train(("sgd", "plain"), None, callbacks=lambda r, e, m: os.kill(os.getpid(), signal.SIGTERM) and None)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (len(called), run.epoch) == (recipes.EPOCHS, recipes.EPOCHS)


@posix
def test_a_signal_waits_for_the_update_that_is_going_on_and_a_second_one_does_not():
    with Interrupts() as interrupts:
        done = False
        with pytest.raises(KeyboardInterrupt), interrupts.finishing():
            with interrupts.finishing():
                os.kill(os.getpid(), signal.SIGINT)
            done = True
        assert done
        with pytest.raises(Terminated), interrupts.finishing():
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the second signal waited")


def state(net: nn.Module) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in net.state_dict().items()}


@posix
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_state_after_a_second_ctrl_c_at_any_line_of_an_update_is_that_of_a_whole_update(accumulate):
    # A trace function raises at the nth line that runs within the step, as a second Ctrl-C would.
    x, y = recipes.rows(1)
    options = {"loss": "cross_entropy", "batch_size": 8, "accumulate": accumulate, "epochs": 2, "shuffle": False}
    whole: list[dict[str, bytes]] = []

    class Keeping(cr.Callback):
        def on_start(self, run):
            whole.append(state(run.net))

        def on_step(self, run, step, loss):
            whole.append(state(run.net))

    cr.fit(recipes.network("plain"), (x, y), callbacks=Keeping(), **options)
    source = Path(sys.modules[cr.fit.__module__].__file__ or "").parent
    for nth in range(3, 400, 29):
        count = 0

        def local(frame, event, argument):
            nonlocal count
            if event == "line":
                count += 1
                if count == nth + 1:  # noqa: B023
                    raise KeyboardInterrupt
            return local

        def traced(frame, event, argument):
            inside = frame.f_code.co_name in ("_update", "_stepped", "_take_over", "__call__", "_write")
            return local if inside and Path(frame.f_code.co_filename).parent == source else None

        net = recipes.network("plain")
        sys.settrace(traced)
        try:
            cr.fit(net, (x, y), **options)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        assert state(net) in whole


def test_the_state_after_an_exception_is_that_of_the_last_update_and_training_can_go_on():
    net, kept = recipes.network("plain"), []

    class Failing(cr.Callback):
        def on_step(self, run, step, loss):
            kept.append(state(run.net))
            if step == 7:
                raise ValueError

    data = recipes.rows(1)
    with pytest.raises(ValueError):
        cr.fit(net, data, loss="cross_entropy", batch_size=5, epochs=4, callbacks=Failing())
    assert state(net) == kept[-1]
    assert cr.fit(net, data, loss="cross_entropy", batch_size=5, epochs=1).step == 5


def test_the_exception_of_a_callback_comes_out_unchanged_and_says_how_to_go_on(tmp_path):
    with pytest.raises(RuntimeError, match="a callback of the test") as raised:
        train(("sgd", "plain"), tmp_path / "run", callbacks=Raising(7))
    assert raised.value.__notes__ == [
        f"stopped after step 7; go on with resume=True and run_dir={str(tmp_path / 'run')!r}"
    ]
    with RunDirectory.open(tmp_path / "run") as directory:
        assert (directory.status.state, directory.checkpoints()[-1]) == ("failed", 7)


def test_a_disk_that_fails_at_the_last_checkpoint_does_not_hide_what_ended_training(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(28, "No space left on device")

    class Filling(Raising):
        def on_step(self, run, step, loss):
            if step == 7:
                monkeypatch.setattr("chainrule.record.durable.os.fsync", refused)
            super().on_step(run, step, loss)

    with pytest.raises(RuntimeError, match="a callback") as raised:
        train(("sgd", "plain"), tmp_path / "run", checkpoint_every=3, callbacks=Filling(7))
    monkeypatch.undo()
    assert "no checkpoint could be made at step 7" in raised.value.__notes__[0]
    train(("sgd", "plain"), tmp_path / "run", resume=True)
    train(("sgd", "plain"), tmp_path / "whole")
    assert left(tmp_path / "run") == left(tmp_path / "whole")


def test_fit_works_in_a_thread_of_its_own():
    found: list[cr.Run] = []
    thread = threading.Thread(target=lambda: found.append(train(("adam", "plain"), None)))
    thread.start()
    thread.join()
    assert found[0].losses == train(("adam", "plain"), None).losses


def test_a_second_training_of_the_same_network_is_refused_and_the_first_is_not_disturbed():
    net, data = recipes.network("plain"), recipes.rows(1)
    options = {"loss": "cross_entropy", "batch_size": 5, "epochs": 3}
    refusals: list[BusyError] = []

    def second():
        try:
            cr.fit(net, data, seed=9, **options)
        except BusyError as error:
            refusals.append(error)

    def intrude(run, epoch, metrics):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        second()  # from within the callback as well

    run = cr.fit(net, data, callbacks=intrude, **options)
    assert len(refusals) == 6
    assert "already training" in str(refusals[0])
    assert run.losses == cr.fit(recipes.network("plain"), data, **options).losses


def test_a_step_and_a_fit_of_networks_that_share_a_layer_exclude_each_other():
    shared = nn.Linear(4, 3)
    step: CompiledStep = cr.step(nn.Sequential(shared, nn.Tanh()), optim.SGD(0.1))(
        lambda x: cr.mse(shared(x), 0 * shared(x))
    )
    x, y = recipes.rows(1)
    with pytest.raises(BusyError):
        cr.fit(nn.Sequential(shared), (x, y), loss="cross_entropy", callbacks=lambda r, e, m: step(x) and None)
    assert np.isfinite(step(x))


def test_networks_of_their_own_train_at_once():
    runs: dict[int, cr.Run] = {}
    threads = [threading.Thread(target=lambda i=i: runs.update({i: train(("adam", "plain"), None)})) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runs[0].losses == runs[1].losses == runs[2].losses
