"""What is not finite: named by step, layer, operation, line and row; weights, moments and buffers stay as they were."""

from typing import Any

import numpy as np
import pytest

import chainrule as cr
import recipes
from chainrule import nn, optim
from chainrule.errors import NonFiniteError
from chainrule.record import RunDirectory

X, Y = recipes.rows(1)


class Logarithm(nn.Module):
    """log(x W): -infinity or NaN where the product is 0 or negative."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(cr.ops.log(self.norm(self.first(x)) + x[:, 0:1] * 0 + 5 * (1 - self.spoiled(x))))

    def spoiled(self, x):
        return cr.where(x[:, 3:4] > 50, 2.0, 0.0)


def bits(net: nn.Module) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in net.state_dict().items()}


def spoiled(row: int) -> np.ndarray:
    x = X.copy()
    x[row, 3] = 100.0
    return x


class Keeping(cr.Callback):
    """The bits after each update, the last of them at hand."""

    def __init__(self) -> None:
        self.bits: list[dict[str, bytes]] = []

    def on_step(self, run: cr.Run, step: int, loss: float) -> None:
        self.bits.append(bits(run.net))


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_a_forward_pass_that_is_not_finite_names_the_operation_and_changes_nothing(accumulate):
    net, keeping = Logarithm(), Keeping()
    options: dict[str, Any] = {"batch_size": 5, "shuffle": False, "accumulate": accumulate, "callbacks": keeping}
    with pytest.raises(NonFiniteError) as stopped:
        cr.fit(net, (spoiled(16), Y), loss="cross_entropy", **options)
    message, update = str(stopped.value), 3 // accumulate + 1
    assert message.startswith(f"step {update}: the loss is not finite. First bad operation: log")
    assert "test_nonfinite.py:" in message
    assert "whose inputs were finite" in message
    assert "bad rows of the batch: 1." in message
    assert bits(net) == keeping.bits[-1]
    assert len(keeping.bits) == update - 1


def test_the_layer_is_named_where_a_layer_did_it():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).load_state_dict
    made = net.__self__
    state = made.state_dict()
    state["2.weight"][:] = 3e38
    state["0.bias"][:] = 10.0
    net(state)
    with pytest.raises(NonFiniteError, match="First bad operation: linear in layer '2'"):
        cr.fit(made, (X, Y), loss="cross_entropy", batch_size=5)


@pytest.mark.parametrize("optimizer", [optim.SGD(1e30), optim.SGD(1e38, momentum=0.9), optim.Adam(3e38)])
def test_a_learning_rate_that_is_far_too_large_stops_with_finite_weights(optimizer):
    net, keeping = recipes.network("plain"), Keeping()
    with pytest.raises(NonFiniteError, match=r"step [123]") as stopped:
        cr.fit(net, (X, Y), loss="cross_entropy", optimizer=optimizer, batch_size=5, callbacks=keeping, epochs=5)
    assert "learning rate" in str(stopped.value)
    assert all(np.isfinite(array).all() for array in net.state_dict().values())
    if keeping.bits:
        assert bits(net) == keeping.bits[-1]


def test_a_gradient_that_is_not_finite_is_told_from_a_loss_that_is_not():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Linear(4, 3)

        def forward(self, x):
            return cr.ops.sqrt(cr.ops.maximum(self.w(x) * 0.0, 0.0))

    net = Root()
    with pytest.raises(
        NonFiniteError, match=r"the gradient is not finite. First bad operation: the backward pass of sqrt"
    ):
        cr.fit(net, (X, Y), loss="cross_entropy", batch_size=5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_skipping_counts_leaves_out_the_update_and_goes_on(accumulate, tmp_path):
    options: dict[str, Any] = {"loss": "cross_entropy", "batch_size": 5, "shuffle": False, "accumulate": accumulate}
    net = Logarithm()
    run = cr.fit(net, (spoiled(11), Y), on_nan="skip", epochs=2, run_dir=tmp_path / "run", **options)
    updates = -(-5 // accumulate)
    assert (run.skipped, run.step, len(run.losses)) == (2, 2 * (updates - 1), 2 * (updates - 1))
    assert np.isfinite(run.losses).all()
    assert [note.kind for note in RunDirectory.open(tmp_path / "run").record.notes()] == ["skipped", "skipped"]
    # The same as a stream without the batches of the update that was left out.
    left_out = range(2, 3) if accumulate == 1 else range(2, 4)
    batches = [(X[5 * i : 5 * i + 5], Y[5 * i : 5 * i + 5]) for i in range(5) if i not in left_out]
    without = Logarithm()
    assert cr.fit(without, batches, epochs=2, loss="cross_entropy", accumulate=accumulate).losses == run.losses
    assert bits(without) == bits(net)


def test_an_epoch_of_which_nothing_is_left_is_an_error():
    net = Logarithm()
    with pytest.raises(NonFiniteError, match="every update was left out"):
        cr.fit(net, (np.where(np.arange(4) == 3, 100.0, X).astype(np.float32), Y), loss="cross_entropy", on_nan="skip")


def test_a_run_that_stopped_for_nan_can_be_looked_at(tmp_path):
    with pytest.raises(NonFiniteError) as stopped:
        cr.fit(
            Logarithm(), (spoiled(16), Y), loss="cross_entropy", batch_size=5, shuffle=False, run_dir=tmp_path / "run"
        )
    directory = RunDirectory.open(tmp_path / "run")
    assert (directory.status.state, directory.checkpoints()) == ("failed", (3,))
    assert str(stopped.value) in directory.status.reason


def test_skips_survive_a_resume(tmp_path):
    options: dict[str, Any] = {"loss": "cross_entropy", "batch_size": 5, "on_nan": "skip", "epochs": 3}
    whole = cr.fit(Logarithm(), (spoiled(11), Y), **options)
    with pytest.raises(RuntimeError):
        cr.fit(Logarithm(), (spoiled(11), Y), run_dir=tmp_path / "run", callbacks=recipes.Raising(7), **options)
    resumed = cr.fit(Logarithm(), (spoiled(11), Y), run_dir=tmp_path / "run", resume=True, **options)
    assert (resumed.losses, resumed.skipped, resumed.notes) == (whole.losses, 3, whole.notes)
