"""`chainrule train`: from one command to a network that has learned, in a run's directory."""

import json
from pathlib import Path

import pytest

from chainrule import training
from chainrule.cli.network import SCHEDULES
from chainrule.cli.settings import Settings
from chainrule.nn import BatchNorm1d, Dropout, Linear, Tanh
from peers import skip_or_fail

QUICK = ("--layers", "8", "--epochs", "2")
FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.parametrize("seed", [0, 4])
def test_digits_reach_97_percent_with_the_defaults(command, seed):
    ended = command("train", "digits", "--seed", seed)
    assert ended.code == 0, ended.err
    assert command("info", "runs/digits", "--json").json["history"][-1]["validation"]["accuracy"] >= 0.97
    assert "validation accuracy 9" in ended.out
    assert ended.out.count("truth") == 3
    assert ended.out.splitlines()[-1] == "next: chainrule predict runs/digits"


def test_fashion_mnist_reaches_85_percent_from_its_idx_files_in_three_epochs(command):
    if not FASHION.is_dir():
        skip_or_fail("Fashion-MNIST is missing; run: apt-get install dataset-fashion-mnist")
    ended = command("train", FASHION, "--epochs", 2, "--batch-size", 64, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["validation"]["accuracy"] >= 0.85
    assert ended.json["run"] == "runs/fashion-mnist"


def test_json_is_the_only_line_of_standard_output_and_keeps_its_schema(command):
    ended = command("train", "spirals", *QUICK, "--json")
    assert len(ended.out.splitlines()) == 1
    found = ended.json
    assert {"schema", "run", "epochs", "loss", "validation"} <= found.keys()
    assert (found["schema"], found["run"], found["epochs"]) == (1, "runs/spirals", 2)
    assert set(found["validation"]) == {"loss", "accuracy"}
    assert "next: chainrule predict runs/spirals" in ended.err


def test_quiet_prints_nothing(command):
    ended = command("train", "spirals", *QUICK, "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_a_table_with_missing_values_words_and_a_numeric_target_is_learned(command, houses):
    ended = command("train", houses, "--target", "price", "--missing", "mean", "--epochs", 60, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["validation"]["r2"] > 0.8
    assert "12 missing values filled by mean" in ended.err
    assert f"validation error {ended.json['validation']['rmse']:.4g} (rms, in the units of price)" in ended.err


def test_missing_values_are_refused_with_the_option_that_treats_them(command, houses):
    ended = command("train", houses, "--target", "price")
    assert ended.code == 2
    assert "--missing mean" in ended.err and "'size' 12" in ended.err
    assert ended.out == ""
    assert not Path("runs").exists() or not list(Path("runs").iterdir())


def test_a_validation_file_is_what_is_held_out(command, tmp_path):
    for name, count in (("learn.csv", 60), ("held.csv", 9)):
        rows = [f"{i % 7},{i % 3},{'yes' if i % 7 > 3 else 'no'}" for i in range(count)]
        (tmp_path / name).write_text("\n".join(["a,b,answer", *rows]) + "\n", encoding="utf-8")
    ended = command("train", "learn.csv", "--target", "answer", "--validation", "held.csv", *QUICK)
    assert "60 rows to learn from, 9 held out" in ended.out, ended.err


def test_no_validation_trains_on_all_rows(command):
    ended = command("train", "moons", "--validation", "none", *QUICK, "--json")
    assert ended.json["validation"] is None
    assert "1,000 rows to learn from, 0 held out" in ended.err


def test_the_options_of_the_network_make_its_layers(command):
    options = ("--layers", "6,5", "--activation", "tanh", "--batch-norm", "--dropout", "0.1", "--epochs", 1)
    assert command("train", "moons", *options).code == 0
    layers = list(training.Run.load("runs/moons").net)
    assert [type(layer) for layer in layers] == [Linear, BatchNorm1d, Tanh, Dropout] * 2 + [Linear]
    assert [layer.out_features for layer in layers if isinstance(layer, Linear)] == [6, 5, 2]


def test_no_hidden_layer_is_a_linear_network(command):
    assert command("train", "moons", "--layers", "none", "--epochs", 1).code == 0
    assert [type(layer) for layer in training.Run.load("runs/moons").net] == [Linear]


def test_the_options_of_the_optimizer_reach_the_run(command):
    options = ("--optimizer", "sgd", "--lr", "0.25", "--l2", "0.01", "--clip-norm", "2", "--batch-size", 50)
    assert command("train", "moons", *options, *QUICK).code == 0
    config = training.Run.load("runs/moons").config
    assert (config.optimizer.name, config.optimizer.arguments["lr"]) == ("SGD", 0.25)
    assert (config.l2, config.clip_norm, config.batch_size, config.epochs) == (0.01, 2.0, 50, 2)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_learning_rate_schedule_trains(command, schedule):
    ended = command("train", "moons", "--schedule", schedule, "--layers", "4", "--epochs", 4, "--json")
    assert ended.code == 0, ended.err
    rates = training.Run.load("runs/moons").history["learning_rate"]
    assert (len(set(rates)) == 1) == (schedule in ("constant", "plateau"))


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "binary_cross_entropy_with_logits", "cross_entropy"])
def test_every_loss_trains(command, loss):
    ended = command("train", "moons", "--loss", loss, *QUICK, "--json")
    assert ended.code == 0, ended.err
    assert ("accuracy" in ended.json["validation"]) == ("cross" in loss)


def test_early_stopping_reports_the_epoch_whose_weights_are_kept(command):
    ended = command("train", "blobs", "--early-stopping", 1, "--lr", "0.05", "--layers", "4", "--epochs", 60, "--json")
    run = training.Run.load("runs/blobs")
    assert ended.json["epochs"] < 60
    assert ended.json["validation"]["loss"] == min(run.history["validation_loss"])
    assert f"best epoch {run.best_epoch} kept" in ended.err


def test_a_second_run_of_a_source_gets_a_directory_of_its_own(command):
    assert command("train", "moons", *QUICK, "--json").json["run"] == "runs/moons"
    assert command("train", "moons", *QUICK, "--json").json["run"] == "runs/moons-2"


def test_a_run_that_is_there_is_never_touched(command):
    command("train", "moons", *QUICK, "--run", "mine")
    before = {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()}
    ended = command("train", "spirals", *QUICK, "--run", "mine")
    assert (ended.code, ended.out) == (2, "")
    assert "'mine' is finished and is not touched" in ended.err
    assert before == {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()}


def test_a_refused_start_leaves_no_directory(command):
    assert command("train", "digits", "--epochs", 0).code == 2
    assert command("train", "digits", "--layers", "3", "--batch-norm", "--batch-size", 1437).code == 2
    assert list(Path("runs").iterdir()) == []


def test_the_same_seed_gives_the_same_network_each_time(command):
    losses = [command("train", "moons", *QUICK, "--seed", 7, "--json").json["loss"] for _ in range(2)]
    assert losses[0] == losses[1]
    assert command("train", "moons", *QUICK, "--seed", 8, "--json").json["loss"] != losses[0]


def test_the_settings_kept_in_the_run_are_those_that_were_asked(command):
    command("train", "moons", "--layers", "4,3", "--epochs", 1, "--missing", "median")
    kept = json.loads(Path("runs/moons/command.json").read_text(encoding="utf-8"))
    assert (kept["layers"], kept["missing"], kept["source"]) == ([4, 3], "median", "moons")
    assert set(kept) == set(vars(Settings("")))


def test_training_that_diverges_fails_with_code_1_and_keeps_a_checkpoint(command):
    ended = command("train", "digits", "--lr", "1e30", "--optimizer", "sgd", "--epochs", 2, "--json")
    assert ended.code == 1
    assert ended.json["error"]["kind"] == "NonFiniteError"
    assert command("info", "runs/digits", "--json").json["status"] == "failed"
