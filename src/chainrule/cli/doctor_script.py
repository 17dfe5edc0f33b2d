"""`chainrule doctor train.py`: watch somebody's PyTorch script, unedited, and say what keeps it from learning."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chainrule.cli.failure import FAILED, FINE, INTERRUPTED, TERMINATED
from chainrule.cli.output import Output
from chainrule.errors import ArgumentError, MissingDependencyError

if TYPE_CHECKING:
    from chainrule.adapters.pytorch.script import Found
    from chainrule.adapters.pytorch.watch import Watch


def examine_script(path: Path, arguments: Sequence[str], steps: int | None, output: Output) -> int:
    """Run the script, watched, and print the verdict on each model that it trains; the exit code.

    1: an error was found, or the script failed. ArgumentError: no such script, or a number of steps below 1.
    """
    if steps is not None and steps < 1:
        raise ArgumentError(f"--steps is the number of updates to watch, from 1 on; got {steps}")
    if not path.is_file():
        raise ArgumentError(
            f"there is no script {str(path)!r}; give the path of a Python file: chainrule doctor train.py"
        )
    with path.open("rb") as file:
        if b"\0" in file.read(1024):
            raise ArgumentError(
                f"{str(path)!r} is no Python script but a file of bytes. Of a run give the directory: chainrule doctor "
                f"{str(path.parent)!r}"
            )
    if importlib.util.find_spec("torch") is None:
        raise MissingDependencyError(
            "chainrule doctor train.py watches PyTorch, which is not installed: pip install torch"
        )
    from chainrule.adapters.pytorch.script import watch_script

    found = watch_script(path, arguments, steps)
    sys.stdout.flush()
    if found.error is not None and not isinstance(found.error, SystemExit):
        traceback.print_exception(_own_frames(found.error, path), file=sys.stderr)
    if found.stopped:
        output.say(f"stopped after {steps:,} updates, as asked")
    if not found.watches:
        output.show(f"{path} called no PyTorch model that learns, so there is nothing to judge")
    judged = [_judge(watch, output) for watch in found.trained]
    code = _code(found, judged)
    output.result({"schema": 1, "script": str(path), "steps": _steps(found), "error": _said(found.error),
                   "models": [entry for entry, _ in judged]})  # fmt: skip
    return code


def _judge(watch: Watch, output: Output) -> tuple[dict[str, Any], bool]:
    """(the object for programs, whether an error was found) of one model; its verdict is printed."""
    seen = watch.observer
    output.show(watch.verdict())
    report = watch.examine() if seen.steps else None
    entry: dict[str, Any] = {"model": type(seen.model).__name__, "steps": seen.steps, "hidden": seen.hidden}
    if report is not None:
        from chainrule.doctor.reports.plain_data import as_data

        entry["report"] = as_data(report)
    return entry, report is not None and any(f.severity == "error" for f in report.findings)


def _code(found: Found, judged: Sequence[tuple[dict[str, Any], bool]]) -> int:
    if isinstance(found.error, KeyboardInterrupt):
        return TERMINATED if type(found.error).__name__ == "Terminated" else INTERRUPTED
    return FAILED if found.error is not None or any(wrong for _, wrong in judged) else FINE


def _steps(found: Found) -> int:
    return max((watch.observer.steps for watch in found.watches), default=0)


def _said(error: BaseException | None) -> str | None:
    return None if error is None else f"{type(error).__name__}: {error}"


def _own_frames(error: BaseException, path: Path) -> BaseException:
    """The exception with its traceback from the script's own first line on."""
    found = error.__traceback__
    while found is not None and Path(found.tb_frame.f_code.co_filename).resolve() != path.resolve():
        found = found.tb_next
    return error.with_traceback(found or error.__traceback__)
