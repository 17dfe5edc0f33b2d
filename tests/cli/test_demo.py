"""`chainrule demo`: a list, one screen of numbers, and a script that gives the same numbers."""

import re
import subprocess
import sys

import numpy as np
import pytest

from chainrule.cli.demos import DEMOS


def test_all_demonstrations_are_listed(command):
    assert [d["name"] for d in command("demo", "--json").json["demos"]] == list(DEMOS)
    assert "step" in command("demo").out


@pytest.mark.parametrize("name", DEMOS)
def test_a_demonstration_fits_one_screen(command, name):
    ended = command("demo", name)
    assert ended.code == 0
    assert len(ended.out.splitlines()) <= 40
    assert max(map(len, ended.out.splitlines())) <= 100


@pytest.mark.parametrize("name", DEMOS)
def test_the_script_of_a_demonstration_runs_as_printed(command, name):
    code = command("demo", name, "--code").out
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
