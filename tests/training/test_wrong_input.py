"""What cannot work is refused before the first step, by name, with the remedy, and nothing is written."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import data, nn, optim
from chainrule.errors import ArgumentError, ChainruleError, ChainruleWarning, CheckpointError, DataError, ShapeError

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(30, 4)).astype(np.float32)
CLASSES = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
NUMBERS = X @ np.ones((4, 1), np.float32)
BITS = (X[:, 0] > 0).astype(np.int64)


def net(outputs: int = 3, *last: nn.Module, inputs: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, outputs), *last)


class Custom(nn.Module):
    """Ends in softmax in its own code, and in a reshape after it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 3)

    def forward(self, x):
        return cr.ops.softmax(self.body(x)).reshape(-1, 3)


def nan_at(row: int, column: int, value: float = np.nan) -> np.ndarray:
    x = X.copy()
    x[row, column] = value
    return x


def frozen() -> nn.Module:
    return net().requires_grad_(False)


# what is changed in a call that works -> the words that the error must have
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt loss": ({"loss": "cross_entrpy"}, "did you mean 'cross_entropy'"),
    "an unknown loss": ({"loss": "hinge"}, "no loss is called 'hinge': use mse"),
    "a loss class": ({"loss": nn.CrossEntropyLoss}, r"write CrossEntropyLoss\(\)"),
    "a loss that is not reduced": ({"loss": nn.CrossEntropyLoss(reduction="none")}, "use 'mean'"),
    "a loss of vectors": ({"loss": lambda p, t: p[:, 0]}, "the loss must be a scalar"),
    "a loss that is no Tensor": ({"loss": lambda p, t: 1.0}, "must return the loss as a Tensor"),
    "a sum in parts": ({"loss": nn.CrossEntropyLoss(reduction="sum"), "accumulate": 2}, "reduction='mean'"),
    "softmax before cross-entropy": ({"net": net(3, nn.Softmax())}, r"ends in softmax.*Delete the last line"),
    "softmax in a nested network": ({"net": nn.Sequential(net(3), nn.Sequential(nn.Softmax()))}, "layer '1.0'"),
    "softmax and dropout": ({"net": nn.Sequential(net(3, nn.Softmax()), nn.Identity())}, "ends in softmax"),
    "softmax in own code": ({"net": Custom()}, "ends in softmax"),
    "sigmoid before logits": (
        {"net": net(1, nn.Sigmoid()), "loss": "binary_cross_entropy_with_logits", "y": BITS},
        "ends in sigmoid.*delete",
    ),
    "one output": ({"net": net(1), "y": BITS}, "over one output is always 0"),
    "too few outputs": ({"net": net(2)}, "2 outputs, but the targets have 3 classes: set out_features=3"),
    "binary loss of three classes": (
        {"net": net(1), "loss": "binary_cross_entropy_with_logits"},
        "two classes, the targets have 3",
    ),
    "binary loss of numbers": (
        {"net": net(1, nn.Sigmoid()), "loss": "binary_cross_entropy", "y": NUMBERS},
        "from 0 to 1",
    ),
    "outputs that are no probabilities": (
        {"net": net(1), "loss": "binary_cross_entropy", "y": BITS},
        "takes probabilities, but the network's outputs range",
    ),
    "targets of another width": ({"net": net(3), "loss": "mse", "y": NUMBERS}, "refused: give both the same shape"),
    "probabilities that do not add up": ({"y": np.full((30, 3), 0.5)}, "add up|sum"),
    "as many targets as not rows": ({"y": CLASSES[:-1]}, "30.*29|29.*30"),
    "another input width": ({"net": net(inputs=5)}, "layer '0'.*4 features.*takes 5"),
    "one row under batch normalisation": (
        {"net": net(3, nn.BatchNorm1d(3)), "batch_size": 29},
        "one value a feature.*drop_last=True",
    ),
    "a class of optimizers": ({"optimizer": optim.Adam}, r"optim.Adam\(1e-3\), got the class Adam: call it"),
    "an optimizer by name": ({"optimizer": "adam"}, "must be one of chainrule.optim"),
    "a class of learning-rate schedules": ({"learning_rate_schedule": optim.StepLR}, "class StepLR: call it"),
    "a learning rate as a schedule": ({"learning_rate_schedule": 0.1}, "learning_rate_schedule must be"),
    "a class of networks": ({"net": nn.Linear}, "must be a chainrule.nn.Module, got the class Linear: call it"),
    "a function as a network": ({"net": lambda x: x}, "must be a chainrule.nn.Module"),
    "a frozen network": ({"net": frozen()}, "no trainable parameters"),
    "a network without weights": ({"net": nn.Sequential(nn.Tanh()), "y": CLASSES}, "no trainable parameters"),
    "a validation part of another width": ({"validation": (X[:, :3], CLASSES)}, "3"),
    "a validation part without targets": ({"validation": X}, "validation"),
    "a share of 1": ({"validation": 1.0}, "between 0 and 1"),
    "validation labels that training has not": ({"validation": (X, CLASSES + 1)}, "no class of the training"),
    "no rows": ({"x": X[:0], "y": CLASSES[:0]}, "no rows|0 rows|empty"),
    "NaN": ({"x": nan_at(3, 1)}, r"NaN.*\(first: .*3"),
    "infinity": ({"x": nan_at(3, 1, np.inf)}, "Inf"),
    "NaN in validation": ({"validation": (nan_at(7, 2), CLASSES)}, "NaN"),
    "text": ({"x": X.astype(str)}, "x "),
    "objects": ({"x": X.astype(object)}, "astype"),
    "the four parts at once": ({"data": ((X, CLASSES), (X, CLASSES))}, "first pair as data"),
    "x alone": ({"data": X}, r"pass \(x, y\)"),
    "a generator for two epochs": ({"data": (b for b in [(X, CLASSES)]), "epochs": 2}, "runs through once"),
    "an empty stream": ({"data": []}, "no batch|empty"),
    "no epochs": ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
    "half an epoch": ({"epochs": 1.5}, "epochs must be"),
    "true epochs": ({"epochs": True}, "epochs must be"),
    "an empty batch": ({"batch_size": 0}, "batch_size must be"),
    "a batch by name": ({"batch_size": "32"}, "batch_size must be.*'32'"),
    "no batch an update": ({"accumulate": 0}, "accumulate must be"),
    "no update a checkpoint": ({"checkpoint_every": 0}, "checkpoint_every must be"),
    "a negative penalty": ({"l1": -1.0}, "l1 must be"),
    "an infinite penalty": ({"l2": float("inf")}, "l2 must be"),
    "a norm of 0": ({"clip_norm": 0.0}, "norm must be"),
    "a negative limit": ({"clip_value": -1}, "value must be"),
    "a negative seed": ({"seed": -1}, "seed must be"),
    "a random seed": ({"seed": None}, "seed must be"),
    "a word about NaN": ({"on_nan": "ignore"}, "on_nan is 'stop' or 'skip'"),
    "a word about shuffling": ({"shuffle": "yes"}, "shuffle must be True or False"),
    "no patience": ({"early_stopping": 0}, "patience"),
    "a patience that is no number": ({"early_stopping": "soon"}, "patience"),
    "a monitor that is not measured": (
        {"early_stopping": cr.EarlyStopping(3, monitor="validation_accurcy")},
        "nothing called 'validation_accurcy' is measured: monitor one of loss",
    ),
    "a validation loss without validation": (
        {"early_stopping": cr.EarlyStopping(3, monitor="validation_loss")},
        "monitor one of loss, learning_rate$",
    ),
    "a misspelt metric": ({"metrics": ["acuracy"]}, "did you mean 'accuracy'"),
    "a metric that is a number": ({"metrics": [3]}, "a metric is a name or a function"),
    "a metric twice": ({"metrics": ["accuracy", "accuracy"]}, "in the history already"),
    "a class of callbacks": ({"callbacks": cr.Callback}, "not the class Callback"),
    "a callback that is none": ({"callbacks": [3]}, "a callback is a Callback or a function"),
    "a backend that is none": ({"backend": "cuda"}, "backend must be one of"),
    "a misspelt keyword": ({"learing_rate_schedule": None}, "did you mean 'learning_rate_schedule'"),
    "PyTorch's keyword": ({"lr": 0.1}, "there is no argument 'lr'"),
}


def call(changes: dict[str, Any], directory: Path | None = None) -> cr.Run:
    given = {
        "net": net(),
        "loss": "cross_entropy",
        "batch_size": 10,
        "run_dir": directory,
        "x": X,
        "y": CLASSES,
    } | changes
    x, y = given.pop("x"), given.pop("y")
    return cr.fit(given.pop("net"), given.pop("data", (x, y)), **given)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_refused_before_anything_is_written(name, tmp_path):
    changes, words = WRONG[name]
    before = X.tobytes()
    with pytest.raises(ChainruleError, match=words) as refused:
        call(changes, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert X.tobytes() == before
    assert len(str(refused.value)) < 700


def test_what_is_changed_in_those_calls_is_all_that_is_wrong_with_them(tmp_path):
    assert call({"validation": 0.2, "epochs": 2}, tmp_path / "run").epoch == 2


def test_a_refused_network_is_as_it_was():
    kept = net(3, nn.Softmax())
    call({"net": (body := nn.Sequential(*list(kept)[:3]))})
    before = {k: v.tobytes() for k, v in body.state_dict().items()}
    with pytest.raises(ArgumentError):
        call({"net": kept})
    assert {k: v.tobytes() for k, v in body.state_dict().items()} == before


def test_an_optimizer_that_is_given_parameters_shows_the_line_that_was_meant():
    with pytest.raises(ArgumentError, match=r"takes no parameters.*Write optim.Adam\(lr=0.01\)"):
        optim.Adam(net().parameters(), lr=0.01)


def test_targets_of_shape_n_are_those_of_shape_n_1():
    flat = call({"net": net(1), "loss": "mse", "y": NUMBERS[:, 0]})
    assert flat.losses == call({"net": net(1), "loss": "mse", "y": NUMBERS}).losses


def test_labels_of_a_stream_are_checked_batch_by_batch(tmp_path):
    batches = [(X[:10], CLASSES[:10]), (X[10:20], CLASSES[10:20] + 5)]
    with pytest.raises(DataError, match="labels"):
        call({"data": batches}, tmp_path / "run")


def test_a_stream_whose_batches_change_their_width_stops_with_the_state_of_the_last_update():
    kept = net()
    with pytest.raises(ShapeError, match="layer '0'"):
        call({"net": kept, "data": [(X[:10], CLASSES[:10]), (X[10:20, :3], CLASSES[10:20])]})
    once = net()
    call({"net": once, "data": [(X[:10], CLASSES[:10])]})
    assert all(
        np.array_equal(a, b) for a, b in zip(kept.state_dict().values(), once.state_dict().values(), strict=True)
    )


def test_a_generator_serves_one_epoch_whole():
    batches = [(X[i : i + 10], CLASSES[i : i + 10]) for i in (0, 10, 20)]
    assert call({"data": (b for b in batches)}).losses == call({"data": batches}).losses


def test_a_batch_that_is_larger_than_the_data_is_said_to_be_one_batch():
    with pytest.warns(ChainruleWarning, match="batch_size 100 is more than the 30 rows"):
        assert call({"batch_size": 100}).step == 1
    assert cr.fit(net(), (X[:7], CLASSES[:7]), loss="cross_entropy").step == 1  # nobody chose that size


def test_a_run_that_is_there_is_not_overwritten(tmp_path):
    call({}, tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("all of it")
    for name, words in (("run", "finished"), ("other", "thesis.txt")):
        before = {p: p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        with pytest.raises(ArgumentError, match=words):
            call({}, tmp_path / name)
        assert {p: p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()} == before


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "blocked"
    blocked.mkdir(mode=0o500)
    path = blocked / "run"
    if os.geteuid() == 0:  # nothing is read-only for root: a file in the way is as good
        (tmp_path / "file").write_text("")
        path = tmp_path / "file" / "run"
    with pytest.raises((ArgumentError, CheckpointError), match="cannot be made"):
        call({}, path)


def test_a_disk_that_fails_at_a_checkpoint_leaves_the_one_before_it(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(28, "No space left on device")

    class Filling(cr.Callback):
        def on_step(self, run, step, loss):
            if step == 5:
                monkeypatch.setattr("chainrule.record.durable.os.fsync", refused)

    kept = net()
    with pytest.raises(CheckpointError, match="No space left"):
        call({"net": kept, "epochs": 4, "checkpoint_every": 2, "callbacks": Filling()}, tmp_path / "run")
    monkeypatch.undo()
    assert cr.Run.load(tmp_path / "run").step == 4
    resumed = call({"epochs": 4, "resume": True}, tmp_path / "run")
    assert resumed.losses == call({"epochs": 4}).losses


def test_a_data_set_that_is_prepared_already_is_taken_as_it_is():
    ready = data.prepare(data.read("digits"), seed=1)
    wide = nn.Sequential(nn.Linear(64, 10))
    run = cr.fit(wide, ready, loss="cross_entropy", batch_size=256)
    assert set(run.metrics) == {"loss", "learning_rate", "validation_loss", "validation_accuracy"}
    with pytest.raises(ArgumentError, match="has its validation part already"):
        cr.fit(wide, ready, loss="cross_entropy", validation=0.2)
