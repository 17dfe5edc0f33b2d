"""`chainrule check`: right gradients pass, a wrong one is found and named."""

import numpy as np
import pytest

from chainrule import nn, training
from chainrule.cli import differences

QUICK = ("--layers", "8", "--epochs", "2")


@pytest.mark.parametrize(
    "words",
    [
        ("digits",),
        ("regression", "--activation", "tanh", "--batch-norm"),
        ("moons", "--loss", "binary_cross_entropy_with_logits", "--dropout", "0.5", "--activation", "prelu"),
        ("blobs", "--loss", "mae"),
    ],
)
def test_the_gradients_of_trained_networks_agree(command, words):
    command("train", *words, *QUICK)
    ended = command("check", f"runs/{words[0]}", "--weights", 8, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["ok"] and all(0 <= p["error"] <= differences.TOLERANCE for p in ended.json["parameters"])
    assert [p["name"] for p in ended.json["parameters"]][:2] == ["0.weight", "0.bias"]


@pytest.mark.parametrize("wrong", [1.001, -1.0, 0.0, float("nan")])
def test_a_wrong_gradient_of_one_layer_is_found_and_named(command, monkeypatch, wrong):
    command("train", "moons", *QUICK)
    right = differences.gradients

    def planted(*arguments):
        loss, found = right(*arguments)
        found["2.weight"] = found["2.weight"] * wrong
        return loss, found

    monkeypatch.setattr(differences, "gradients", planted)
    ended = command("check", "runs/moons", "--json")
    assert ended.code == 1
    assert [p["name"] for p in ended.json["parameters"] if not p["ok"]] == ["2.weight"]
    out = command("check", "runs/moons").out
    assert "gradients DIFFER" in out and "WRONG at [" in out


def test_the_difference_is_exact_for_a_quadratic():
    w = np.array([3.0, -2.0])
    difference = differences._difference(w, (0,), lambda: float(2 * w[0] ** 2 + w[1]), 1e-4)
    assert difference == pytest.approx(12.0, rel=1e-9)
    assert w.tolist() == [3.0, -2.0]


def test_the_cost_of_both_ways_is_printed_as_two_times_and_their_ratio(command):
    command("train", "moons", *QUICK)
    ended = command("check", "runs/moons")
    assert "why backpropagation: one forward and one backward pass takes" in ended.out
    assert "(43 × " in ended.out  # 42 parameters: 2 x 8 + 8 and 8 x 2 + 2
    seconds = command("check", "runs/moons", "--json").json["seconds"]
    assert seconds["differences"] == pytest.approx(43 * seconds["forward"])


def test_a_run_made_in_python_from_arrays_is_checked_on_random_rows(command):
    x = np.linspace(-1, 1, 60, dtype=np.float32).reshape(20, 3)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    training.fit(net, (x, x[:, :2]), loss="mse", batch_size=10, run_dir="mine")
    ended = command("check", "mine")
    assert ended.code == 0, ended.err
    assert "(random)" in ended.out
