"""The command `chainrule`: its commands, and what becomes of an error."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from chainrule.cli import data
from chainrule.cli.check import check
from chainrule.cli.compare import compare
from chainrule.cli.demo import demo
from chainrule.cli.doctor import doctor
from chainrule.cli.escape import escaped
from chainrule.cli.explain import explain
from chainrule.cli.failure import BROKEN_PIPE, FINE, INTERRUPTED, TERMINATED, USAGE, Failure, failure_of
from chainrule.cli.info import info
from chainrule.cli.output import json_line
from chainrule.cli.predict import predict
from chainrule.cli.report import report
from chainrule.cli.show import show
from chainrule.cli.train import train
from chainrule.errors import ChainruleWarning
from chainrule.version import __version__

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (train, predict, explain, show, compare, check, doctor, report, info, demo):
    app.command()(command)
app.add_typer(data.commands, name="data")

# typer carries its own copy of click from 0.26 on and depends on click before: the class has the same name in both.
_UsageError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


@app.callback(invoke_without_command=True)
def chainrule(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Train neural networks, and look into them.

    \b
    Examples:
      chainrule train digits                  learn handwritten digits
      chainrule predict runs/digits           what the network says about rows it never saw
      chainrule explain runs/digits           why a weight has the gradient that it has
      chainrule show runs/digits              its next update, line by line
      chainrule compare runs/a runs/b         where two runs part
      chainrule demo step                     backpropagation on a 2-2-1 network, in numbers
      chainrule check runs/digits             its gradients against finite differences
      chainrule doctor runs/digits --treat    what keeps a run from learning, and the proven cure
      chainrule doctor train.py               what keeps a PyTorch script from learning
      chainrule data show digits              what is in a data set
      chainrule train houses.csv --target price --missing mean

    \b
    Exit codes: 0 fine, 1 a failed run or check, 2 usage or input, 3 damaged checkpoint,
    4 environment (disk, memory, missing package, run in use), 130 Ctrl-C, 143 SIGTERM.
    """
    if version:
        print(f"chainrule {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without × shows \xd7 rather than a traceback
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ChainruleWarning)
        warnings.showwarning = _warner()
        try:
            return _run(words)
        except BrokenPipeError:
            _silence()
            return BROKEN_PIPE
        except KeyboardInterrupt as interrupt:
            return _interrupted(interrupt, "--json" in words)
        except Exception as error:
            if os.environ.get("CHAINRULE_TRACEBACK"):
                raise
            return _fail(failure_of(error), "--json" in words)


def _run(words: list[str]) -> int:
    command = get_command(app)
    try:
        with command.make_context("chainrule", words) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as end:
        return end.exit_code
    except _UsageError as error:
        if error.__class__.__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            return FINE
        named = getattr(getattr(error, "ctx", None), "command_path", "chainrule")
        message = f"{' '.join(error.format_message().split())} (chainrule{named[9:]} --help tells more)"
        return _fail(Failure("UsageError", escaped(message), USAGE), "--json" in words)
    return FINE


def _fail(failure: Failure, json: bool) -> int:
    print(failure.line, file=sys.stderr, flush=True)
    if json:
        print(json_line(failure.to_dict()), flush=True)
    return failure.code


def _interrupted(interrupt: KeyboardInterrupt, json: bool) -> int:
    terminated = type(interrupt).__name__ == "Terminated"  # of training.interrupts, which need not be loaded
    code = TERMINATED if terminated else INTERRUPTED
    said = "stopped by SIGTERM" if terminated else "stopped by Ctrl-C"
    _fail(Failure("Interrupted", said, code), json)
    for note in getattr(interrupt, "__notes__", ()):
        print(note, file=sys.stderr, flush=True)
    return code


def _warner() -> Callable[..., None]:
    """Prints each warning once: Python forgets what it has warned of whenever filters change."""
    said: set[str] = set()

    def show_warning(message: Warning | str, *_: Any) -> None:
        line = f"warning: {escaped(' '.join(str(message).split()))}"
        if line not in said:
            said.add(line)
            print(line, file=sys.stderr, flush=True)

    return show_warning


def _silence() -> None:
    """Nobody reads standard output any more; what is still in its buffer must not complain at exit."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
