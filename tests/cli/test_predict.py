"""`chainrule predict`: what a run's network says about rows."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from chainrule import training

QUICK = ("--layers", "8", "--epochs", "2")


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_numbers_are_predicted_in_the_units_of_the_target(command, houses):
    command("train", houses, "--target", "price", "--missing", "mean", "--epochs", 60)
    ended = command("predict", "runs/houses", houses)
    rows = table(ended.out)
    assert (ended.code, len(rows)) == (0, 200)
    errors = [abs(float(row["prediction"]) - float(row["truth"])) for row in rows]
    assert np.median(errors) < 20_000  # prices go from 35,000 to 284,000
    assert float(rows[0]["truth"]) == 35_000.5
    assert ended.err.splitlines()[-1].startswith("next: chainrule predict runs/houses ")


def test_rows_without_the_truth_are_predicted_too(command, houses):
    command("train", houses, "--target", "price", "--missing", "mean", *QUICK)
    lines = houses.read_text(encoding="utf-8").splitlines()
    Path("new.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines[:5]) + "\n", encoding="utf-8")
    ended = command("predict", "runs/houses", "new.csv")
    assert [set(row) for row in table(ended.out)] == [{"prediction"}] * 4
    assert "rmse" not in ended.err


def test_without_a_file_the_rows_that_were_held_out_are_predicted(command):
    found = command("train", "spirals", "--epochs", 3, "--json").json
    ended = command("predict", "runs/spirals", "--json")
    assert ended.json["rows"] == len(ended.json["predictions"]) == 200
    assert ended.json["accuracy"] == pytest.approx(found["validation"]["accuracy"])
    assert set(ended.json["predictions"][0]) == {"prediction", "probability", "truth"}


def test_predictions_are_those_of_the_run_in_python(command):
    command("train", "blobs", *QUICK)
    rows = table(command("predict", "runs/blobs", "blobs").out)
    run = training.Run.load("runs/blobs")
    from chainrule import data

    assert [row["prediction"] for row in rows] == run.predict_classes(data.read("blobs"))


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy_with_logits"])
def test_the_probability_of_a_predicted_class_of_two_is_at_least_a_half(command, loss):
    command("train", "moons", "--loss", loss, "--epochs", 20)
    ended = command("predict", "runs/moons", "--json")
    shares = [row["probability"] for row in ended.json["predictions"]]
    assert min(shares) >= 0.5 and 0.8 < np.mean(shares) <= 1
    assert ended.json["accuracy"] > 0.8


def test_out_writes_the_csv_and_overwrites_only_by_force(command):
    command("train", "moons", *QUICK)
    ended = command("predict", "runs/moons", "--out", "answers.csv", "--json")
    assert ended.json["out"] == "answers.csv" and "predictions" not in ended.json
    assert len(table(Path("answers.csv").read_text(encoding="utf-8"))) == 200
    Path("answers.csv").write_text("mine", encoding="utf-8")
    refused = command("predict", "runs/moons", "--out", "answers.csv")
    assert (refused.code, refused.out, Path("answers.csv").read_text(encoding="utf-8")) == (2, "", "mine")
    assert "--force" in refused.err
    assert command("predict", "runs/moons", "--out", "answers.csv", "--force").code == 0
    assert Path("answers.csv").read_text(encoding="utf-8").startswith("prediction,probability,truth\n")


def test_a_file_with_other_columns_is_refused_by_name(command, houses):
    command("train", houses, "--target", "price", "--missing", "mean", *QUICK)
    Path("other.csv").write_text("size,town\n1,Rome\n", encoding="utf-8")
    ended = command("predict", "runs/houses", "other.csv")
    assert ended.code == 2
    assert "'city'" in ended.err and "'town'" in ended.err


def test_a_run_made_in_python_from_a_dataset_predicts_a_named_file(command, houses):
    from chainrule import data, nn

    rows = data.prepare(data.read(houses), target="price", missing="mean")
    training.fit(nn.Sequential(nn.Linear(5, 1)), rows, loss="mse", run_dir="mine")
    assert len(table(command("predict", "mine", houses).out)) == 200
    refused = command("predict", "mine")
    assert refused.code == 2 and "say what to predict" in refused.err
