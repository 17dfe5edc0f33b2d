"""Watch: the block in which a live PyTorch model is watched, and the verdict at its end."""

from __future__ import annotations

import math
import os
import time
import warnings
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chainrule.adapters.pytorch.facts import facts_of
from chainrule.adapters.pytorch.objective import objective
from chainrule.adapters.pytorch.observer import MOST_KEPT, Observer
from chainrule.adapters.pytorch.trace import network_trace
from chainrule.adapters.pytorch.trials import MOST_ROWS, Task, practitioners_checks, rows_between, standing_facts, tried
from chainrule.errors import ArgumentError, ChainruleWarning
from chainrule.record import Record, RunRecord, Step, series, write_record
from chainrule.record.facts import StandingFacts, TrialFacts
from chainrule.record.trace import NetworkTrace

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainrule.adapters.pytorch.batches import Batch
    from chainrule.doctor.report import Report
    from chainrule.doctor.trials import Trials
    from chainrule.see.budget import Flow
    from chainrule.see.explanation import Explanation

MOST_BATCHES = 32
"""Batches that standing is measured on."""

WELL = 0.9
"""Progress from which on no trial is made: the run learned what there is."""

BUDGET = 6.0
"""Seconds for trials at the end of a block; those of a training that did well take none."""


class Watch:
    """What `chainrule.watch` returns; see there. Its record grows while the block runs and stays after it."""

    def __init__(
        self, model: Any, optimizer: Any = None, loss: Any = None, every: int | None = None, run_dir: Any = None
    ) -> None:
        if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise ArgumentError(f"watch: every is a whole number of updates from 1 on, got {every!r}")
        self.observer = Observer(model, _optimizers(optimizer), loss, every)
        self.run_dir = None if run_dir is None else Path(os.fspath(run_dir))
        self._left = False
        self._trials: tuple[int, StandingFacts | None, TrialFacts | None] | None = None

    def __enter__(self) -> Watch:
        if self._left:
            raise ArgumentError("this watch has ended; call chainrule.watch again for another block")
        if self.run_dir is not None and (self.run_dir / "record.sqlite").exists():
            raise ArgumentError(f"watch: {str(self.run_dir)!r} holds a record already. Give a new directory as run_dir")
        try:
            self.observer.attach()
        except BaseException:
            self.observer.detach()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        self.stop()
        if error is None:
            self._end()
            return
        try:
            self._end()
        except Exception as fault:  # the block's own exception is what the user has to see
            warnings.warn(f"the watched run could not be examined: {fault}", ChainruleWarning, stacklevel=2)

    def stop(self) -> None:
        """Take the hooks away. What was seen stays, and nothing is printed."""
        self.observer.detach()
        self._left = True

    def _end(self) -> None:
        if self.run_dir is not None:
            self._write(self.run_dir)
        print(self.verdict(), flush=True)

    def verdict(self) -> str:
        """What the block's end prints."""
        seen = self.observer
        if not any(True for _ in seen.model.parameters()):
            return (
                f"watched {type(seen.model).__name__}: it has no parameters, so there is nothing to learn or to judge"
            )
        if not seen.steps:
            skipped = f"; loss scaling left out all {seen.loop.skipped}" if seen.loop.skipped else ""
            if not skipped:
                name = type(seen.model).__name__
                return f"watched {name}: no optimizer made an update in the block, so there is nothing to judge"
        lines = [str(self.examine())]
        if seen.hidden is not None:
            lines.append(f"not seen: {seen.hidden}")
        lines += [f"not seen: {what}, by a fault in chainrule ({error})" for what, error in seen.faults.items()]
        return "\n".join(lines)

    def record(self) -> RunRecord:
        """The run so far, as the doctor reads it."""
        seen = self.observer
        record = RunRecord(
            facts=facts_of(seen, finished=self._left),
            loss=series(seen.loss_values()),
            learning_rate=series(seen.rates),
            measurements=MappingProxyType({}),
        ).with_measurements(seen.measurements)
        return self._tried(record)

    def _tried(self, record: RunRecord) -> RunRecord:
        """The record with where training stands and, where it went badly, with trials, all on copies of the model."""
        task = self._task()
        if task is None:
            return record
        if self._trials is None or self._trials[0] != self.observer.steps:
            with self.observer.aside():
                self._trials = (self.observer.steps, *self._measured_trials(task, record))
        _, standing, trials = self._trials
        return replace(record, facts=replace(record.facts, standing=standing, trials=trials))

    def _measured_trials(self, task: Task, record: RunRecord) -> tuple[StandingFacts | None, TrialFacts | None]:
        from chainrule.doctor.standing import standing_of

        began = time.perf_counter()
        data = record.facts.data
        baseline = data.target.baseline if data is not None and data.target is not None else None
        standing = standing_facts(task, self.observer.steps)
        if standing is None or (standing_of(record).progress or 0.0) >= WELL:
            return standing, None
        standing = tried(task, standing, baseline or abs(standing.loss), BUDGET / 2)
        first, left = self.observer.first, BUDGET - (time.perf_counter() - began)
        if first is None or left <= 0:
            return standing, None
        return standing, practitioners_checks(replace(task, first=first), baseline, left)

    def _task(self) -> Task | None:
        seen = self.observer
        loss = objective(seen.criterion, None if seen.seen is None else seen.seen.loss)
        batches = [b for b in seen.batches.kept if b.target is not None and b.x is not None][:MOST_BATCHES]
        if loss is None or not batches or seen.output is None or not seen.steps:
            return None
        optimizer = seen.optimizers[0] if seen.optimizers else None
        rate = max(seen.rates) if seen.rates else None
        return Task(seen.model, [rows_between(b, 0, MOST_ROWS) for b in batches], loss, optimizer, None, rate)

    def trace(self) -> NetworkTrace:
        """The latest step that was measured in full, as arrays. ArgumentError: there is none."""
        seen = self.observer
        if seen.last is None:
            reason = seen.hidden or "no update was made whose layers could be seen. Take a step in the block first"
            raise ArgumentError(f"watch: there is no step to look into: {reason}")
        loss = objective(seen.criterion, None if seen.seen is None else seen.seen.loss)
        return network_trace(seen.last, seen.model, loss, "loss" if seen.seen is None else seen.seen.loss)

    def flow(self) -> Flow:
        """Layer by layer, where the signal of the latest measured step lives or dies."""
        from chainrule.see.budget import flow_trace

        return flow_trace(self.trace())

    def explain(self, name: Any = None, *, sample: int | None = None) -> Explanation:
        """One weight of the latest measured step ("0.weight[7, 2]"): activation x error, by sample and by path."""
        from chainrule.see.explanation import explain_trace

        return explain_trace(self.trace(), name, sample=sample)

    def examine(self) -> Report:
        """The doctor's Report on the run so far; its ``treat`` replays the run's beginning on copies of the model."""
        from chainrule.doctor.settings import settings_from
        from chainrule.doctor.verdict import judge

        report = judge(self.record(), settings_from(), title=type(self.observer.model).__name__)
        return replace(report, treatment=self._treatment)

    def _treatment(self, report: Report, given: Any, workers: int | None = None, **options: Any) -> Trials:
        """What `Report.treat` calls. given: batches in place of those that were kept."""
        from chainrule.adapters.pytorch.diagnose import batches_of
        from chainrule.adapters.pytorch.treat import treat_model

        task = self._replayed(None if given is None else batches_of(given))
        with self.observer.aside():
            return treat_model(task, report, notes=self._not_replayed(), **options)

    def _replayed(self, given: list[Batch] | None) -> Task:
        """The training as it began. ArgumentError names what of it was not kept."""
        seen, ways = self.observer, "chainrule.diagnose(model, loader, loss=criterion, optimizer=optimizer).treat()"
        loss = objective(seen.criterion, None if seen.seen is None else seen.seen.loss)
        if not seen.steps:
            raise ArgumentError("treat: no update was made in the block, so there is nothing to replay")
        if seen.first is None:
            raise ArgumentError(
                f"treat: the weights at the beginning were not kept, as the model has more than {MOST_KEPT:,} numbers. "
                f"Build the model anew and call {ways}"
            )
        if loss is None or (seen.criterion is None and not self._is_whole(loss)):
            raise ArgumentError(
                "treat: the loss was not given, and what its graph shows is none of PyTorch's own, or not all. Call "
                "chainrule.watch(model, optimizer, loss=criterion), with a function of (prediction, target)"
            )
        if len(seen.optimizers) > 1:
            raise ArgumentError(
                f"treat: {len(seen.optimizers)} optimizers made updates of this model, and a replay follows one. Watch "
                f"a part that one of them trains, or call {ways}"
            )
        batches = given or [b for b in seen.batches.distinct() if b.target is not None and b.x is not None]
        if not batches:
            raise ArgumentError(
                "treat: no batch was kept with its target, which is seen where the criterion is a torch.nn.Module or "
                "one of torch.nn.functional's. Call report.treat(data=loader)"
            )
        return Task(seen.model, batches, loss, seen.optimizers[0], seen.first, max(seen.rates))

    def _is_whole(self, loss: Callable[[Any, Any], Any]) -> bool:
        """Whether the loss that the graph shows is all of the loss, as far as the first batch tells."""
        seen, first = self.observer, next(iter(self.observer.batches.kept), None)
        if first is None or first.prediction is None or first.target is None or seen.loop.backwards > seen.steps:
            return True
        return math.isclose(float(loss(first.prediction, first.target)), seen.loss_values()[0], rel_tol=1e-3)

    def _not_replayed(self) -> tuple[str, ...]:
        """What the loop did that replays leave out, each as a sentence of the report."""
        seen = self.observer
        loop = seen.loop
        found = {
            f"the loop made {loop.backwards / max(seen.steps, 1):.3g} backward passes an update, replays make one":
                loop.backwards > 1.5 * seen.steps,
            f"the learning rate went from {max(seen.rates):g} to {min(seen.rates):g}, replays keep the highest":
                min(seen.rates) < max(seen.rates),
            "the loop scaled its loss, replays do not": loop.scaled > 0,
            "the optimizer had moments from before the block, replays begin with fresh ones": seen.moved_before,
        }  # fmt: skip
        return tuple(sentence for sentence, is_so in found.items() if is_so)

    def _write(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        run = self.record()
        with Record.create(directory / "record.sqlite") as store:
            rates, rows = run.learning_rate.values, self.observer.batches.largest
            store.append_steps(
                Step(int(step), 1, float(loss), float(rate), rows, 0.0)
                for step, loss, rate in zip(run.loss.steps, run.loss.values, rates, strict=True)
            )
            write_record(run, store)


def _optimizers(given: Any) -> list[Any]:
    import torch

    found = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
    for one in found:
        if not isinstance(one, torch.optim.Optimizer):
            raise ArgumentError(
                f"watch: the optimizer is a torch.optim.Optimizer or a list of them, got {type(one).__name__}. Call "
                "watch(model, optimizer, loss=criterion), or leave it out and it is found"
            )
    return found
