"""`chainrule show`: a run's step as a derivation in every form, as a graph, a program and machine code."""

import json
import subprocess
import sys

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim

QUICK = ("--layers", "8", "--epochs", "2", "--quiet")


@pytest.fixture
def run(command):
    assert command("train", "moons", *QUICK, "--dropout", "0.1").code == 0
    return "runs/moons"


def test_a_run_shows_its_next_update_with_numbers_and_names(command, run):
    ended = command("show", run)
    assert ended.code == 0
    assert "d[W1] = d[z1].T @ x" in ended.out and "W1 is 0.weight" in ended.out
    assert "main.py" not in ended.out
    assert ended.out.splitlines()[-1].startswith("next: chainrule show")
    data = command("show", run, "--json").json
    assert data["stage"] == "derivation" and data["loss"] > 0
    assert [line["number"] for line in data["lines"]] == list(range(1, len(data["lines"]) + 1))


@pytest.mark.parametrize(
    ("form", "beginning"),
    [
        ("latex", r"\begin{align*}"),
        ("markdown", "**forward**"),
        ("html", "<!doctype html>"),
        ("numpy", '"""One training'),
    ],
)
def test_a_derivation_comes_in_every_form_and_pipes_clean(command, run, form, beginning):
    ended = command("show", run, "--format", form)
    assert ended.code == 0 and ended.out.startswith(beginning)
    assert "next:" not in ended.out and "next:" in ended.err


def test_the_program_of_a_run_gives_the_loss_that_is_shown(command, run):
    assert command("show", run, "--format", "numpy", "--out", "step.py").code == 0
    done = subprocess.run([sys.executable, "step.py"], capture_output=True, text=True, timeout=60)
    loss = command("show", run, "--json").json["loss"]
    assert float(done.stdout.split()[1]) == pytest.approx(loss, rel=1e-6)
    again = command("show", run, "--format", "numpy", "--out", "step.py")
    assert again.code == 2 and "--force" in again.err


def test_a_run_is_shown_at_every_stage(command, run):
    assert "= linear x, 0.weight, 0.bias" in command("show", run, "--stage", "graph").out
    assert "input 0.weight" in command("show", run, "--stage", "program").out
    assert "define " in command("show", run, "--stage", "source").out


def test_the_chain_of_one_weight_is_shown_and_a_wrong_name_answered(command, run):
    assert r"\partial W_{1}[1, 0]" in command("show", run, "--format", "latex", "--weight", "0.weight[1, 0]").out
    wrong = command("show", run, "--format", "latex", "--weight", "0.wieght", "--json")
    assert wrong.code == 2 and "did you mean" in wrong.json["error"]["message"]
    assert "--format latex" in command("show", run, "--weight", "W1").err
    assert "--stage derivation" in command("show", run, "--stage", "graph", "--format", "html").err


def test_a_run_from_python_is_shown_with_its_rows_and_with_shapes_where_it_kept_none(command):
    x, y = np.random.default_rng(0).normal(size=(8, 3)), np.arange(8) % 2
    for kept, name in enumerate(("runs/none", "runs/own")):
        net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        run = cr.fit(net, (x, y), loss="cross_entropy", optimizer=optim.SGD(0.1), epochs=1, batch_size=4,
                     run_dir=name, keep_rows=kept, progress=False)  # fmt: skip
    assert command("show", "runs/own", "--json").json["loss"] == pytest.approx(run.explain().trace.loss)
    assert command("show", "runs/none", "--json").json["loss"] is None
    assert " - 0.1 * d[W" in command("show", "runs/none").out
    refused = command("show", "runs/none", "--format", "numpy")
    assert refused.code == 2 and "made from shapes" in refused.err
    refused = command("show", "runs/none", "--stage", "flow")
    assert refused.code == 2 and "kept no rows" in refused.err


def test_the_flow_of_a_run_is_that_of_python_and_fits_into_80_columns(command, run, monkeypatch):
    loaded = cr.Run.load(run).flow()
    assert command("show", run, "--stage", "flow", "--json").json["table"] == json.loads(json.dumps(loaded.table()))
    monkeypatch.setenv("COLUMNS", "80")
    ended = command("show", run, "--stage", "flow")
    assert ended.code == 0 and "the error, back" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    assert command("show", run, "--stage", "flow", "--out", "flow.txt").code == 0
