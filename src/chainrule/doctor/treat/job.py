"""A job: one replay that somebody shall make, and the making of it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

from chainrule.doctor.rule import Remedy
from chainrule.doctor.treat.change import NotApplicable
from chainrule.doctor.treat.plan import Plan
from chainrule.doctor.treat.prescribe import SAME_STEP, key_of, prescribe
from chainrule.doctor.treat.replay import Bench, Outcome, Replays, failed


@dataclass(frozen=True)
class Job:
    """The base plan with remedies, a seed later by `draw`, for a share of its updates."""

    remedies: tuple[Remedy, ...] = ()
    draw: int = 0
    """Seeds after the run's own: 0 is the run's."""
    share: float = 1.0
    """Of the plan's updates, or of those that are left."""
    late: bool = False
    """Whether it goes on from the plan's checkpoint instead of beginning anew."""

    @property
    def key(self) -> tuple[Any, ...]:
        return key_of(self.remedies), self.draw, self.share, self.late


def perform(
    base: Plan, job: Job, replays: Replays, seconds: float = math.inf
) -> tuple[Outcome, Bench | None, list[float]]:
    """Make the replay, for at most so many seconds."""
    first = base.start.step if job.late and base.start is not None else 0
    try:
        plan, _ = prescribe(base if first else replace(base, start=None), job.remedies)
    except NotApplicable as reason:
        return failed(str(reason)), None, []
    plan = replace(plan, seed=plan.seed + job.draw, steps=first + max(1, round((plan.steps - first) * job.share)))
    step = key_of([r for r in job.remedies if r.id not in SAME_STEP])
    return replays(plan, step, time.perf_counter() + seconds)


def as_data(job: Job) -> dict[str, Any]:
    """The job as JSON has it."""
    remedies = [[r.id, dict(r.parameters)] for r in job.remedies]
    return {"remedies": remedies, "draw": job.draw, "share": job.share, "late": job.late}


def job_of(found: dict[str, Any]) -> Job:
    """What `as_data` wrote."""
    remedies = tuple(Remedy(name, "", given) for name, given in found["remedies"])
    return Job(remedies, found["draw"], found["share"], found["late"])
