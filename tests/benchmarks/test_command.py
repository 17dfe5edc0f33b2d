"""The benchmarks run, and say what they measured; figures are none of a test's business."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def benchmarks(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OPENBLAS_CORETYPE": "Haswell"}
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def figures(tmp_path, *arguments):
    ended = benchmarks(*arguments, "--json", tmp_path / "figures.json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads((tmp_path / "figures.json").read_text(encoding="utf-8")), ended.stdout


def test_steps_are_timed_in_rounds_beside_each_other(tmp_path):
    quick = ["--peers", "none", "--backends", "reference", "--seconds", 0.02, "--rounds", 2]
    found, text = figures(tmp_path, "steps", "mlp-tiny", "mlp-small", *quick)
    assert [(r["workload"], r["contender"]) for r in found["results"]] == [
        ("mlp-tiny", "chainrule-reference"),
        ("mlp-small", "chainrule-reference"),
    ]
    for row in found["results"]:
        assert len(row["rounds"]) == 2
        assert 0 < row["min"] <= row["median"] < 10
        assert 0 < row["share_of_peak"] < 1
    assert "mlp-small 64-128-64-10, 64 rows" in text


def test_an_epoch_visits_rows_and_validates(tmp_path):
    quick = ["--peers", "none", "--backends", "reference", "--seconds", 0.01, "--rounds", 1, "--rows", 200]
    found, _ = figures(tmp_path, "epoch", "mlp-small", *quick)
    assert found["results"][0]["median"] > 0


def test_memory_of_a_training_process_is_reported(tmp_path):
    found, _ = figures(tmp_path, "memory", "mlp-tiny", "--peers", "none", "--backends", "reference")
    size = found["results"][0]["bytes"]
    assert size is None or 2**23 < size < 2**32


def test_what_probes_cost_is_told_for_every_way_of_measuring(tmp_path):
    found, text = figures(tmp_path, "probes", "mlp-tiny", "--seconds", 0.02, "--rounds", 1)
    rows = {row["probes"]: row for row in found["results"]}
    assert list(rows) == ["none, again", "sampled", "sampled, short run", "every"]
    assert rows["none, again"]["share"] == 0
    assert 0 < rows["sampled"]["share"] < 0.1
    assert rows["every"]["share"] == 1
    for row in rows.values():
        assert row["blocks"] > 0
        assert row["low"] <= row["overhead"] <= row["high"]
        assert row["overhead"] == pytest.approx(row["inside"] + row["between"])
    assert "95 % interval" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("steps", "mlp-huge"), "no workload 'mlp-huge': there are mlp-tiny"),
        (("steps", "--peers", "theano"), "no contender 'theano': there are torch"),
        (("steps", "--backends", "quantum"), "no contender 'chainrule-quantum'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(arguments, message):
    ended = benchmarks(*arguments)
    assert ended.returncode != 0
    assert message in ended.stderr
