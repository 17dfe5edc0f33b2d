"""Every rule against its own examples, and what all rules owe their readers. One test over the table of rules."""

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from chainrule.doctor.case import Case
from chainrule.doctor.rule import Rule
from chainrule.doctor.rules import all_rules
from chainrule.doctor.standing import standing_of
from chainrule.doctor.verdict import judge
from chainrule.record import RunRecord, series

RULES = all_rules()
PAGES = Path(__file__).resolve().parents[2] / "docs" / "findings"


def speaks(rule: Rule, record: RunRecord) -> bool:
    case = Case(record, standing_of(record))
    return not (rule.unfinished and case.standing.finished) and any(s.ratio >= 1 for s in rule.examine(case))


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.code)
def test_a_rule_is_silent_on_its_healthy_examples_and_speaks_on_its_sick_ones(rule):
    assert rule.healthy and rule.sick
    assert not any(speaks(rule(), record) for record in rule.healthy)
    assert all(speaks(rule(), record) for record in rule.sick)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.code)
def test_a_report_on_a_sick_example_names_the_rule_with_its_evidence(rule):
    report = judge(rule.sick[0])
    found = [f for cause in report.findings for f in (cause, *cause.symptoms) if f.code == rule.code]
    assert len(found) == 1
    assert found[0].evidence and found[0].remedy and found[0].ratio >= 1


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.code)
def test_a_rule_changes_its_verdict_with_its_limits(rule):
    """A limit that can be moved so far that the sick example passes is one that is read."""
    limits = rule.limits()
    assert limits
    for sign in (1e12, -1e12, 1e-12):
        if not speaks(rule(**dict.fromkeys(limits, sign)), rule.sick[0]):
            return
    pytest.fail(f"no limit of {rule.code} matters")


@pytest.mark.parametrize("rule", [r for r in RULES if r.course], ids=lambda r: r.code)
def test_a_rule_of_the_course_says_nothing_of_a_run_too_short_to_have_one(rule):
    sick = rule.sick[-1]
    short = replace(sick, loss=series(sick.loss.values[:2] if len(sick.loss) else [2.3, 2.3]))
    report = judge(short)
    assert report.standing.name == "too short"
    assert rule.code not in {f.code for cause in report.findings for f in (cause, *cause.symptoms)}


def test_codes_and_names_are_unique_and_well_formed():
    assert len({r.code for r in RULES}) == len({r.name for r in RULES}) == len(RULES)
    for rule in RULES:
        assert re.fullmatch(r"CR[1-6]\d\d", rule.code), rule
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name), rule


def test_what_a_rule_explains_exists_and_no_rule_explains_itself():
    names = {r.name for r in RULES}
    for rule in RULES:
        assert set(rule.explains) <= names - {rule.name}, rule.name


def test_every_limit_is_a_number_with_a_remark():
    for rule in RULES:
        assert all(isinstance(f.default, float) for f in fields(rule)), rule.name


def test_every_rule_has_its_page():
    assert {p.stem for p in PAGES.glob("CR*.md")} == {r.code for r in RULES}


def test_no_rule_flags_the_healthy_example():
    from chainrule.doctor.examples import CONVERGED, HEALTHY

    for record in (HEALTHY, CONVERGED):
        report = judge(record)
        assert report.ok, str(report)


def test_rules_say_nothing_of_an_empty_record():
    report = judge(RunRecord())
    assert report.ok and report.standing.name == "not started"
    assert not report.findings


def test_a_network_without_layers_is_judged_by_its_curve():
    sick = judge(RULES[0].sick[0]).record
    bare = replace(sick, facts=replace(sick.facts, layers=(), head=None, data=None, trials=None), measurements={})
    assert judge(bare).standing.name == "plateau"


def test_a_run_that_still_learns_is_too_short_only_if_as_many_updates_again_promise_little():
    from chainrule.doctor.examples import MOVING, example

    for steps, pace, ok in ((900, 2e-4, True), (900, 5e-5, False), (900, -1e-3, False), (80, 2e-2, False)):
        slow = example(loss=series([2.3 - 0.27 * i / steps for i in range(steps)]),
                       standing=replace(MOVING, trial_gain=0.0, same_trial_gain=100 * pace))  # fmt: skip
        report = judge(slow)
        assert report.standing.name == "descending"
        assert "too-few-steps" in {f.name for f in report.findings} and report.ok == ok, (steps, pace)


def test_a_rate_that_seems_too_low_stands_under_the_gradient_that_explodes():
    from chainrule.doctor.rules.exploding_gradient import ExplodingGradient

    assert "learning-rate-too-low" in ExplodingGradient.explains


def test_updates_that_were_all_left_out_are_counted_among_those_that_were_asked_for():
    from chainrule.doctor.examples import STUCK, example
    from chainrule.record.facts import LoopFacts

    found = {f.code: f for f in judge(example(loop=LoopFacts(steps=0, scaler_skipped=8), loss=STUCK)).findings}
    assert found["CR609"].evidence == "8 of 8 updates were left out"
