"""Treatments: planted faults get the right cure proven, healthy runs get none, and what was not tried is named."""

import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops, optim
from chainrule.doctor import Remedy, judge
from chainrule.doctor.rules import all_rules
from chainrule.doctor.treat import crew as crews
from chainrule.doctor.treat.change import NotApplicable
from chainrule.doctor.treat.compare import Comparison, paired_p, permutation_p
from chainrule.doctor.treat.crew import Crew
from chainrule.doctor.treat.job import Job, perform
from chainrule.doctor.treat.luggage import pack, unpack
from chainrule.doctor.treat.plan import copy_of, forget
from chainrule.doctor.treat.prescribe import BY_HAND, TRANSFORMATIONS, prescribe
from chainrule.doctor.treat.replay import Replays
from chainrule.doctor.treat.subject import plan_with, with_baseline
from chainrule.doctor.treat.treat import treat
from chainrule.errors import ArgumentError, NonFiniteError
from chainrule.training import Run

if "faulty" not in sys.modules:
    spec = importlib.util.spec_from_file_location("faulty", Path(__file__).with_name("faulty.py"))
    assert spec is not None and spec.loader is not None
    sys.modules["faulty"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["faulty"])
faulty = sys.modules["faulty"]


def quiet(trial):
    """What is called with each trial, and says nothing."""


def run_of(program):
    return cr.fit(program.net(), program.rows, loss=program.loss, optimizer=program.optimizer, epochs=program.epochs,
                  batch_size=program.batch_size, progress=False, **program.options)  # fmt: skip


def small(net=None, **more):
    """A tiny run that learns two moons."""
    x, y = faulty.generated("moons", 0)
    net = faulty.mlp(2, 8, 2)() if net is None else net
    return cr.fit(net, (x, y), **{"loss": "cross_entropy", "optimizer": optim.Adam(1e-2), "epochs": 4,
                                  "progress": False} | more)  # fmt: skip


def planned(run):
    return plan_with(run, run.examine(budget=0).record, None)


CURES = {
    "eight sigmoid layers, circles": ("change-activation", "insert-normalisation"),
    "zero init": ("change-initialiser",),
    "softmax twice": ("change-output",),
    "divided twice": ("standardise-inputs",),
    "lr too high": ("scale-learning-rate",),
    "dead relu": ("change-initialiser",),
    "sigmoid for numbers": ("change-output",),
    "softmax of one": ("change-output",),
    "targets in the thousands": ("standardise-targets",),
    "sorted rows": ("shuffle",),
}


@pytest.mark.parametrize("name", CURES)
def test_the_cure_of_a_planted_fault_is_proven(name):
    program = next(p for p in faulty.sick() if p.name == name)
    came = []
    trials = run_of(program).examine().treat(budget=40, on_trial=came.append, workers=0)
    assert trials.cure is not None and trials.cure.remedies[0].id in CURES[name], str(trials)
    cure = trials.cure
    assert cure.proven and cure.seeds >= 3 and cure.p <= 0.05 and cure.effect >= 0.05
    assert min(cure.after) > max(cure.before)
    assert cure.chainrule and cure.pytorch and len(str(trials).splitlines()) <= 12
    assert came == list(trials)


@pytest.mark.long
@pytest.mark.parametrize("program", [p for p in faulty.sick(1) if p.name not in CURES], ids=lambda p: p.name)
def test_every_other_planted_fault_has_a_proven_cure_or_needs_a_person(program):
    trials = run_of(program).examine().treat(budget=60, on_trial=quiet)
    assert trials.cure is not None or trials.by_hand, str(trials)


def test_nothing_is_proven_for_a_healthy_run():
    program = next(p for p in faulty.healthy(1) if p.name == "moons")
    report = run_of(program).examine()
    trials = report.treat(on_trial=quiet)
    assert report.ok and not trials.proven and trials.best is None and "nothing to treat" in str(trials)
    # Even if somebody accuses it of what it does not have.
    flagged = judge(all_rules()[0].sick[0]).flags[0]
    remedies = (
        Remedy("scale-learning-rate", "", {"factor": 0.3}),
        Remedy("change-activation", "", {"activation": "Tanh"}),
        Remedy("standardise-inputs", ""),
        Remedy("insert-normalisation", "", {"at": "hidden"}),
    )
    accused = replace(report, findings=(replace(flagged, remedy=remedies),), tried=[])
    trials = accused.treat(budget=40, on_trial=quiet, workers=0)
    assert len(trials) == 4 and not trials.proven and trials.cure is None, str(trials)


def test_the_same_seeds_give_the_same_verdict_in_this_process_and_in_others():
    program = next(p for p in faulty.sick() if p.name == "divided twice")
    report = run_of(program).examine()
    found = [report.treat(budget=60, on_trial=quiet, workers=n) for n in (0, 0, 2)]
    plain = [sorted((str(t.remedies), t.verdict, t.before, t.after, t.p) for t in trials) for trials in found]
    assert plain[0] == plain[1] == plain[2]


def test_a_budget_that_is_too_small_names_what_was_not_tried():
    program = next(p for p in faulty.sick() if p.name == "dead relu")
    report = run_of(program).examine()
    trials = report.treat(budget=0.001, on_trial=quiet)
    assert not trials.trials and trials.cure is None
    named = " ".join(trials.untried)
    assert all(r.id in named for f in report.flags for r in f.remedy if r.id in TRANSFORMATIONS)
    assert "not tried" in str(trials) and trials.seconds < 10


def test_stacked_faults_are_peeled_and_the_cure_has_no_part_too_many():
    """Softmax twice, and behind it a learning rate that is too low: either alone leaves the other."""
    x, y = faulty.digits()
    net = faulty.mlp(64, 32, 10, last=(nn.Softmax,))()
    run = cr.fit(net, (x, y), loss=faulty.soft_cross_entropy, optimizer=optim.Adam(3e-5), epochs=8, progress=False)
    report = run.examine()
    trials = report.treat(budget=60, on_trial=quiet)
    assert trials.cure is not None, str(trials)
    ids = {r.id for r in trials.cure.remedies}
    assert len(ids) >= 2 and "change-output" in ids, str(trials)
    assert sum(trials.cure.after) / trials.cure.seeds > 0.8, str(trials)


def test_a_part_that_a_cure_does_not_need_is_dropped():
    from chainrule.doctor.treat.subject import Subject
    from chainrule.doctor.treat.treat import _Course

    plan = with_baseline(planned(small(optimizer=optim.Adam(1e-6))))
    flagged = judge(all_rules()[0].sick[0]).flags[0]
    needless, needed = Remedy("clip", "", {"clip_norm": 100.0}), Remedy("scale-learning-rate", "", {"lr": 1e-2})
    with Crew(plan, 0) as crew:
        course = _Course(plan, crew, time.perf_counter() + 60, quiet, Subject(plan, None).examine)
        course.mended = (needless, needed)
        last = course._together(flagged, course.mended)
        assert last is not None and last.proven
        assert course._whole_cure(last).remedies == (needed,)


def test_a_treatment_of_ones_own_is_proven_or_refused():
    report = small(optimizer=optim.Adam(1e-6)).examine()
    rate, longer = Remedy("scale-learning-rate", "", {"lr": 1e-2}), Remedy("train-longer", "", {"factor": 2})
    trials = report.treat(budget=30, on_trial=quiet, workers=0, remedies=(rate, longer))
    assert trials.cure is not None and trials.cure.remedies == (rate, longer) and len(trials) == 1
    assert str(trials.cure).startswith("proven: scale-learning-rate(lr=0.01) and train-longer(factor=2): ")
    with pytest.raises(NotApplicable, match="no BatchNorm1d"):
        report.treat(budget=30, on_trial=quiet, workers=0, remedies=(Remedy("replace-normalisation", ""),))
    healthy = small(epochs=30).examine()
    trials = healthy.treat(
        budget=30, on_trial=quiet, workers=0, remedies=(Remedy("scale-learning-rate", "", {"lr": 1e-6}),)
    )
    assert trials.cure is None and trials.trials[0].verdict == "worse"


def test_a_loss_that_climbs_is_cured_by_its_sign_with_any_optimizer():
    x, y = faulty.generated("moons", 0)

    def climbing(prediction, target):
        return -ops.cross_entropy(prediction, target)

    run = cr.fit(faulty.mlp(2, 8, 2)(), (x, y), loss=climbing, optimizer=optim.Adam(1e-2), epochs=4, progress=False)
    trials = run.examine().treat(budget=30, on_trial=quiet, workers=0, remedies=(Remedy("restore-sign", ""),))
    assert trials.cure is not None and min(trials.cure.after) > 0.3 > max(trials.cure.before), str(trials)


def test_what_helps_and_needs_more_updates_gets_them():
    """Zero first weights and ten updates: mended weights have no time to show what they can do."""
    x, y = faulty.generated("moons", 0)
    hidden = [layer for _ in range(4) for layer in (nn.Linear(2, 2, init=nn.Zeros()), nn.Tanh())]
    net = nn.Sequential(*hidden, nn.Linear(2, 2))
    run = cr.fit(net, (x, y), loss="cross_entropy", optimizer=optim.Adam(1e-3), epochs=1, progress=False)
    flagged = judge(all_rules()[0].sick[0]).flags[0]
    remedy = Remedy("change-initialiser", "", {"init": "auto"})
    accused = replace(run.examine(), findings=(replace(flagged, remedy=(remedy,)),), tried=[])
    nothing = replace(accused, findings=())
    plan = with_baseline(planned(run))
    trials = treat(accused, plan, lambda plan, seconds: nothing, budget=60, on_trial=quiet, workers=0)
    assert trials.cure is not None, str(trials)
    assert [r.id for r in trials.cure.remedies] == ["change-initialiser", "train-longer"], str(trials)
    alone = [t for t in trials if len(t.remedies) == 1]
    assert {t.remedies[0].id for t in alone} == {"change-initialiser", "train-longer"}
    assert not any(t.proven for t in alone)


# ------------------------------------------------------------------------------------------------ replays


def gone_wrong(folder, **more):
    """Two moons with a rate that is blown up for the last epoch; its last checkpoint but one is from before."""
    net = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))
    options = {"epochs": 6, "optimizer": optim.Adam(1e-2), "run_dir": folder / "run", "checkpoint_every": 16,
               "learning_rate_schedule": optim.MultiStepLR([5], gamma=3000.0)} | more  # fmt: skip
    return small(net, **options)


@pytest.mark.parametrize("optimizer", [optim.Adam(1e-2), optim.SGD(0.1, momentum=0.9)])
def test_a_replay_from_a_checkpoint_makes_the_same_updates_as_fit(tmp_path, optimizer):
    from chainrule.doctor.treat.subject import with_start

    run = gone_wrong(tmp_path, optimizer=optimizer)
    report = run.examine()
    plan = with_start(with_baseline(planned(run)), run, report)
    assert plan.start is not None and 0 < plan.start.step < run.step and plan.start.batch > 0
    folder = tmp_path / "packed"
    folder.mkdir()
    pack(plan, folder)
    for base in (plan, unpack(folder)):
        outcome, bench, losses = perform(base, Job(late=True), Replays())
        assert losses == run.losses[plan.start.step :] and outcome.steps == run.step - plan.start.step
        for name, array in run.net.state_dict().items():
            np.testing.assert_array_equal(bench.net.state_dict()[name], array)
    outcome, bench, losses = perform(plan, Job(), Replays())  # and from the first weights as ever
    assert losses == run.losses


def test_a_run_that_goes_wrong_is_treated_from_the_checkpoint_before(tmp_path):
    run = gone_wrong(tmp_path)
    trials = run.examine().treat(budget=60, on_trial=quiet, workers=0)
    assert trials.cure is not None and trials.cure.remedies[0].id == "schedule", str(trials)
    assert 0 < trials.cure.begins < run.step and trials.cure.steps == run.step - trials.cure.begins
    assert f"from the checkpoint at update {trials.cure.begins}" in str(trials)
    assert trials.cure.to_dict()["begins"] == trials.cure.begins


def test_a_run_that_was_wrong_from_the_start_is_treated_from_the_start(tmp_path):
    from chainrule.doctor.treat.subject import with_start

    run = small(optimizer=optim.Adam(1e-6), run_dir=tmp_path / "run", checkpoint_every=8)
    report = run.examine()
    assert with_start(with_baseline(planned(run)), run, report).start is None


def test_a_run_that_broke_off_is_replayed_to_its_planned_end(tmp_path):
    options = {"learning_rate_schedule": optim.MultiStepLR([5], gamma=1e30), "optimizer": optim.SGD(0.1)}
    with pytest.raises(NonFiniteError):
        gone_wrong(tmp_path, **options)
    run = Run.load(tmp_path / "run")
    x, y = faulty.generated("moons", 0)
    report = run.examine((x, y))
    plan = plan_with(run, report.record, (x, y))
    assert plan.steps == 6 * plan.updates_an_epoch > run.step
    trials = report.treat(budget=60, on_trial=quiet, data=(x, y), workers=0)
    assert trials.cure is not None and trials.cure.effect > 0.5, str(trials)


def test_a_replay_makes_the_same_updates_as_fit():
    run = small(learning_rate_schedule=optim.StepLR(2, 0.5), clip_norm=1.0, l2=0.01)
    plan = planned(run)
    _, bench, losses = Replays()(plan, "here")
    assert losses == run.losses
    for name, array in run.net.state_dict().items():
        np.testing.assert_array_equal(bench.net.state_dict()[name], array)


def test_a_compiled_step_that_serves_again_gives_the_same_bits_as_a_new_one():
    plan, replays = planned(small()), Replays()
    lower = Job((Remedy("scale-learning-rate", "", {"factor": 0.1}),))
    first = perform(plan, Job(), replays)[0]
    perform(plan, lower, replays)
    again = perform(plan, Job(), replays)[0]
    assert len(replays.benches) == 1 and replace(first, seconds=0) == replace(again, seconds=0)
    fresh = perform(plan, lower, Replays())[0]
    assert replace(perform(plan, lower, replays)[0], seconds=0) == replace(fresh, seconds=0)


def test_a_layer_that_is_inserted_leaves_the_first_weights_of_the_others():
    plan = planned(small(faulty.mlp(2, 8, 8, 2)()))
    before = copy_of(plan.net)
    for remedy in ("insert-normalisation", "residual", "widen-layer"):
        treated, _ = prescribe(plan, (Remedy(remedy, ""),))
        after = copy_of(treated.net)
        for net in (before, after):
            forget(net)
            net.initialise(7)
        linear = [[m for m in net.modules() if isinstance(m, nn.Linear)] for net in (before, after)]
        assert [m.weight.stream for m in linear[0]] == [m.weight.stream for m in linear[1]], remedy
        if remedy != "widen-layer":
            for a, b in zip(*linear, strict=True):
                np.testing.assert_array_equal(a.weight.array, b.weight.array)


def test_a_plan_travels_without_change(tmp_path):
    net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 2))
    run = small(net, validation=0.25, learning_rate_schedule=optim.CosineAnnealingLR(4), loss=nn.CrossEntropyLoss())
    plan = planned(run)
    pack(plan, tmp_path)
    one, two = (perform(p, Job(), Replays())[0] for p in (plan, unpack(tmp_path)))
    assert replace(one, seconds=0) == replace(two, seconds=0)
    assert one.held_skill is not None


def test_a_lost_worker_is_noticed_and_its_replay_made_by_another():
    plan = planned(small(epochs=200))
    with Crew(plan, 1) as crew:
        jobs = crew.run([Job(), Job((), 1)], time.perf_counter() + 60)
        first = next(jobs)
        os.kill(crew.workers[0].process.pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        rest = list(jobs)
    assert crew.lost == 1 and [j.draw for j, _ in [first, *rest]] == [0, 1]
    assert all(not o.fault for _, o in [first, *rest])


def test_workers_that_all_die_leave_the_work_to_this_process(monkeypatch):
    real = subprocess.Popen
    monkeypatch.setattr(crews.subprocess, "Popen", lambda words, **more: real([sys.executable, "-c", "pass"], **more))
    plan = planned(small())
    with Crew(plan, 2) as crew:
        found = dict(crew.run([Job(), Job((), 1), Job((), 2)], time.perf_counter() + 60))
    outcomes = [found[job] for job in sorted(found, key=lambda j: j.draw)]
    assert len(outcomes) == 3
    assert any(not o.fault for o in outcomes) and "lost" in crew.notes[-1]


def test_a_network_of_the_users_own_class_is_replayed_in_this_process():
    class Tower(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.f = nn.Linear(2, 8), nn.Linear(8, 2), nn.Sigmoid()

        def forward(self, x):
            return self.two(self.f(self.one(x)))

    report = small(Tower(), optimizer=optim.Adam(1e-6), epochs=20).examine()
    trials = report.treat(budget=30, on_trial=quiet, workers=2)
    assert trials.cure is not None and any("your own code" in note for note in trials.notes)


# ------------------------------------------------------------------------------------------------ remedies


def remedies_of_rules():
    return [(rule, remedy) for rule in all_rules() for remedy in rule.remedy]


@pytest.mark.parametrize(
    ("rule", "remedy"), remedies_of_rules(), ids=lambda v: getattr(v, "id", getattr(v, "code", ""))
)
def test_every_remedy_of_a_rule_is_applied_refused_with_a_reason_or_left_to_a_person(rule, remedy):
    assert (remedy.id in TRANSFORMATIONS) != (remedy.id in BY_HAND)
    if remedy.id in BY_HAND:
        return
    applied = 0
    for plan in plans():
        try:
            treated, changes = prescribe(plan, (remedy,))
        except NotApplicable as reason:
            assert len(str(reason).split()) > 3
            continue
        applied += 1
        assert changes[0].diff() and changes[0].diff("pytorch")
        if remedy.id != "clean-rows" and not np.isfinite(plan.x).all():
            continue
        outcome = perform(replace(plan, steps=3), Job((remedy,)), Replays())[0]
        assert not outcome.fault and outcome.steps > 0, outcome
        assert treated is not plan
    assert applied, f"{remedy} changed none of the plans"


_plans = []


def plans():
    """Plans that between them have a place for every remedy."""
    if _plans:
        return _plans
    x, y = faulty.generated("moons", 0)
    nx, ny = faulty.numbers(0)
    wide = np.concatenate([nx, nx[:, :1], np.ones_like(nx[:, :1])], axis=1)
    norm = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    frozen = faulty.mlp(2, 8, 2)()
    frozen[0].requires_grad_(False)
    common = {"epochs": 1, "progress": False}
    runs = [
        cr.fit(norm, (x, y), loss="cross_entropy", optimizer=optim.SGD(0.1, momentum=0.9), shuffle=False, clip_norm=0.1,
               l2=0.1, learning_rate_schedule=optim.StepLR(1), **common),
        cr.fit(frozen, (x, y), loss="cross_entropy", optimizer=optim.Adam(1e-2, eps=1e-3), validation=0.2, **common),
        cr.fit(faulty.mlp(6, 8, 8, 1, f=nn.Sigmoid, last=(nn.Sigmoid,))(), (wide, ny), loss="mse",
               optimizer=optim.SGD(1e-4, maximize=True), batch_size=8, **common),
        cr.fit(faulty.mlp(2, 8, 1, last=(nn.Sigmoid,))(), (x, y), loss="binary_cross_entropy",
               optimizer=optim.Adam(1e-4), **common),
        cr.fit(faulty.mlp(2, 8, 2, last=(nn.Sigmoid,))(), (x, np.eye(2, dtype=np.float32)[y]),
               loss="binary_cross_entropy", optimizer=optim.Adam(1e-4), **common),
        cr.fit(faulty.mlp(2, 8, 1, init=nn.Constant(0.1))(), (x, np.float32(y)), loss="mae", optimizer=optim.SGD(0.1),
               **common),
    ]  # fmt: skip
    _plans.extend(planned(run) for run in runs)
    rows = _plans[2].x.copy()
    rows[0, 0] = np.nan
    _plans.append(replace(_plans[2], x=rows))
    _plans.append(
        replace(_plans[5], y=_plans[5].y.reshape(-1), loss=lambda p, t: ops.mse(p.reshape(-1), t.reshape(-1)))
    )
    return _plans


def test_removing_the_output_and_changing_the_loss_is_measured_by_accuracy():
    program = next(p for p in faulty.sick() if p.name == "softmax of one")
    trials = run_of(program).examine().treat(budget=40, on_trial=quiet, workers=0)
    kinds = {t.measure for t in trials if dict(t.remedies[0].parameters).get("loss")}
    assert kinds == {"training accuracy"}


# ------------------------------------------------------------------------------------------------ comparison


def test_the_permutation_test_counts_every_division():
    assert permutation_p([0.0, 0.1, 0.2], [0.5, 0.6, 0.7]) == pytest.approx(1 / 20)
    assert permutation_p([0.0, 0.6], [0.5, 0.7]) == pytest.approx(2 / 6)
    before, after = [0.1, 0.4, 0.3, 0.2], [0.25, 0.35, 0.5, 0.15]
    every = list(itertools.combinations([*after, *before], 4))
    assert permutation_p(before, after) == pytest.approx(sum(sum(c) >= sum(after) - 1e-12 for c in every) / len(every))


def test_seeds_are_added_only_while_they_can_change_the_verdict():
    assert Comparison((0.0,), (0.9,)).open
    assert not Comparison((0.0,), (0.02,)).open
    assert not Comparison((0.0, 0.1, 0.0), (0.9, 0.8, 0.9)).open
    assert not Comparison((0.0, 0.9, 0.9, 0.9, 0.9, 0.9), (0.9, 0.9, 0.9, 0.9, 0.9, 0.9)).open


def test_two_seeds_prove_nothing():
    assert not Comparison((0.0, 0.0), (1.0, 1.0)).proven


# ------------------------------------------------------------------------------------------------ doors


def test_a_diagnosis_can_be_treated_before_any_run():
    net = faulty.mlp(2, *[8] * 8, 2, f=nn.Sigmoid)()
    before = net.state_dict()
    report = cr.diagnose(
        net, faulty.generated("circles", 0), loss="cross_entropy", optimizer=optim.Adam(1e-3), epochs=30
    )
    trials = report.treat(budget=40, on_trial=quiet, workers=0)
    assert trials.cure is not None and trials is report.trials, str(trials)
    assert all(np.array_equal(a, before[n]) for n, a in net.state_dict().items())


def test_a_loaded_run_says_which_argument_supplies_its_rows(tmp_path):
    program = next(p for p in faulty.sick() if p.name == "divided twice")
    run_of(replace(program, options={"run_dir": tmp_path / "run"}))
    report = cr.Run.load(tmp_path / "run").examine()
    accused = replace(report, findings=judge(all_rules()[0].sick[0]).findings)
    with pytest.raises(ArgumentError, match=r"report\.treat\(data=\(x, y\)\)"):
        accused.treat(on_trial=quiet)
    trials = cr.Run.load(tmp_path / "run").examine(program.rows).treat(budget=30, on_trial=quiet, workers=0)
    assert trials.cure is not None and trials.cure.remedies[0].id == "standardise-inputs", str(trials)


def test_a_report_of_a_record_alone_cannot_be_treated():
    with pytest.raises(ArgumentError, match="from a record alone"):
        judge(all_rules()[0].sick[0]).treat()


@pytest.mark.parametrize("wrong", [{"budget": 0}, {"budget": "long"}, {"workers": -1}, {"workers": 1.5}])
def test_odd_arguments_are_refused(wrong):
    report = small(optimizer=optim.Adam(1e-7)).examine()
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        report.treat(on_trial=quiet, **wrong)


def test_without_a_callback_each_trial_is_printed(capsys):
    report = small(optimizer=optim.Adam(1e-6), epochs=10).examine()
    trials = report.treat(budget=20, workers=0)
    assert capsys.readouterr().out.splitlines() == [line for t in trials for line in str(t).splitlines()]


def test_a_treated_report_shows_the_cure_in_every_form(tmp_path):
    import json

    report = small(optimizer=optim.Adam(1e-6), epochs=10).examine()
    trials = report.treat(budget=20, on_trial=quiet, workers=0)
    assert trials.cure is not None, str(trials)
    new = trials.cure.chainrule.splitlines()[-1]
    for form in ("html", "md", "txt"):
        assert new in report.save(tmp_path / f"report.{form}").read_text(encoding="utf-8"), form
    found = json.loads(report.save(tmp_path / "report.json").read_text(encoding="utf-8"))["trials"]
    assert found["cure"]["chainrule"] == trials.cure.chainrule and len(found["trials"]) == len(trials)
    assert "torch.optim" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_p_of_pairs_is_the_share_of_all_exchanges_within_seeds():
    random = np.random.default_rng(0)
    for n in (1, 2, 5, 8):
        before, gain = random.normal(size=n), random.normal(0.5, 1.0, size=n)
        sums = [float(np.dot(signs, gain)) for signs in itertools.product((-1, 1), repeat=n)]
        wanted = sum(s >= gain.sum() - 1e-9 for s in sums) / 2**n
        assert paired_p(before, before + gain) == pytest.approx(wanted)


def test_a_fault_of_one_seed_in_four_is_proven_by_more_seeds_only():
    dead = np.arange(24) % 4 == 0
    before, after = np.where(dead, 0.0, 0.8), np.full(24, 0.8) + 0.001 * np.sin(np.arange(24))
    assert not Comparison(tuple(before[:6]), tuple(after[:6])).proven
    assert Comparison(tuple(before), tuple(after)).proven
    assert not Comparison(tuple(before), tuple(before[::-1])).proven
