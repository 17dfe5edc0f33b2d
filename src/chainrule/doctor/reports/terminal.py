"""A report in the terminal: the standing, each cause in a frame, the layers as a table."""

from typing import TYPE_CHECKING

from chainrule.doctor.finding import Finding
from chainrule.doctor.report import Report
from chainrule.doctor.reports.table import layer_table
from chainrule.doctor.trials import Trials

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_OF_NAMES, WIDTH_OF_NUMBERS = 24, 11
"""Columns of the terminal: what does not fit is left to the other forms of the report."""

COLOURS = {"error": "red", "warning": "yellow", "note": "blue"}


def show(report: Report, console: "Console | None" = None) -> None:
    """Print the report; plain text where the console has no colours."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console() if console is None else console
    console.print(Text.assemble((report.standing.name, "bold"), f": {report.standing.sentence}"))
    if report.ok:
        console.print(Text(str(report).partition("\n")[2]))
    for finding in report.findings if not report.ok else ():
        console.print(_panel(finding))
    if report.trials is not None:
        console.print(_treated(report.trials))
    names, rows = layer_table(report.record)
    if rows and not report.ok:
        table = Table(box=None, pad_edge=False, header_style="dim")
        shown = max(2, (console.width - WIDTH_OF_NAMES) // WIDTH_OF_NUMBERS + 1)
        for i, name in enumerate(names[:shown]):
            table.add_column(name, justify="right" if i else "left",
                             no_wrap=True)  # fmt: skip
        for row in rows:
            table.add_row(*map(Text, row[:shown]))
        console.print(table)


def _treated(trials: Trials) -> object:
    """The cure and its lines, then every trial in a line."""
    from rich.panel import Panel
    from rich.text import Text

    cure, body = trials.cure, Text()
    if cure is not None:
        body.append(f"{cure.title}\n", "bold").append(f"{cure.figures}\n")
        for line in cure.chainrule.splitlines():
            body.append(f"{line}\n", "green" if line.startswith("+") else "red" if line.startswith("-") else "")
    for trial in trials:
        body.append(f"{trial.verdict}: ", "green" if trial.proven else "dim")
        body.append(
            f"{trial.title} for {trial.code}: {trial.figures}{'; ' + trial.said if trial.said else ''}\n", "dim"
        )
    for word, said in trials.remarks:
        body.append(f"{word}: {'; '.join(said)}\n", "dim")
    body.rstrip()
    title = "the proven cure" if cure is not None else "treatment: no cure is proven"
    return Panel(body, title=title, title_align="left", border_style="green" if cure is not None else "dim")


def _panel(f: Finding) -> object:
    from rich.panel import Panel
    from rich.text import Text

    share = "" if f.share is None else f" ({f.share:.0%} of the blame)"
    body = Text()
    body.append(f"{f.factor}{share}: ", "bold")
    body.append(f"{f.evidence}\n{f.why}\n")
    body.append("change: ", "bold")
    body.append(f.remedy[0].text)
    body.append("".join(f"\n    or: {r.text}" for r in f.remedy[1:]), "dim")
    if f.symptoms:
        body.append(f"\nsymptoms: {', '.join(f'{s.code} {s.name}' for s in f.symptoms)}", "dim")
    title = Text(f"{f.severity}: {f.code} {f.name}{f.place}")
    return Panel(body, title=title, title_align="left", border_style=COLOURS[f.severity])
