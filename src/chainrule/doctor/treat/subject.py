"""The subject of a report: the training that was examined, as a plan, and how a treated one is examined again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.doctor.report import Report
from chainrule.doctor.settings import Settings
from chainrule.doctor.treat.compare import MARGIN
from chainrule.doctor.treat.plan import Plan, Rows, Start, config_of, copy_of, plan_of_run, truth_of
from chainrule.doctor.treat.replay import LOST, Replays, measured
from chainrule.doctor.treat.treat import treat
from chainrule.doctor.trial.practice import Task
from chainrule.doctor.trials import Trials
from chainrule.errors import ArgumentError, CheckpointError
from chainrule.nn import Module
from chainrule.record import RunDirectory, RunRecord
from chainrule.record.facts import TrainingFacts
from chainrule.training.head import targets_for

if TYPE_CHECKING:
    from chainrule.training.run import Run

LOOK = 3.0
"""Seconds of trials when a treated training is examined again."""

PLANNED = 1000
"""Updates of a replay where nobody said how long training shall be: as many as ten epochs have, to this limit."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What `report.treat()` needs beside the report. plan: made from rows where they were at hand."""

    plan: Plan | None
    settings: Settings | None
    run: Run | None = None

    def treat(self, report: Report, data: Any = None, **options: Any) -> Trials:
        """Try the remedies; see `chainrule.doctor.treat.treat`. data: (x, y), where the rows are gone."""
        plan = self.plan
        if data is not None or plan is None:
            if self.run is None:
                raise ArgumentError("treat: the report of diagnose has its rows; leave data= out")
            plan = plan_with(self.run, report.record, data)
        plan = with_baseline(plan)
        if self.run is not None:
            plan = with_start(plan, self.run, report)
        return treat(report, plan, self.examine, **options)

    def examine(self, plan: Plan, seconds: float) -> Report:
        """Train the plan and examine what came out."""
        from chainrule.doctor.examination import record_of
        from chainrule.doctor.verdict import judge

        _, bench, losses = Replays()(plan, "once")
        net = plan.net if bench is None else bench.net
        run = run_of(plan, net, losses)
        rows = plan.x, plan.y
        return judge(record_of(run, rows, min(LOOK, seconds)), self.settings)


def run_of(plan: Plan, net: Module, losses: list[float]) -> Run:
    """A replay as a run, for a look at it."""
    from chainrule.training.run import Run

    epoch = max(1, len(losses) // plan.updates_an_epoch)
    return Run(net, config_of(plan), losses=losses, step=len(losses), epoch=epoch, loss=plan.loss)


def subject_of_run(run: Run, data: Any, record: RunRecord, settings: Settings | None) -> Subject:
    """The subject of a run's report, with a plan if all its rows are at hand."""
    if data is None and run.data is None:
        return Subject(None, settings, run)
    return Subject(plan_with(run, record, data), settings, run)


def plan_with(run: Run, record: RunRecord, data: Any) -> Plan:
    """The training that a run made. ArgumentError: its rows are gone and not given."""
    from chainrule.doctor.examination import rows_of

    rows = rows_of(run, data)
    if rows is None:
        raise ArgumentError(
            f"treat: a replay needs all rows of the run, and {str(run.path)!r} keeps those of a few batches only: give "
            "them, report.treat(data=(x, y)), as the network and the loss take them"
        )
    held: Rows | None = None
    if run.data is not None and run.data.validation_x is not None and run.data.validation_y is not None:
        held = run.data.validation_x, targets_for(run.config.loss.name, run.data.validation_y)
    formula = record.facts.head.loss if record.facts.head is not None else run.config.loss.name
    drawn = not any(True for _ in record.layers) or any(layer.init is not None for layer in record.layers)
    broke_off = record.facts.not_finite is not None and run.config.on_nan == "stop"
    return plan_of_run(run, rows, held, formula, drawn, broke_off)


def with_start(plan: Plan, run: Run, report: Report) -> Plan:
    """The plan with the run's last checkpoint before it went wrong, if there is one.

    That is the latest at which training stood better than at its end, and before the step that the first finding names.
    Without shuffled batches nothing would differ from seed to seed, so nothing could be proven from there.
    """
    if run.path is None or plan.patience is not None or not plan.shuffle or plan.batch_size >= len(plan.x):
        return plan
    if run.config.accumulate > 1 or not report.flags:
        return plan
    before = min(report.flags[0].step or plan.steps, plan.steps)
    end = LOST if report.record.facts.not_finite is not None else measured(plan, run.net).progress
    with RunDirectory.open(run.path) as directory:
        for step in sorted((s for s in directory.checkpoints() if 0 < s < before), reverse=True):
            try:
                found = directory.load(step)
            except CheckpointError:
                continue
            if found.header["skipped"]:
                continue
            net = copy_of(plan.net)
            net.load_state_dict({n.removeprefix("net."): a for n, a in found.arrays.items() if n.startswith("net.")})
            if measured(plan, net.eval()).progress >= end + MARGIN:
                position, schedule = found.header["position"], found.header["schedule"]
                return replace(
                    plan, start=Start(step, position["epoch"], position["batch"], dict(found.arrays), schedule)
                )
    return plan


def subject_of_task(task: Task, formula: str, training: TrainingFacts, settings: Settings | None) -> Subject:
    """The subject of a diagnosis: the training that was planned."""
    plan = Plan(
        net=copy_of(task.net), loss=task.loss, loss_name=formula, x=task.x, y=task.y, held=None,
        truth=truth_of(task.y, formula), optimizer=task.optimizer, steps=1,
        batch_size=min(task.batch_size, len(task.x)), options=task.options, shuffle=training.shuffle is not False,
        seed=task.seed, backend=task.backend,
    )  # fmt: skip
    steps = training.planned_steps or min(10 * plan.updates_an_epoch, PLANNED)
    return Subject(replace(plan, steps=max(steps, 1)), settings)


def with_baseline(plan: Plan) -> Plan:
    """The plan with a loss to measure progress by: that of a constant prediction, or else of the first weights."""
    if plan.truth.baseline:
        return plan
    first = measured(plan, copy_of(plan.net).initialise(plan.seed)).loss
    return replace(plan, truth=replace(plan.truth, baseline=first if np.isfinite(first) and first else 1.0))
