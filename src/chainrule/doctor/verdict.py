"""Read a record: the standing first, then every rule, then causes with their symptoms under them."""

import time
from collections.abc import Iterable
from dataclasses import replace

from chainrule.doctor.blame import deficits, shares
from chainrule.doctor.case import Case
from chainrule.doctor.finding import Finding
from chainrule.doctor.report import Near, Report
from chainrule.doctor.rule import Rule, Severity, Sign
from chainrule.doctor.settings import Settings
from chainrule.doctor.standing import standing_of
from chainrule.record import RunRecord

ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}


def judge(record: RunRecord, settings: Settings | None = None, title: str = "") -> Report:
    """The report on a record; nothing is read but the record."""
    began = time.perf_counter()
    case = Case(record, standing_of(record))
    rules = (settings or Settings()).rules()
    found: list[Finding] = []
    near: list[Near] = []
    for rule in rules:
        if rule.course and case.standing.name == "too short":
            continue
        signs = list(rule.examine(case))
        speaking = [s for s in signs if s.ratio >= 1]
        if speaking and not (rule.unfinished and case.standing.finished):
            found.append(_finding(rule, speaking, case))
        elif signs and not speaking:
            best = max(signs, key=lambda s: s.ratio)
            near.append(Near(rule.code, rule.name, best.ratio, best.evidence))
    causes = ranked(found, rules, case)
    near.sort(key=lambda n: -n.ratio)
    return Report(case.standing, causes, len(rules), tuple(near[:5]), record, title, time.perf_counter() - began)


def _finding(rule: Rule, signs: list[Sign], case: Case) -> Finding:
    """One finding a rule: at the first step at which it speaks, and there where it is gravest, then worst."""
    first = min(s.step for s in signs)
    worst = min((s for s in signs if s.step == first), key=lambda s: (ORDER[_severity(rule, s, case)], -s.ratio))
    return Finding(
        code=rule.code,
        name=rule.name,
        severity=_severity(rule, worst, case),
        where=worst.where,
        step=worst.step,
        share=None,
        evidence=worst.evidence,
        why=rule.why,
        remedy=worst.remedy or rule.remedy,
        source=rule.source,
        factor=worst.factor or rule.factor,
        ratio=worst.ratio,
        proof=rule.proof,
    )


def _severity(rule: Rule, sign: Sign, case: Case) -> Severity:
    """What is no fault by itself is only a note where training went well."""
    content = rule.content if sign.content is None else sign.content
    return "note" if case.progress >= content else rule.severity


def ranked(found: list[Finding], rules: Iterable[Rule], case: Case) -> tuple[Finding, ...]:
    """Causes, each with the findings that it explains; the most certain and grave first.

    A finding that two causes explain stands under the first of them. Of two that explain each other the more certain,
    then the larger one is the cause. A note is no cause of a flag.
    """
    explains = {rule.name: set(rule.explains) for rule in rules}
    certain = {f.name for f in found if f.proof and not _explained(f, explains, found)}
    order = sorted(
        found,
        key=lambda f: (
            f.severity == "note", f.name not in certain, -_weight(f, explains, found), ORDER[f.severity], f.code
        ),
    )  # fmt: skip
    causes: list[Finding] = []
    under: dict[str, list[Finding]] = {}
    taken: set[str] = set()
    for finding in order:
        if finding.name in taken:
            continue
        causes.append(finding)
        for other in order:
            loose = other.name not in taken and other is not finding and other not in causes
            if loose and other.name in explains[finding.name] and _may_explain(finding, other):
                taken.add(other.name)
                under.setdefault(finding.name, []).append(other)
    kept = [replace(c, symptoms=tuple(under.get(c.name, ()))) for c in causes if c.name not in taken]
    flags = [c for c in kept if c.severity != "note"]
    blamed = dict(zip((f.name for f in flags), shares(flags, deficits(case)) if flags else (), strict=True))
    return tuple(replace(c, share=blamed.get(c.name)) for c in kept)


def _explained(finding: Finding, explains: dict[str, set[str]], found: list[Finding]) -> bool:
    """Whether another flag has it as its symptom: a fact, such as that a loss diverges, is then no cause."""
    return any(
        finding.name in explains[other.name] and other.name not in explains[finding.name]
        for other in found
        if other is not finding and other.severity != "note"
    )


def _may_explain(cause: Finding, symptom: Finding) -> bool:
    return cause.severity != "note" or symptom.severity == "note"


def _weight(finding: Finding, explains: dict[str, set[str]], found: list[Finding]) -> float:
    """How much a finding accounts for: what it explains of the others counts before its own size."""
    explained = sum(other.name in explains[finding.name] for other in found if other is not finding)
    explaining = sum(finding.name in explains[other.name] for other in found if other is not finding)
    return 10.0 * (explained - explaining) + min(finding.ratio, 9.0)
