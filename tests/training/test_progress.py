"""What a person sees while a network trains, in a terminal and elsewhere."""

import os
import re
import struct
import subprocess
import sys

import pytest

from chainrule.training.progress import folded, metric_words

PROGRAM = """
import sys
import numpy as np
import chainrule as cr
from chainrule import nn, optim
x = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
y = np.array(["no", "yes"])[(x[:, 0] > 0).astype(int)]
cr.fit(nn.Linear(4, 1), (x, y), loss="binary_cross_entropy_with_logits", optimizer=optim.Adam(0.05), epochs=3,
       validation=0.2, metrics=["accuracy", "f1"], early_stopping=9)
"""


def lines_in_terminal(columns: int) -> list[str]:
    """What stays on the screen of a terminal of that width, without colours and without the line that moves."""
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
    ) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
            if not piece:
                break
            written += piece
        assert process.wait(20) == 0, written.decode()
    os.close(ours)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode())
    return [line for line in re.split(r"[\r\n]+", plain) if line.strip()]


@pytest.mark.parametrize("columns", [60, 80])
def test_a_terminal_shows_a_line_an_epoch_and_three_rows_none_of_them_too_long(columns):
    lines = lines_in_terminal(columns)
    stay = [line for line in lines if "━" not in line]
    assert max(len(line) for line in lines if line.startswith(("epoch", " "))) <= columns
    assert [line[:9] for line in stay if line.startswith("epoch")] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    number = r"\d\.\d{4}"
    measured = rf"epoch 3/3  loss {number}  validation loss {number}  accuracy \d+\.\d %  f1 {number}"
    assert re.search(measured, " ".join(stay).replace(" " * 12, "  "))
    assert stay[-5] == "the weights are those of epoch 3, which had the best validation loss"
    assert stay[-4] == "three rows that were held out, the worst first:"
    row = r"  row \d+: predicted (yes|no) \(\d+ %\), truth (yes|no), loss ([\d.e-]+)"
    losses = [float(match[3]) for line in stay[-3:] if (match := re.fullmatch(row, line))]
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)
    moving = [line for line in lines if "━" in line]
    assert any(re.search(r"\d+ % loss \d\.\d+ [\d,]+ rows/s", line) for line in moving)


def test_elsewhere_nothing_is_printed():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_long_lines_are_folded_below_their_first_word():
    words = metric_words({"loss": 1.0, "learning_rate": 0.1, "validation_loss": 2.0, "validation_accuracy": 0.5})
    assert words == ["loss 1.0000", "validation loss 2.0000", "accuracy 50.0 %"]
    assert folded("epoch 1/9", words, 80) == ["epoch 1/9  loss 1.0000  validation loss 2.0000  accuracy 50.0 %"]
    assert folded("epoch 1/9", words, 50) == [
        "epoch 1/9  loss 1.0000  validation loss 2.0000",
        " " * 11 + "accuracy 50.0 %",
    ]
    assert folded("epoch 1/9", words, 5) == [
        "epoch 1/9  loss 1.0000",
        " " * 11 + "validation loss 2.0000",
        " " * 11 + "accuracy 50.0 %",
    ]
