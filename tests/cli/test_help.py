"""Help: every command has examples, every option says what it means, and help comes at once."""

import subprocess
import sys
import time

import pytest
from typer.main import get_command

from chainrule.cli.main import app
from chainrule.cli.settings import Settings

COMMANDS = [
    ("train",),
    ("predict",),
    ("check",),
    ("info",),
    ("explain",),
    ("show",),
    ("compare",),
    ("doctor",),
    ("report",),
    ("demo",),
    ("data",),
    ("data", "list"),
    ("data", "show"),
]

MOST_SECONDS = 0.2
STARTS = 8


def found(words):
    node = get_command(app)
    for word in words:
        node = node.commands[word]
    return node


@pytest.mark.parametrize("words", [(), *COMMANDS], ids=" ".join)
def test_every_command_has_examples_that_begin_with_chainrule(command, words):
    ended = command(*words, "--help")
    assert ended.code == 0
    examples = ended.out.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert examples and all(line.strip().startswith("chainrule ") for line in examples)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_option_and_argument_has_help(words):
    for parameter in found(words).params:
        assert getattr(parameter, "help", None), parameter.name


def test_no_command_is_missing_here():
    names = {(name,) for name in get_command(app).commands}
    names |= {("data", name) for name in get_command(app).commands["data"].commands}
    assert names == set(COMMANDS)


def test_the_defaults_in_the_help_are_those_that_are_used():
    told = {parameter.name: parameter.help for parameter in found(("train",)).params}
    own = vars(Settings(""))
    for name in ("epochs", "batch_size", "seed", "missing", "activation", "loss", "optimizer", "schedule"):
        assert told[name].endswith(f"Default: {own[name]}.")
    assert told["layers"].endswith(f"Default: {','.join(map(str, own['layers']))}.")


def test_without_a_command_the_help_is_printed(command):
    assert command().out == command("--help").out
    assert "Examples:" in command("data").out


def seconds_of(*arguments):
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def test_help_comes_within_a_fifth_of_a_second():
    ours, theirs = [], []
    for _ in range(STARTS):
        ours.append(seconds_of("-m", "chainrule", "--help"))
        if ours[-1] < MOST_SECONDS:
            return
        theirs.append(seconds_of("-c", "import typer"))
    # The machine is busy: then not much more than what typer itself needs at the same time.
    assert min(ours) < 2.5 * min(theirs), (ours, theirs)


def test_help_loads_neither_numpy_nor_the_engine():
    code = (
        "import sys; from chainrule.cli.main import main; main(['--help']); "
        "sys.exit(', '.join({'numpy', 'msgspec', 'chainrule.ops', 'chainrule.data'} & set(sys.modules)) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (finished.returncode, finished.stderr) == (0, "")
