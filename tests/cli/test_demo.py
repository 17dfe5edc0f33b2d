"""`chainrule demo`: a list, one screen of numbers, and a script that gives the same numbers."""

import re
import subprocess
import sys

import numpy as np
import pytest

from chainrule.cli.demos import DEMOS, FAULTS
from chainrule.cli.demos.mystery import mystery_of
from peers import peer


def test_all_demonstrations_are_listed(command):
    assert [d["name"] for d in command("demo", "--json").json["demos"]] == [*DEMOS, "mystery"]
    assert "step" in command("demo").out


def test_the_step_fits_one_screen(command):
    ended = command("demo", "step")
    assert ended.code == 0
    assert len(ended.out.splitlines()) <= 40
    assert max(map(len, ended.out.splitlines())) <= 100


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_its_cure_proven(command, name):
    ended = command("demo", name, "--json")
    found = ended.json
    assert ended.code == 0 and found["found"] == FAULTS[name].code
    flags = [f["code"] for f in found["report"]["findings"] if f["severity"] != "note"]
    assert flags == [found["expected"]]
    assert found["cure"]["trials"]["cure"] is not None, found["cure"]
    assert "flow" in found or "explanation" in found
    before, after = found["before"], found["cure"]["after"]
    assert after["loss"] < 0.2 * before["loss"] and after["accuracy"] > max(0.85, before["accuracy"] + 0.15)


@pytest.mark.parametrize("name", ["scale", "small-activation"])
def test_a_fault_fits_two_screens(command, name):
    lines = command("demo", name).out.splitlines()
    assert len(lines) <= 80 and max(map(len, lines)) <= 100
    assert any("CR10" in line for line in lines) and any(line.startswith("proven cure") for line in lines)


def printed(script):
    """(loss, share that is right) before and after, and all that the script printed."""
    done = subprocess.run([sys.executable, "-W", "error", "-"], input=script, capture_output=True, text=True,
                          timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    pattern = r"^{}: loss ([\d.e+-]+), ([\d.]+)% right$"
    numbers = [re.search(pattern.format(when), done.stdout, re.M) for when in ("before", "after")]
    assert all(numbers), done.stdout
    return *(tuple(map(float, found.groups())) for found in numbers), done.stdout


@pytest.mark.parametrize("name", FAULTS)
def test_the_script_stalls_with_the_fault_and_learns_with_the_cure(name):
    before, after, out = printed(DEMOS[name].scripts["chainrule"])
    assert after[0] < 0.2 * before[0] and after[1] > 85 > before[1]
    assert f": {FAULTS[name].code} " in out


@pytest.mark.parametrize("name", [n if n == "dead-relu" else pytest.param(n, marks=pytest.mark.long) for n in FAULTS])
def test_the_script_in_pytorch_stalls_and_learns_as_well(name):
    peer("torch")
    before, after, out = printed(DEMOS[name].scripts["pytorch"])
    assert after[0] < 0.2 * before[0] and after[1] > 85 > before[1]
    assert FAULTS[name].code in out or (name == "learning-rate" and "CR306" in out)


def test_both_scripts_are_printed(command):
    out = command("demo", "vanishing", "--code").out
    assert DEMOS["vanishing"].scripts["chainrule"].rstrip() in out
    assert DEMOS["vanishing"].scripts["pytorch"].rstrip() in out
    compile(out, "vanishing.py", "exec")
    found = command("demo", "vanishing", "--code", "--json").json
    assert found["code"] != found["pytorch"]


# -------------------------------------------------------------------------------------------------- the mystery

SEEDS_OF_EACH = {mystery_of(seed, list(FAULTS.values())).fault.name: seed for seed in range(60)}


def test_a_mystery_is_any_fault_that_a_run_directory_holds():
    assert set(SEEDS_OF_EACH) == {name for name, fault in FAULTS.items() if fault.sizes}
    assert len({mystery_of(seed, list(FAULTS.values())).program for seed in range(60)}) > 15


@pytest.mark.parametrize("seed", SEEDS_OF_EACH.values(), ids=SEEDS_OF_EACH)
def test_the_doctor_solves_a_mystery_from_its_directory(command, seed):
    planted = command("demo", "mystery", "--seed", seed)
    fault = mystery_of(seed, list(FAULTS.values())).fault
    assert planted.code == 0 and fault.name not in planted.out and fault.code not in planted.out
    revealed = command("demo", "mystery", "--seed", seed, "--reveal", "--json")
    assert revealed.code == 0 and revealed.json["found"] == revealed.json["planted"] == fault.code
    cure = revealed.json["cure"]
    assert cure["trials"]["cure"]["verdict"] == "proven" and cure["after"]["accuracy"] > 0.85


def test_a_mystery_that_was_planted_before_is_shown_again(command):
    seed = SEEDS_OF_EACH["scale"]
    assert command("demo", "mystery", "--seed", seed).out == command("demo", "mystery", "--seed", seed).out


def test_options_of_the_mystery_are_refused_elsewhere(command):
    assert command("demo", "step", "--seed", 1).code == 2
    assert command("demo", "mystery", "--code").code == 2
    assert command("demo", "mystery", "--seed", -1).code == 2


def test_the_script_of_the_step_runs_as_printed(command):
    code = command("demo", "step", "--code").out
    done = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_script_of_the_step_prints_the_numbers_of_the_demonstration(command):
    found = command("demo", "step", "--json").json
    code = command("demo", "step", "--code").out
    out = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, timeout=120).stdout
    loss = {k: f"{v:.6f}" for k, v in found["loss"].items()}
    assert f"loss {loss['before']}, predicted {loss['predicted']}, observed {loss['observed']}" in out
    for name in ("z1", "a1", "a2", "d[z2]", "d[z1]", "d[x]", "W1'"):
        printed = re.search(rf"^{re.escape(name)} +(\[[^=a-zA-Z]*\])", out, re.M)
        numbers = [float(n) for n in re.findall(r"-?\d+\.?\d*", printed[1])]
        np.testing.assert_allclose(numbers, np.ravel(found["values"][name]), atol=6e-7)


def test_the_step_is_what_pencil_and_paper_give(command):
    found = command("demo", "step", "--json").json
    v = found["values"]

    def sigmoid(z):
        return 1 / (1 + np.exp(-np.asarray(z)))

    w1, b1, w2, b2, x = np.array([[0.1, 0.4], [-0.3, 0.2]]), np.array([0, 0.1]), np.array([0.5, -0.6]), 0.05, [1, 0.5]

    def loss(w1, b1, w2, b2, x):
        return (sigmoid(w2 @ sigmoid(w1 @ x + b1) + b2) - 1) ** 2

    base, small = loss(w1, b1, w2, b2, np.array(x)), 1e-6
    assert found["loss"]["before"] == pytest.approx(base)
    for i in range(2):
        for j in range(2):
            moved = w1.copy()
            moved[i, j] += small
            assert v["d[W1]"][i][j] == pytest.approx((loss(moved, b1, w2, b2, x) - base) / small, rel=1e-4)
        away = np.array(x, float)
        away[i] += small
        assert v["d[x]"][0][i] == pytest.approx((loss(w1, b1, w2, b2, away) - base) / small, rel=1e-4)
    after = loss(*(np.array(v[f"{n}'"]) for n in ("W1", "b1")), np.array(v["W2'"][0]), v["b2'"][0], np.array(x))
    assert found["loss"]["observed"] == pytest.approx(after) and after < base
    assert abs(found["loss"]["predicted"] - after) < 0.1 * (base - after)


def test_an_unknown_demonstration_is_answered_with_those_there_are(command):
    ended = command("demo", "stap")
    assert ended.code == 2 and "did you mean 'step'" in ended.err
