"""The doctor: rules that read a record, the standing before them, and the report after them.

    judge(record)                    a RunRecord of any framework -> Report; reads nothing but the record
    examine(run)                     a run of this package -> Report (also `run.examine()`)
    diagnose(net, data, loss=...)    before training -> Report (also `cr.diagnose`)

docs/doctor.md says how it decides, and how a rule is added.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chainrule.doctor.diagnosis import diagnose
    from chainrule.doctor.examination import examine, record_of
    from chainrule.doctor.finding import Finding
    from chainrule.doctor.report import DiagnosisError, Report
    from chainrule.doctor.rule import Remedy, Rule, Sign
    from chainrule.doctor.settings import Settings, settings_from
    from chainrule.doctor.standing import Standing, standing_of
    from chainrule.doctor.verdict import judge

__all__ = [
    "DiagnosisError",
    "Finding",
    "Remedy",
    "Report",
    "Rule",
    "Settings",
    "Sign",
    "Standing",
    "diagnose",
    "examine",
    "judge",
    "record_of",
    "settings_from",
    "standing_of",
]

# Loaded with the first name that needs them: rules serve records of other frameworks, without this package's networks.
HOMES = {
    "diagnosis": ("diagnose",),
    "examination": ("examine", "record_of"),
    "finding": ("Finding",),
    "report": ("DiagnosisError", "Report"),
    "rule": ("Remedy", "Rule", "Sign"),
    "settings": ("Settings", "settings_from"),
    "standing": ("Standing", "standing_of"),
    "verdict": ("judge",),
}


def __getattr__(name: str) -> Any:
    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"chainrule.doctor.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
