"""`chainrule doctor RUN`: examine a run's directory, and with --treat prove the cure on replays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chainrule.cli.escape import escaped
from chainrule.cli.failure import FAILED, FINE
from chainrule.cli.output import Output
from chainrule.cli.settings import kept_settings
from chainrule.errors import ArgumentError, ChainruleError

if TYPE_CHECKING:
    from chainrule.doctor.report import Report
    from chainrule.doctor.trials import Trial

RECORD = "record.sqlite"


@dataclass(frozen=True)
class Asked:
    """What the command line said. fail_on: the severity from which on the exit code is 1: error, warning or never."""

    treat: bool = False
    budget: float = 120.0
    fail_on: str = "error"
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


def examine_run(path: Path, asked: Asked, output: Output) -> int:
    """Print the report on a run; the exit code."""
    report = report_on(path, asked.select, asked.ignore)
    if not output.json:
        report.show()
    if asked.treat:
        report.treat(asked.budget, on_trial=lambda trial: _say(trial, output))
        output.show(f"{report.trials}")
    command = _mended(path, report)
    if command is not None:
        output.next(*command)
    else:
        _next(path, report, asked, output)
    from chainrule.doctor.reports.plain_data import as_data

    again = None if command is None else ["chainrule", *command]
    output.result({**as_data(report), "run": str(path), "command": again})
    return _code(report, asked.fail_on)


def report_on(path: Path, select: tuple[str, ...] = (), ignore: tuple[str, ...] = ()) -> Report:
    """The report on a run's directory, on its rows where their source is there.

    A directory with a record and no run of this package, as of a watched PyTorch model, is judged by the record alone.
    CheckpointError: neither is there, or it is damaged.
    """
    from chainrule.doctor import examine, judge, settings_from
    from chainrule.record import read_record
    from chainrule.training import Run

    settings = settings_from(None, select, ignore)
    if (path / RECORD).is_file() and not (path / "config.json").is_file():
        return judge(read_record(path / RECORD), settings, str(path))
    run = Run.load(path)
    run.data = _rows(path)
    return examine(run, settings=settings)


def _rows(path: Path) -> Any:
    """The rows that a run of `chainrule train` learns from, read again; None where they are gone."""
    from chainrule.cli.rows import rows_of

    settings = kept_settings(path)
    if settings is None:
        return None
    try:
        return rows_of(settings)
    except (ChainruleError, OSError):
        return None


def _say(trial: Trial, output: Output) -> None:
    output.say(escaped(f"  {trial}"))


def _next(path: Path, report: Report, asked: Asked, output: Output) -> None:
    if report.flags and not asked.treat:
        output.next("doctor", str(path), "--treat")
    else:
        output.next("report", str(path), "--open")


def _mended(path: Path, report: Report) -> tuple[str, ...] | None:
    """The command that trains with the proven cure; None where there is none, or no option for it."""
    from chainrule.cli.mended import mended
    from chainrule.record import RunDirectory

    settings = kept_settings(path) if report.trials is not None else None
    if settings is None or report.trials is None or report.trials.cure is None:
        return None
    with RunDirectory.open(path) as directory:
        lr = directory.config.optimizer.arguments["lr"]
    return mended(settings, report.trials.cure.remedies, lr)


def _code(report: Report, fail_on: str) -> int:
    grave = {"error": ("error",), "warning": ("error", "warning"), "never": ()}[fail_on]
    return FAILED if any(f.severity in grave for f in report.findings) else FINE


def write_report(
    path: Path, out: Path | None, form: str | None, treating: tuple[bool, float], how: tuple[bool, bool], output: Output
) -> None:
    """Write the report on a run into a file. treating: (whether, seconds); how: (open it, overwrite it).

    ArgumentError: the file is there already, or its name says another form than was asked for.
    """
    treat, budget = treating
    opened, force = how
    chosen = _file(path, out, form)
    if out is not None and chosen.exists() and not force:
        raise ArgumentError(f"{str(chosen)!r} is there already; give --force to overwrite it, or another --out")
    report = report_on(path)
    if treat:
        report.treat(budget, on_trial=lambda trial: _say(trial, output))
    report.save(chosen)
    output.say(f"written to {escaped(chosen)}")
    if opened:
        import webbrowser

        if not webbrowser.open(chosen.resolve().as_uri()):
            output.say(f"no browser could be opened; open {escaped(chosen.resolve())} in one")
    output.next("doctor", str(path), "--treat")
    found = [f.code for f in report.flags]
    output.result({"schema": 1, "run": str(path), "out": str(chosen), "ok": report.ok, "findings": found})


def _file(path: Path, out: Path | None, form: str | None) -> Path:
    if out is None:
        return path / f"report.{form or 'html'}"
    if out.is_dir():
        raise ArgumentError(f"--out {str(out)!r} is a directory; give the name of a file")
    if form is not None and out.suffix != f".{form}":
        raise ArgumentError(f"--out {str(out)!r} does not end in .{form}, the form that --format asks for")
    return out
