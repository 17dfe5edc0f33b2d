"""The doctor: rules that read a record, the standing before them, and the report after them.

    judge(record)                    a RunRecord of any framework -> Report; reads nothing but the record
    examine(run)                     a run of this package -> Report (also `run.examine()`)
    diagnose(net, data, loss=...)    before training -> Report (also `cr.diagnose`)

docs/doctor.md says how it decides, and how a rule is added.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chainrule.doctor.diagnose import diagnose
    from chainrule.doctor.examine import examine, record_of
    from chainrule.doctor.finding import Finding
    from chainrule.doctor.judge import judge
    from chainrule.doctor.report import DiagnosisError, Report
    from chainrule.doctor.rule import Remedy, Rule, Sign
    from chainrule.doctor.settings import Settings, settings_from
    from chainrule.doctor.standing import Standing, standing_of

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
    "finding": ("Finding",),
    "report": ("DiagnosisError", "Report"),
    "rule": ("Remedy", "Rule", "Sign"),
    "settings": ("Settings", "settings_from"),
    "standing": ("Standing", "standing_of"),
}


def __getattr__(name: str) -> Any:
    # A function has the name of its module, which importing it puts here: then the function takes its place.
    if name in ("diagnose", "examine", "judge"):
        value = getattr(import_module(f"chainrule.doctor.{name}"), name)
    elif name == "record_of":
        value = import_module("chainrule.doctor.examine").record_of
    else:
        home = next((module for module, names in HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"chainrule.doctor.{home}"), name)
    globals()[name] = value
    return value
