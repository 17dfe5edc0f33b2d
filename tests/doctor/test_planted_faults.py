"""Planted faults over data sets, widths and seeds: each rule tells a sick training from its healthy twin."""

import importlib.util
import sys
from pathlib import Path

import pytest

import chainrule as cr
from chainrule.doctor.report import Report
from chainrule.doctor.rules import all_rules


def beside(name):
    """A module of this directory, which is no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


faulty, twins = beside("faulty"), beside("twins")

WATCHED = {
    "data-not-finite", "parameters-not-held", "gradients-never-zeroed", "zeroed-before-step",
    "evaluation-mode-left-on", "loss-without-graph", "schedule-misused", "loss-scaling-skips", "same-batch",
    "step-without-backward",
}  # fmt: skip
"""Rules of what `fit` cannot get wrong or refuses by name: tests/adapters/test_planted_loops.py plants these."""


def report_on(program, before: bool) -> Report:
    common = {"loss": program.loss, "optimizer": program.optimizer, "batch_size": program.batch_size}
    if before:
        return cr.diagnose(program.net(), program.rows, seed=program.options["seed"], **common)
    run = cr.fit(program.net(), program.rows, epochs=program.epochs, progress=False, **common, **program.options)
    return run.examine()


def named(report) -> set[str]:
    return {f.name for cause in report.findings for f in (cause, *cause.symptoms)}


def test_every_rule_has_trainings_that_are_generated():
    planted = {name for program in faulty.sick() for name in program.expected}
    assert {rule.name for rule in all_rules()} == planted | set(twins.TWINS) | WATCHED


CASES = [(name, make, turn) for name, make in twins.TWINS.items() for turn in twins.TURNS]
SEVERITY = {rule.name: rule.severity for rule in all_rules()}


@pytest.mark.filterwarnings("ignore::chainrule.errors.UnreachableWarning")
@pytest.mark.parametrize("name, make, turn", [
    pytest.param(*case, id=f"{case[0]}, seed {case[2][0]}", marks=[pytest.mark.long] if case[2][0] else [])
    for case in CASES
])  # fmt: skip
def test_a_rule_speaks_of_a_sick_training_and_not_of_its_healthy_twin(name, make, turn):
    pair = make(*turn)
    sick, healthy = report_on(pair.sick, pair.before), report_on(pair.healthy, pair.before)
    assert name in named(sick), str(sick)
    assert sick.flags or pair.noted or SEVERITY[name] == "note", str(sick)
    assert healthy.ok and name not in named(healthy), str(healthy)
