"""A report as Markdown."""

from collections.abc import Iterator

from chainrule.doctor.finding import Finding
from chainrule.doctor.report import Report
from chainrule.doctor.reports.table import layer_table
from chainrule.doctor.trials import Trials


def text(report: Report) -> str:
    """Standing, findings, what came near, and the layers as a table."""
    lines = [f"# {report.title or 'Report'}", f"**{report.standing.name}**: {report.standing.sentence}."]
    if report.ok:
        lines.append(f"Nothing found: {report.looked} rules looked.")
    lines.extend(_treatment(report.trials))
    for finding in report.findings:
        lines.extend(_section(finding))
    if report.near:
        lines.append("## Nearest silent rules")
        lines.append("\n".join(f"- {n.code} {n.name}, {n.ratio:.0%} of its limit: {n.evidence}" for n in report.near))
    names, rows = layer_table(report.record)
    if rows:
        lines.append("## Layers")
        table = [names, ["---", *["---:"] * (len(names) - 1)], *rows]
        lines.append("\n".join("| " + " | ".join(_cell(c) for c in row) + " |" for row in table))
    return "\n\n".join(lines) + "\n"


def _treatment(trials: Trials | None) -> Iterator[str]:
    """The proven cure first, then every trial."""
    if trials is None:
        return
    cure = trials.cure
    yield "## The proven cure" if cure is not None else "## Treatment: no cure is proven"
    if cure is not None:
        yield f"**{cure.title}**: {cure.figures}."
        yield f"```diff\n{cure.chainrule}\n```"
        alike = cure.pytorch == cure.chainrule
        yield "The same in PyTorch." if alike else f"In PyTorch:\n\n```diff\n{cure.pytorch}\n```"
    if trials.trials:
        rows = [["treatment", "for", "verdict", "before", "after", "seeds", "p"], ["---", "---", "---", *["---:"] * 4]]
        rows += [list(t.row) for t in trials]
        yield "\n".join("| " + " | ".join(_cell(c) for c in row) + " |" for row in rows)
    for word, said in trials.remarks:
        yield f"{word}:\n\n" + "\n".join(f"- {line}" for line in said)


def _section(f: Finding) -> Iterator[str]:
    share = "" if f.share is None else f", {f.share:.0%} of the blame"
    yield f"## {f.severity}: {f.code} {f.name}{f.place}"
    yield f"{f.evidence} ({f.factor}{share})."
    yield f.why
    yield "\n".join(f"{i}. {r.text}" for i, r in enumerate(f.remedy, 1))
    if f.symptoms:
        yield "Symptoms of it:\n\n" + "\n".join(f"- {s.code} {s.name}{s.place}: {s.evidence}" for s in f.symptoms)
    yield f"Source: {f.source}"


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")
