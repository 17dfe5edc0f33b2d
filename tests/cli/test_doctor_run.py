"""`chainrule doctor RUN` and `chainrule report RUN`: the verdict, the proven cure, exit codes and files."""

import pytest

from chainrule.cli.mended import mended
from chainrule.cli.settings import Settings
from chainrule.doctor import Remedy


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
    again = treated.json["command"]
    assert again[:3] == ["chainrule", "train", "digits"] and again[again.index("--layers") + 1] == "16"
    cured = command(*again[1:], "--run", "cured", "-q", "--json")
    assert cured.code == 0 and cured.json["validation"]["accuracy"] > 0.8
    assert command("doctor", "cured").code == 0


def test_the_command_that_carries_out_a_cure_has_only_the_options_that_differ():
    settings = Settings(
        "rows.csv", target="y", ignore=("a", "b c"), layers=(8, 8), activation="sigmoid", schedule="step"
    )
    cure = (
        Remedy("change-activation", "", {"activation": "ReLU"}),
        Remedy("scale-learning-rate", "", {"factor": 10.0}),
        Remedy("train-longer", "", {"factor": 10}),
        Remedy("widen-layer", "", {"factor": 4}),
        Remedy("insert-normalisation", "", {"at": "hidden"}),
        Remedy("clip", "", {"clip_norm": 1.0}),
        Remedy("schedule", "", {"schedule": "constant"}),
    )
    assert " ".join(mended(settings, cure, 1e-3)) == (
        "train rows.csv --target y --ignore a --ignore b c --layers 32,32 --batch-norm --lr 0.01 --epochs 300 "
        "--clip-norm 1"
    )
    for missing in (Remedy("residual", ""), Remedy("change-activation", "", {"activation": "SELU"}),
                    Remedy("insert-normalisation", "", {"at": "input"})):  # fmt: skip
        assert mended(settings, (missing,), 1e-3) is None


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
