"""`chainrule explain`: one weight of a run, by its name, at a checkpoint, along one sample."""

import shlex

import numpy as np
import pytest

import chainrule as cr


@pytest.fixture
def run(command):
    assert command("train", "moons", "--layers", "8", "--epochs", "3", "--quiet").code == 0
    return "runs/moons"


def test_without_a_name_the_ten_largest_are_listed_and_the_first_explained(command, run):
    ended = command("explain", run)
    gradients = cr.Run.load(run).explain().trace.gradients
    every = ((f"{n}[{', '.join(map(str, i))}]", g[i]) for n, g in gradients.items() for i in np.ndindex(g.shape))
    name, value = max(every, key=lambda entry: abs(entry[1]))
    assert ended.code == 0 and ended.out.startswith("largest gradients")
    assert f"{name}  (" in ended.out and f"= {value:.4g}: raise it" in ended.out
    assert len(command("explain", run, "--json").json["largest"]) == 10


def test_a_weight_is_explained_as_in_python(command, run):
    found = command("explain", run, "0.weight[3, 1]", "--json").json
    same = cr.Run.load(run).explain("0.weight[3, 1]")
    assert (found["gradient"], found["run"]) == (same.gradient, run)
    assert sum(found["by_sample"]) == pytest.approx(same.gradient, rel=1e-5)
    assert found["update"]["terms"] == same.update.terms
    assert command("explain", run, "W1[3,1]", "--json").json["name"] == "0.weight[3, 1]"
    assert "x[1]" in command("explain", run, "x[1]").out


def test_the_last_line_is_a_command_that_works(command, run):
    for words in ((), ("0.weight[3, 1]",)):
        last = command("explain", run, *words).out.splitlines()[-1]
        assert last.startswith("next: chainrule ")
        assert command(*shlex.split(last.removeprefix("next: chainrule "))).code == 0
    assert "next:" not in command("explain", run, "--quiet").out


def test_a_sample_and_a_checkpoint_can_be_chosen(command, run):
    found = command("explain", run, "0.weight[3, 1]", "--sample", "2", "--json").json
    assert found["sample"] == 2
    assert sum(path["value"] for path in found["paths"]) == pytest.approx(found["by_sample"][2], rel=1e-4, abs=1e-9)
    with cr.record.RunDirectory.open(run) as directory:
        first = directory.checkpoints()[0]
    assert command("explain", run, "--step", first, "--json").json["step"] == first


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("0.wieght[3, 1]",), "nothing is called '0.wieght'; did you mean '0.weight'? There are 0.weight [8, 2]"),
        (("0.weight[8, 0]",), "index 8 is out of range: 0.weight is [8, 2], so axis 0 goes from 0 to 7"),
        (("0.weight[1]",), "0.weight has 2 axes, [8, 2], and the index has 1: write it as 0.weight[0, 0]"),
        (("0.weight[a, b]",), "an index is whole numbers with commas"),
        (("--sample", "999"), "sample"),
        (("--step", "1"), "--step 1: the run has no checkpoint of it. There are 75"),
    ],
)
def test_what_there_is_not_is_answered_with_what_there_is(command, run, words, answer):
    ended = command("explain", run, *words, "--json")
    assert ended.code == 2
    assert answer in ended.err and answer in ended.json["error"]["message"]


def test_a_run_without_checkpoints_or_of_another_kind_is_named(command, run, tmp_path):
    for path in (tmp_path / run / "checkpoints").iterdir():
        path.unlink()
    ended = command("explain", run)
    assert ended.code == 3 and "has no checkpoint yet" in ended.err
    assert command("explain", "runs/nothing").code == 2


def test_no_line_is_wider_than_the_terminal(command, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for words in ((), ("0.weight[3, 1]",), ("x[1]", "--sample", "3")):
        assert max(map(len, command("explain", run, *words).out.splitlines())) <= 80


def test_a_column_of_the_data_is_a_name_too(command, houses):
    assert command("train", houses, "--target", "price", "--missing", "mean", "--layers", "4", "--epochs", "1",
                   "--quiet").code == 0  # fmt: skip
    loaded = cr.Run.load("runs/houses")
    place = loaded.preprocess.features.index("size")
    found = command("explain", "runs/houses", "size", "--json").json
    assert found["name"] == f"x[{place}]" and found["gradient"] == loaded.explain(f"x[{place}]").gradient
