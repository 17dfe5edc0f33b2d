"""Live: what the cheap rules say of a run that is going on, a line each."""

from collections.abc import Mapping

from chainrule.doctor.case import Case
from chainrule.doctor.rules.dead_layer import DeadLayer
from chainrule.doctor.rules.diverging import Diverging
from chainrule.doctor.rules.exploding_gradient import ExplodingGradient
from chainrule.doctor.rules.vanishing_gradient import VanishingGradient
from chainrule.doctor.standing import BARELY, standing_of
from chainrule.record import RunRecord, Series

LONG_ENOUGH = 200
"""Updates after which a loss that stays where it was is worth a line: many runs take some time to get going."""

RULES = (DeadLayer(), VanishingGradient(), ExplodingGradient(), Diverging())
"""Those that need nothing but curves and measurements."""


def signs_of(loss: Series, measurements: Mapping[tuple[str, str], Series]) -> list[tuple[str, str]]:
    """(what to know it by, a line) for each rule that speaks, and for a plateau."""
    case = Case(record := RunRecord(loss=loss, measurements=measurements), standing_of(record))
    found = []
    for rule in RULES:
        if case.progress >= rule.content and not rule.proof:
            continue
        speaking = [s for s in rule.examine(case) if s.ratio >= 1]
        if speaking:
            sign = max(speaking, key=lambda s: s.ratio)
            place = f" in {sign.where!r}" if sign.where else ""
            remedy = (sign.remedy or rule.remedy)[0].text
            found.append((rule.code, f"{rule.code} {rule.name}{place}: {sign.evidence}. {remedy}"))
    if not found and case.standing.name == "plateau" and case.progress < BARELY and len(loss) >= LONG_ENOUGH:
        found.append(("plateau", f"plateau: {case.standing.sentence}. run.examine() looks for the cause"))
    return found
