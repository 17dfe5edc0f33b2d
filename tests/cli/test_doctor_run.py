"""`chainrule doctor RUN` and `chainrule report RUN`: the verdict, the proven cure, exit codes and files."""

import pytest


@pytest.fixture
def low(command):
    """A run whose learning rate is too low, from the digits."""
    assert command("train", "digits", "--epochs", 2, "--layers", "16", "--lr", "1e-6", "--run", "low", "-q").code == 0


def test_a_run_is_judged_and_treated(command, low):
    judged = command("doctor", "low", "--json")
    assert judged.code == 1 and judged.json["findings"][0]["code"] == "CR302" and judged.json["trials"] is None
    assert command("doctor", "low", "--fail-on", "never").code == 0
    assert command("doctor", "low", "--select", "CR1", "--json").code == 0
    treated = command("doctor", "low", "--treat", "--budget", 40, "--json")
    assert treated.json["trials"]["cure"]["code"] == "CR302" and "proven: " in treated.err


def test_a_report_is_written_in_the_form_of_its_name_and_never_over_another(command, low, tmp_path):
    ended = command("report", "low", "--out", "low.md", "--json")
    assert ended.code == 0 and ended.json["findings"] == ["CR302"]
    assert "learning-rate-too-low" in (tmp_path / "low.md").read_text(encoding="utf-8")
    assert command("report", "low", "--out", "low.md").code == 2
    assert command("report", "low", "--out", "low.md", "--format", "html").code == 2
    assert command("report", "low").code == 0 and (tmp_path / "low" / "report.html").is_file()


def test_what_is_no_run_and_options_that_do_not_belong_are_refused(command, low, tmp_path):
    assert command("doctor", "nowhere").code in (2, 3)
    assert command("doctor", "low", "--steps", 3).code == 2
    (tmp_path / "train.py").write_text("print(1)\n", encoding="utf-8")
    assert command("doctor", "train.py", "--treat").code == 2
    assert command("doctor", "low", "--ignore", "CR999").code == 2
    of_bytes = command("doctor", "low/record.sqlite")
    assert of_bytes.code == 2
    assert "no Python script" in of_bytes.err and "chainrule doctor 'low'" in of_bytes.err
