"""The terminal: a bar where somebody looks, plain text where not, and lines no wider than there is room."""

import os
import re
import sys

import pytest

QUICK = ("--layers", "8", "--epochs", "3")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def test_a_pipe_gets_plain_text(start):
    out, err = start("train", "moons", *QUICK).communicate(timeout=60)
    assert err == ""
    assert "\x1b" not in out and "\r" not in out
    assert "validation accuracy" in out and out.splitlines()[-1] == "next: chainrule predict runs/moons"


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """`typed("train", "moons")` runs a command at a terminal of its own; what it wrote."""
    if os.name == "nt":
        pytest.skip("Windows has no pseudo-terminals of this kind")
    import pty
    import subprocess

    monkeypatch.chdir(tmp_path)

    def run(*words, **environment):
        outer, inner = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "chainrule", *words], stdin=inner, stdout=inner, stderr=inner, close_fds=True,
            env={**os.environ, "COLUMNS": "100", "TERM": "xterm-256color", "PYTHONUTF8": "1", **environment},
        )  # fmt: skip
        os.close(inner)
        written = b""
        while True:
            try:
                part = os.read(outer, 65536)
            except OSError:  # Linux reports the end of a terminal as an error
                break
            if not part:
                break
            written += part
        os.close(outer)
        assert process.wait(timeout=60) == 0
        return written.decode().replace("\r\n", "\n")

    return run


def test_a_terminal_gets_a_bar_and_a_line_an_epoch(typed):
    written = typed("train", "moons", *QUICK)
    assert "\x1b[?25l" in written and "━" in written  # the cursor is hidden while the bar moves
    assert written.count("\x1b[?25h") == 1  # and comes back
    for epoch in range(1, 4):
        assert re.search(rf"epoch {epoch}/3  loss \d.*validation accuracy \d+\.\d %", written)


def test_predictions_at_a_terminal_are_a_short_table(typed):
    typed("train", "moons", *QUICK)
    lines = ESCAPE.sub("", typed("predict", "runs/moons")).splitlines()
    assert lines[0].split() == ["prediction", "probability", "truth"]
    assert "… and 180 more rows" in lines


def test_no_color_leaves_colours_out(typed):
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", typed("train", "moons", *QUICK, NO_COLOR="1"))
    assert re.search(r"\x1b\[[0-9;]*[39][0-9]m", typed("train", "moons", *QUICK))


@pytest.mark.parametrize("words", [("data", "list"), ("data", "show", "digits"), ("info", "runs/moons"), ("info",)])
def test_tables_keep_within_forty_columns(command, monkeypatch, words):
    command("train", "moons", *QUICK)
    monkeypatch.setenv("COLUMNS", "40")
    out = command(*words).out
    ruled = [line for line in out.splitlines() if "──" in line]
    assert ruled and all(len(line) <= 40 for line in ruled)
    if words == ("data", "show", "digits"):
        assert re.search(r" 0 +0 +4\.884 +16 *$", out, re.MULTILINE)  # no number is cut or broken


def test_an_encoding_without_blocks_gets_other_marks(start):
    out, err = start("data", "show", "digits", PYTHONUTF8="0", PYTHONIOENCODING="ascii").communicate(timeout=60)
    assert "Traceback" not in err and "error" not in err
    assert "##" in out
