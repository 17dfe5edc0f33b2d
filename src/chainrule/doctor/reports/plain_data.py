"""A report as JSON. The schema is written out in docs/doctor.md."""

import json
import math
from typing import Any

from chainrule.doctor.finding import Finding
from chainrule.doctor.report import Report

SCHEMA = 1


def json_text(report: Report) -> str:
    """The report as one JSON object; numbers that are not finite are null."""
    return json.dumps(as_data(report), indent=2, allow_nan=False) + "\n"


def as_data(report: Report) -> dict[str, Any]:
    """The report as dicts and lists."""
    return {
        "schema": SCHEMA,
        "title": report.title,
        "ok": report.ok,
        "standing": {
            "name": report.standing.name,
            "sentence": report.standing.sentence,
            "progress": _number(report.standing.progress),
            "finished": report.standing.finished,
        },
        "findings": [_finding(f) for f in report.findings],
        "rules": report.looked,
        "nearest": [
            {"code": n.code, "name": n.name, "ratio": _number(n.ratio), "evidence": n.evidence} for n in report.near
        ],
        "steps": report.record.steps,
        "seconds": report.seconds,
        "trials": None if report.trials is None else _finite(report.trials.to_dict()),
    }


def _finding(f: Finding) -> dict[str, Any]:
    return {
        "code": f.code,
        "name": f.name,
        "severity": f.severity,
        "where": f.where,
        "step": f.step,
        "share": _number(f.share),
        "factor": f.factor,
        "evidence": f.evidence,
        "ratio": _number(f.ratio),
        "proof": f.proof,
        "why": f.why,
        "remedy": [{"id": r.id, "text": r.text, "parameters": dict(r.parameters)} for r in f.remedy],
        "source": f.source,
        "symptoms": [_finding(s) for s in f.symptoms],
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
