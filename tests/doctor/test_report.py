"""The report: causes with their symptoms, shares, and the forms in which people and programs read it."""

import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from chainrule.doctor import DiagnosisError, Settings, judge, settings_from
from chainrule.doctor.examples import HEALTHY, MOVING, STUCK, everywhere, example
from chainrule.errors import ArgumentError
from chainrule.record import Quantity
from chainrule.record.facts import Head, LoopFacts

SICK = example(
    head=Head(loss="mse", activation="softmax", outputs=1),
    standing=replace(MOVING, zero_gradient=True, gradient_norm=0.0),
    loss=STUCK,
)
STACKED = example(
    measured={"0": {Quantity.ERROR: (1e-7, 1e-7)}}, loss=STUCK, loop=LoopFacts(steps=9, not_held=("4.bias",))
)


def test_symptoms_stand_under_their_cause():
    report = judge(SICK)
    assert [f.code for f in report.flags] == ["CR402"]
    assert "zero-gradient" in [s.name for s in report.flags[0].symptoms]


def test_shares_of_the_blame_add_up_to_one():
    report = judge(STACKED)
    assert len(report.flags) > 1
    assert sum(f.share for f in report.flags) == pytest.approx(1)
    assert all(f.share is None for f in report.findings if f.severity == "note")


def test_the_text_has_at_most_eight_lines_and_begins_with_the_standing():
    for record in (SICK, STACKED, HEALTHY):
        lines = str(judge(record)).splitlines()
        assert len(lines) <= 8 and lines[0].startswith("standing: ")


def test_without_a_finding_it_says_how_many_rules_looked_and_which_came_nearest():
    report = judge(HEALTHY)
    assert f"{report.looked} rules looked" in str(report) and report.near[0].name in str(report)
    assert report.near[0].ratio < 1


def test_raise_for_counts_severities():
    report = judge(SICK)
    with pytest.raises(DiagnosisError, match="CR402"):
        report.raise_for("error")
    judge(HEALTHY).raise_for("warning")
    with pytest.raises(ArgumentError, match="'error', 'warning' or 'note'"):
        report.raise_for("fatal")


def test_a_report_is_saved_in_each_form(tmp_path):
    report = judge(STACKED, title="<b> & co")
    found = json.loads(report.save(tmp_path / "r.json").read_text())
    assert found["schema"] == 1 and found["ok"] is False
    assert found["findings"][0]["remedy"][0].keys() == {"id", "text", "parameters"}
    assert report.findings[0].code in report.save(tmp_path / "r.md").read_text()
    assert report.save(tmp_path / "r.txt").read_text() == f"{report}\n"
    with pytest.raises(ArgumentError, match=r"\.html, \.md, \.json, \.txt"):
        report.save(tmp_path / "r.pdf")


def test_the_page_is_well_formed_escaped_and_loads_nothing(tmp_path):
    page = judge(STACKED, title="<b> & co").save(tmp_path / "r.html").read_text()
    assert "<script" not in page and 'http-equiv="Content-Security-Policy"' in page
    assert "src=" not in page and "href=" not in page and "@import" not in page and "url(" not in page
    assert "<b> & co" not in page and "&lt;b&gt; &amp; co" in page
    body = page.removeprefix("<!doctype html>\n").replace("&middot;", "·")
    for void in ('meta charset="utf-8"', 'meta name="viewport" content="width=device-width, initial-scale=1"'):
        body = body.replace(f"<{void}>", "")
    start = body.index("<meta http-equiv")
    body = body[:start] + body[body.index(">", start) + 1 :]
    ElementTree.fromstring(body)
    assert page.count("<svg") == 3


def test_rules_are_selected_ignored_and_given_limits(tmp_path):
    file = tmp_path / "chainrule.toml"
    file.write_text(
        '[doctor]\nselect = ["CR2", "softmax-of-one"]\nignore = ["CR201"]\n[doctor.dead-layer]\nall = 2.0\n'
    )
    settings = settings_from(file)
    rules = {r.name: r for r in settings.rules()}
    assert "softmax-of-one" in rules and "dead-units" not in rules and "overfitting" not in rules
    assert rules["dead-layer"].all == 2.0
    assert settings_from(file, select=["CR5"]).select == ("CR5",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[doctor]\nselect = ["CR999"]', "no rule 'CR999'"),
        ('[doctor]\nignore = ["dead-unit"]', "did you mean 'dead-units'"),
        ("[doctor]\nselect = 3", "is a list of codes"),
        ("[doctor]\nlevel = 3", "has no 'level'"),
        ("[doctor.dead-units]\nleast = 3", "has no limit 'least'; it has most"),
        ("[doctor.dead-units]\nmost = 'a'", "must be a finite number"),
        ("[doctor", "cannot be read as TOML"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named(tmp_path, text, message):
    file = tmp_path / "chainrule.toml"
    file.write_text(text)
    with pytest.raises(ArgumentError, match=message):
        settings_from(file).rules()


def test_judging_needs_no_network_and_takes_milliseconds():
    assert judge(STACKED, Settings()).seconds < 0.2
    assert judge(example(measured=everywhere(dead=(0.0, 1.0)), loss=STUCK)).findings[0].name == "dead-layer"


def test_the_terminal_shows_each_cause_with_its_first_remedy():
    from rich.console import Console

    from chainrule.doctor.reports.terminal import show

    console = Console(width=100, record=True, file=io.StringIO())
    report = judge(STACKED)
    show(report, console)
    shown = console.export_text()
    assert all(f.code in shown and f.name in shown for f in report.flags)
    assert report.standing.name in shown and "change: " in shown and "agreement" in shown
    quiet = Console(width=100, record=True, file=io.StringIO())
    show(judge(HEALTHY), quiet)
    assert "rules looked" in quiet.export_text()
