"""A report as one self-contained page: no script, nothing loaded from anywhere."""

import math
from collections.abc import Iterator
from html import escape

from chainrule.doctor.finding import Finding
from chainrule.doctor.report import Report
from chainrule.doctor.reports.table import layer_table
from chainrule.doctor.trials import Trial, Trials
from chainrule.record import Quantity, RunRecord

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6575; --line: #d8dde5; --paper: #ffffff; --card: #f5f7fa;
  --error: #b3261e; --warning: #8a5a00; --note: #3b5f8a; --river: #2f6fb0; --lost: #c4552d;
  --good: #1b6e3c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b5; --line: #333b48; --paper: #12161c;
  --card: #1a2029; --error: #ff8a80; --warning: #ffcc66; --note: #9cc3ef; --river: #6fb1ee; --lost: #f0936f;
  --good: #7fd6a0; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 62rem; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); } .standing { font-size: 1.15rem; }
article { background: var(--card); border-left: .3rem solid var(--note); border-radius: .3rem; padding: .8rem 1.1rem;
  margin: .8rem 0; }
article.error { border-color: var(--error); } article.warning { border-color: var(--warning); }
article h3 { margin: 0; font-size: 1.05rem; }
.tag { text-transform: uppercase; font-size: .75rem; letter-spacing: .06em; }
.error .tag { color: var(--error); } .warning .tag { color: var(--warning); } .note .tag { color: var(--note); }
ol { margin: .4rem 0; padding-left: 1.4rem; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .faint { fill: var(--soft); } .river { fill: var(--river); opacity: .75; }
.lost { fill: var(--lost); opacity: .85; }
.curve { fill: none; stroke: var(--river); stroke-width: 1.5; } .axis { stroke: var(--line); }
article.cure { border-color: var(--good); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: .85rem/1.5 ui-monospace, monospace; }
pre .added, tr.proven td:nth-child(3) { color: var(--good); } pre .removed { color: var(--error); }
table.trials td:nth-child(-n+3), table.trials th:nth-child(-n+3) { text-align: left; white-space: normal; }
"""


def page(report: Report) -> str:
    """The whole page."""
    title = escape(report.title or "Report of the doctor")
    body = [
        f"<h1>{title}</h1>",
        f'<p class="standing"><strong>{escape(report.standing.name)}</strong>: {escape(report.standing.sentence)}.</p>',
        f'<p class="soft">{report.record.steps:,} updates, {report.looked} rules.</p>',
        *_treatment(report.trials),
        "<h2>Findings</h2>" if report.findings else "<h2>Nothing found</h2>",
        *map(_finding, report.findings),
        *_near(report),
        *_river(report.record),
        *_curve(report.record),
        *_table(report.record),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{STYLE}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _finding(f: Finding) -> str:
    share = "" if f.share is None else f" &middot; {f.share:.0%} of the blame"
    remedies = "".join(f"<li>{escape(r.text)}</li>" for r in f.remedy)
    symptoms = "".join(f"<li>{escape(f'{s.code} {s.name}{s.place}: {s.evidence}')}</li>" for s in f.symptoms)
    return (
        f'<article class="{f.severity}"><span class="tag">{f.severity} &middot; {escape(f.factor)}{share}</span>'
        f"<h3>{escape(f'{f.code} {f.name}{f.place}')}</h3><p>{escape(f.evidence)}.</p><p>{escape(f.why)}</p>"
        f"<p><strong>Change:</strong></p><ol>{remedies}</ol>"
        + (f'<p class="soft">Symptoms of it:</p><ul class="soft">{symptoms}</ul>' if symptoms else "")
        + f'<p class="soft">Source: {escape(f.source)}</p></article>'
    )


def _treatment(trials: Trials | None) -> Iterator[str]:
    """The proven cure with its lines, then every trial in a table."""
    if trials is None:
        return
    cure = trials.cure
    if cure is None:
        yield "<h2>Treatment: no cure is proven</h2>"
    else:
        yield "<h2>The proven cure</h2>"
        yield (
            f'<article class="cure"><h3>{escape(cure.title)}</h3><p>{escape(cure.figures)}: share of what a constant '
            "prediction leaves open, without and with the change, on the same seeds and batches.</p>"
            f"{_diff(cure.chainrule)}{_pytorch(cure)}</article>"
        )
    if trials.trials:
        names = ("treatment", "for", "verdict", "before", "after", "seeds", "p")
        head = "".join(f"<th>{n}</th>" for n in names)
        body = "".join(
            f'<tr class="{escape(t.verdict.replace(" ", "-"))}">'
            + "".join(f"<td>{escape(c)}</td>" for c in t.row)
            + "</tr>"
            for t in trials
        )
        table = f'<table class="trials"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        yield f'<div class="wide">{table}</div>'
    for word, said in trials.remarks:
        listed = "".join(f"<li>{escape(line)}</li>" for line in said)
        yield f'<p class="soft">{escape(word.capitalize())}:</p><ul class="soft">{listed}</ul>'


def _pytorch(cure: Trial) -> str:
    """The lines in PyTorch's words, where they differ."""
    if cure.pytorch == cure.chainrule:
        return '<p class="soft">The same in PyTorch.</p>'
    return f"<p>In PyTorch:</p>{_diff(cure.pytorch)}"


def _diff(text: str) -> str:
    kinds = {"+": "added", "-": "removed"}
    lines = (f'<span class="{kinds.get(line[:1], "")}">{escape(line)}</span>' for line in text.splitlines())
    return f"<pre>{'<br>'.join(lines)}</pre>"


def _near(report: Report) -> Iterator[str]:
    near = [n for n in report.near if n.ratio > 0]
    if near and report.ok:
        listed = "".join(
            f"<li>{escape(f'{n.code} {n.name}: {n.ratio:.0%} of its limit; {n.evidence}')}</li>" for n in near
        )
        yield f'<p class="soft">Nearest silent rules:</p><ul class="soft">{listed}</ul>'


# ------------------------------------------------------------------------------------------------ pictures


def _river(record: RunRecord) -> Iterator[str]:
    """The error on its way back, at the first step that was measured and at the latest."""
    steps = sorted(
        {int(s) for (_, q), found in record.measurements.items() if q == Quantity.ERROR for s in found.steps}
    )
    drawn = [(step, _river_at(record, step)) for step in dict.fromkeys([*steps[:1], *steps[-1:]])]
    if any(picture for _, picture in drawn):
        yield "<h2>The error on its way back</h2>"
        yield (
            '<p class="soft">Right to left, from the loss to the first layer; the width is the rms of the error in '
            "powers of ten. Where a link takes more than nine tenths of it, it is drawn in another colour.</p>"
        )
    for step, picture in drawn:
        if picture:
            yield f'<p class="soft">{"At the first weights" if step == 0 else f"At step {step:,}"}:</p>{picture}'


def _river_at(record: RunRecord, step: int) -> str:
    """From the loss on the right to the inputs on the left, the width in powers of ten; "" for one layer."""
    found = [(x, record.measured(x.name, Quantity.ERROR)) for x in record.layers]
    pairs = [(x, float(e.values[e.steps == step][0])) for x, e in found if (e.steps == step).any()]
    layers = [x for x, size in pairs if 0 < size < math.inf]
    sizes = [math.log10(size) for _, size in pairs if 0 < size < math.inf]
    if len(layers) < 2:
        return ""
    top, bottom = max(sizes), min(min(sizes), max(sizes) - 3)
    width, height, left = 900, 210, 20
    gap = (width - 2 * left) / (len(layers) - 1)
    half = [4 + 60 * (s - bottom) / (top - bottom) for s in sizes]
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="size of the error at each layer">']
    for i in range(len(layers) - 1):
        x0, x1, y = left + i * gap, left + (i + 1) * gap, 85
        kind = "lost" if sizes[i + 1] - sizes[i] > 1 else "river"
        corners = ((x0, y - half[i]), (x1, y - half[i + 1]), (x1, y + half[i + 1]), (x0, y + half[i]))
        points = " ".join(f"{x:.1f},{v:.1f}" for x, v in corners)
        parts.append(f'<polygon class="{kind}" points="{points}"/>')
    every = -(-len(layers) // 12)
    for i, layer in enumerate(layers):
        if i % every == 0 or i == len(layers) - 1:
            x, side = left + i * gap, "start" if i == 0 else "end" if i == len(layers) - 1 else "middle"
            name = escape(layer.name if len(layer.name) < 14 else "…" + layer.name[-12:])
            parts.append(f'<text x="{x:.1f}" y="175" text-anchor="{side}">{name}</text>')
            parts.append(f'<text class="faint" x="{x:.1f}" y="193" text-anchor="{side}">{10 ** sizes[i]:.1e}</text>')
    parts.append("</svg>")
    return "".join(parts)


def _curve(record: RunRecord) -> Iterator[str]:
    """The loss by step, on a logarithmic scale where it is positive."""
    values = [
        (int(s), float(v)) for s, v in zip(record.loss.steps, record.loss.values, strict=True) if math.isfinite(v)
    ]
    if len(values) < 2:
        return
    values = values[:: max(len(values) // 600, 1)]
    logs = all(v > 0 for _, v in values)
    heights = [math.log10(v) if logs else v for _, v in values]
    low, high = min(heights), max(heights)
    span, first, last = (high - low) or 1.0, values[0][0], values[-1][0]
    points = " ".join(
        f"{60 + 820 * (s - first) / max(last - first, 1):.1f},{150 - 130 * (h - low) / span:.1f}"
        for (s, _), h in zip(values, heights, strict=True)
    )
    top, bottom = (f"{10**h if logs else h:.3g}" for h in (high, low))
    yield f"<h2>The loss{' (logarithmic)' if logs else ''}</h2>"
    yield (
        '<svg viewBox="0 0 900 180" role="img" aria-label="loss by step"><line class="axis" x1="60" y1="150" x2="880" '
        f'y2="150"/><polyline class="curve" points="{points}"/><text x="52" y="26" text-anchor="end">{top}</text>'
        f'<text x="52" y="152" text-anchor="end">{bottom}</text>'
        f'<text class="faint" x="60" y="170">step {first:,}</text>'
        f'<text class="faint" x="880" y="170" text-anchor="end">{last:,}</text></svg>'
    )


def _table(record: RunRecord) -> Iterator[str]:
    names, rows = layer_table(record)
    if rows:
        head = "".join(f"<th>{escape(n)}</th>" for n in names)
        body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
        yield "<h2>Layers at the latest step measured</h2>"
        yield f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
