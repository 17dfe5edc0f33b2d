"""Runs examined and networks diagnosed: planted faults are named, healthy runs are left alone, damage is said."""

import copy
import importlib.util
import math
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.doctor import examine, judge, record_of
from chainrule.doctor.report import Report
from chainrule.doctor.trial.observe import Observer
from chainrule.doctor.trial.practice import best_rate, redraws
from chainrule.errors import ArgumentError, ChainruleWarning, CheckpointError
from chainrule.ops import LOSSES
from chainrule.record import Quantity, Record, measurements_of, read_record, write_record
from chainrule.record.facts import SweepPoint, TrialFacts

spec = importlib.util.spec_from_file_location("faulty", Path(__file__).with_name("faulty.py"))
assert spec is not None and spec.loader is not None
faulty = importlib.util.module_from_spec(spec)
sys.modules["faulty"] = faulty
spec.loader.exec_module(faulty)


def report_on(program) -> Report:
    run = cr.fit(program.net(), program.rows, loss=program.loss, optimizer=program.optimizer, epochs=program.epochs,
                 batch_size=program.batch_size, progress=False, **program.options)  # fmt: skip
    return run.examine()


QUICK = ("eight sigmoid layers, circles", "eight sigmoid layers, torch init",
         "zero init", "softmax twice", "divided twice", "lr too high", "dead relu",
         "sigmoid for numbers", "softmax of one", "targets in the thousands", "decay too strong",
         "xor with mae", "bn of two", "stacked exponentials", "sign turned", "relu for yes and no",
         "classes one by one", "log of linear outputs", "shares of one column",
         "deep sigmoids on wide inputs")  # fmt: skip


@pytest.mark.parametrize("program", [p for p in faulty.sick() if p.name in QUICK], ids=lambda p: p.name)
def test_a_planted_fault_is_the_first_finding(program):
    report = report_on(program)
    assert report.flags and report.flags[0].name in program.expected, str(report)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("program", range(len(faulty.sick())))
def test_a_planted_fault_is_found_in_other_sizes_and_seeds(program, seed):
    planted = faulty.sick(seed, width=(0, 48, 100, 32)[seed])[program]
    report = report_on(planted)
    assert report.flags and report.flags[0].name in planted.expected, f"{planted.name}: {report}"


HEALTHY = ("digits relu", "digits bn", "circles", "regression", "binary sigmoid", "noise targets", "noise labels")


@pytest.mark.parametrize("program", [p for p in faulty.healthy(1) if p.name in HEALTHY], ids=lambda p: p.name)
def test_a_healthy_run_is_not_flagged(program):
    report = report_on(program)
    assert report.ok, str(report)
    if program.name.startswith("noise"):
        assert report.standing.finished, str(report)


@pytest.mark.long
@pytest.mark.parametrize("program", faulty.healthy(4), ids=lambda p: f"{p.name} {p.options['seed']}")
def test_no_healthy_run_of_any_architecture_is_flagged(program):
    report = report_on(program)
    assert report.ok, f"{program.name}: {report}"


@pytest.mark.parametrize("steps", [1, 2, 7, 19])
@pytest.mark.parametrize("program", [p for p in faulty.healthy(1) if p.name in HEALTHY[:5]], ids=lambda p: p.name)
def test_a_healthy_run_that_was_just_begun_raises_nothing(program, steps):
    rows = tuple(part[: steps * program.batch_size] for part in program.rows)
    report = report_on(replace(program, rows=rows, epochs=1))
    assert report.standing.name == "too short" and report.ok, str(report)


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_labels_that_a_training_has_not_understood_yet_are_not_called_uninformative(seed):
    """A ring in a deep narrow network, which neither a line nor a short trial sees."""
    x, y = faulty.near_circles(seed)
    names = []
    for labels in (y, np.random.default_rng(seed).permutation(y)):
        net = faulty.mlp(2, *[8] * 14, 1, f=nn.Tanh, init=nn.Kaiming(), last=(nn.Sigmoid,))
        report = report_on(faulty.Program("ring", net, (x, labels), "binary_cross_entropy", optim.Adam(1e-3), 20,
                                          options={"seed": seed}))  # fmt: skip
        names.append({f.name for cause in report.findings for f in (cause, *cause.symptoms)})
    assert "uninformative-labels" not in names[0] and "uninformative-labels" in names[1]


# ------------------------------------------------------------------------------------------------ the look


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def batch() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(16, 4)).astype(np.float32), random.integers(0, 3, 16)


def test_a_look_has_the_gradients_of_the_step_and_their_factors():
    net, (x, y) = network(), batch()
    look = Observer(net, LOSSES["cross_entropy"], x, y).look(x, y)
    loss, expected = cr.gradients(net, "cross_entropy", x, y)
    assert look.trace.loss == pytest.approx(loss)
    for name, gradient in expected.items():
        np.testing.assert_allclose(look.gradients[name], gradient, atol=1e-7)
    for layer in look.trace.layers:
        product = layer.delta.T @ layer.a / len(x)
        np.testing.assert_allclose(product, expected[f"{layer.name}.weight"], atol=1e-6)
    assert [layer.activation for layer in look.trace.layers] == ["tanh", "relu", None]


def test_a_look_leaves_weights_buffers_and_mode_alone():
    net, (x, y) = network(), batch()
    before = copy.deepcopy(net.state_dict())
    Observer(net, LOSSES["cross_entropy"], x, y).look(x, y)
    assert all(np.array_equal(before[n], a) for n, a in net.state_dict().items())


def test_a_look_at_images_counts_positions():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 6 * 6, 4))
    random = np.random.default_rng(0)
    x, y = random.normal(size=(8, 1, 8, 8)).astype(np.float32), random.integers(0, 4, 8)
    look = Observer(net, LOSSES["cross_entropy"], x, y).look(x, y)
    found = {m.quantity: m.value for m in measurements_of(look.trace) if m.layer == "0"}
    assert found[Quantity.ERROR] > 0 and 0 <= found[Quantity.DEAD] <= 1
    assert found[Quantity.WEIGHT] == pytest.approx(np.sqrt(np.mean(net.state_dict()["0.weight"] ** 2)), rel=1e-5)


def test_a_batch_is_learned_by_heart_at_the_largest_rate_that_ends_as_low_as_any():
    ends = {1e-5: 1.0986, 1e-4: 1.0985, 1e-3: 1.0990, 1e-2: 1.1030, 1e-1: 4.0}  # of noise: only the last differs
    sweep = tuple(SweepPoint(lr=lr, loss=loss) for lr, loss in ends.items())
    assert best_rate(TrialFacts(expected_loss=1.0986, sweep=sweep)) == 1e-2


# ------------------------------------------------------------------------------------------------ records


def trained(path=None, **options) -> cr.Run:
    x, y = batch()
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    return cr.fit(net, (x, y), loss="cross_entropy", optimizer=optim.Adam(1e-2), epochs=options.pop("epochs", 40),
                  batch_size=8, run_dir=path, progress=False, **options)  # fmt: skip


def test_a_loaded_run_is_judged_by_its_curve_and_by_rows_that_are_given(tmp_path):
    trained(tmp_path / "kept")
    kept = cr.Run.load(tmp_path / "kept").examine()
    assert kept.record.measurements and kept.record.facts.trials is None
    trained(tmp_path / "run", keep_rows=0, probes=None)
    run = cr.Run.load(tmp_path / "run")
    bare = run.examine()
    assert bare.record.steps == 80 and not bare.record.measurements
    assert run.examine(batch()).record.measurements
    with pytest.raises(ArgumentError, match=r"data is \(x, y\)"):
        run.examine(batch()[0])
    with pytest.raises(ArgumentError, match="as many rows"):
        run.examine((batch()[0], batch()[1][:3]))


def test_what_a_look_found_can_be_kept_and_is_then_read_without_the_rows(tmp_path):
    run = trained(tmp_path / "run")
    record = record_of(run, budget=0)
    with Record.open(tmp_path / "run" / "record.sqlite", write=True) as store:
        write_record(record, store)
    loaded = cr.Run.load(tmp_path / "run")
    report = loaded.examine()
    assert report.seconds < 0.2
    assert [f.code for f in report.findings] == [f.code for f in judge(record).findings]
    assert read_record(tmp_path / "run" / "record.sqlite").facts == record.facts


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(b""), "empty"),
        (lambda p: p.write_bytes(b"not a database at all"), "damaged or no SQLite file"),
        (lambda p: (p.unlink(), sqlite3.connect(p).execute("CREATE TABLE t(x)"))[0], "did not write"),
        (lambda p: p.unlink(), "cannot be opened"),
    ],
)
def test_a_damaged_empty_foreign_or_missing_record_is_named(tmp_path, damage, message):
    run = trained(tmp_path / "run")
    for other in (tmp_path / "run").glob("record.sqlite-*"):
        other.unlink()
    damage(tmp_path / "run" / "record.sqlite")
    with pytest.raises(CheckpointError, match=message):
        run.examine()


def test_a_run_too_short_to_judge_is_called_so():
    assert trained(epochs=1).examine().standing.name == "too short"


def test_a_report_on_the_same_run_is_the_same_twice():
    run = trained()
    assert str(examine(run, budget=0)) == str(examine(run, budget=0))


# ------------------------------------------------------------------------------------------------ before training


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ten sigmoid layers", "vanishing-gradient"),
        ("constant init", "symmetric-initialisation"),
        ("softmax twice", "softmax-twice"),
        ("softmax of one", "softmax-of-one"),
        ("sigmoid for numbers", "targets-out-of-range"),
        ("unscaled 0..4080", "input-scale-large"),
    ],
)
def test_faults_are_found_before_training(name, expected):
    program = next(p for p in faulty.sick() if p.name == name)
    net = program.net()
    before = copy.deepcopy(net.state_dict())
    report = cr.diagnose(net, program.rows, loss=program.loss, optimizer=program.optimizer, budget=0.5)
    assert report.standing.name == "not started"
    assert report.flags and report.flags[0].name == expected, str(report)
    assert all(np.array_equal(before[n], a) for n, a in net.state_dict().items())


def test_a_narrow_deep_relu_network_is_given_its_chance_of_being_born_dead():
    x, y = faulty.generated("circles", 0)
    x, y = x[:64], y[:64]
    observer = Observer(faulty.mlp(2, *[3] * 14, 2)(), LOSSES["cross_entropy"], x, y)
    found = redraws(observer, x, y, TrialFacts(), budget=60)
    assert found.draws == 20 and found.probability["dead layer"] > 0.2
    wide = Observer(faulty.mlp(2, 32, 32, 2)(), LOSSES["cross_entropy"], x, y)
    assert sum(redraws(wide, x, y, TrialFacts(), budget=60).probability.values()) == 0


def test_a_healthy_network_passes_before_training():
    program = faulty.healthy(1)[0]
    report = cr.diagnose(program.net(), program.rows, loss=program.loss, optimizer=program.optimizer)
    assert report.ok, str(report)
    trials = report.record.facts.trials
    assert trials is not None and trials.sweep and math.isclose(trials.expected_loss or 0, math.log(10), rel_tol=1e-2)


def test_cross_entropy_over_one_column_is_proved():
    x, _ = batch()
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 1))
    with pytest.warns(ChainruleWarning, match="one class only"):
        report = cr.diagnose(net, (x, np.zeros(16, np.int64)), loss="cross_entropy", budget=0)
    assert "CR403" in [f.code for f in report.flags]


def test_what_has_no_parameters_and_what_is_no_network_are_refused_by_name():
    x, y = batch()
    with pytest.raises(ArgumentError, match=r"Sequential has no parameters.*nothing to learn"):
        cr.diagnose(nn.Sequential(nn.ReLU()), (x, y), loss="cross_entropy")
    with pytest.raises(ArgumentError, match=r"takes a chainrule\.nn\.Module first"):
        cr.diagnose("net", (x, y), loss="cross_entropy")


def test_first_weights_that_overflow_are_named_before_training():
    x, y = batch()
    net = nn.Sequential(nn.Linear(4, 5, init=nn.Constant(1e38)), nn.ReLU(), nn.Linear(5, 3, init=nn.Constant(1e38)))
    report = cr.diagnose(net, (x, y), loss="cross_entropy")
    assert report.standing.name == "diverging"
    assert any(f.name == "not-finite" for c in report.findings for f in (c, *c.symptoms)), str(report)
