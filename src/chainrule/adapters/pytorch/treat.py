"""Treat: what a user's loop can change, tried on copies of a PyTorch model, and what it proves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.adapters.pytorch.batches import Batch
from chainrule.adapters.pytorch.trials import Task, begun, optimizer_for, untouched
from chainrule.doctor.treat.compare import FEWEST, MARGIN, Comparison
from chainrule.doctor.treat.prescribe import BY_HAND
from chainrule.doctor.trials import Trial, Trials, Verdict, titled
from chainrule.errors import ArgumentError

if TYPE_CHECKING:
    from chainrule.doctor.finding import Finding
    from chainrule.doctor.report import Report
    from chainrule.doctor.rule import Remedy

STEPS = 200
"""Updates of each replay."""

LEAST = 30
"""Updates below which nothing is tried."""

LOST = -1.0
"""The score of a training that ended in NaN or below the worst that is told apart."""


@dataclass(frozen=True)
class Loop:
    """What a training loop chooses. rate, optimizer (a class of torch.optim): None as the user's."""

    rate: float | None = None
    optimizer: str | None = None
    clip: float | None = None
    standardised: bool = False
    longer: int = 1


def changed(loop: Loop, remedy: Remedy, task: Task) -> tuple[Loop, str] | None:
    """The loop with a remedy, and its line; None where the remedy is not one of the loop."""
    given = remedy.parameters
    if remedy.id == "scale-learning-rate":
        rate = float(f"{given.get('lr') or task.lr * given.get('factor', 1.0):.6g}")
        return replace(loop, rate=rate), f"- lr={task.lr:g}\n+ lr={rate:g}"
    if remedy.id == "change-optimizer":
        name, rate = given["optimizer"], given.get("lr", 1e-3)
        if type(task.optimizer).__name__ == name and task.lr == rate:
            return None
        return replace(
            loop, optimizer=name, rate=rate
        ), f"+ optimizer = torch.optim.{name}(model.parameters(), lr={rate:g})"
    if remedy.id == "clip" and given.get("clip_norm"):
        line = (
            f"+ torch.nn.utils.clip_grad_norm_(model.parameters(), {given['clip_norm']:g})    # before optimizer.step()"
        )
        return replace(loop, clip=given["clip_norm"]), line
    if remedy.id == "standardise-inputs" and all(b.x is not None and b.x.is_floating_point() for b in task.batches):
        return replace(loop, standardised=True), "+ x = (x - mean) / std    # of each column of the training rows"
    if remedy.id == "train-longer":
        return replace(loop, longer=int(given.get("factor", 10))), f"{given.get('factor', 10)} times as many updates"
    return None


def treat_model(
    task: Task, report: Report, *, budget: float = 120.0, on_trial: Callable[[Trial], None] | None = None,
    remedies: Sequence[Remedy] = (), notes: tuple[str, ...] = (),
) -> Trials:  # fmt: skip
    """Try what a loop can change, on copies that begin with the task's first weights; the model stays as it is.

    notes: what the replays do not repeat of the training that they stand for.
    """
    import torch

    began = time.perf_counter()
    with untouched(), torch.enable_grad():
        course = _Course(task, report, began + budget, on_trial or (lambda trial: print(trial, flush=True)))
        found = course.run(remedies)
    return replace(found, budget=budget, seconds=time.perf_counter() - began, notes=(*found.notes, *notes))


class _Course:
    def __init__(self, task: Task, report: Report, deadline: float, on_trial: Callable[[Trial], None]) -> None:
        self.task, self.report, self.deadline, self.on_trial = task, report, deadline, on_trial
        self.known: dict[tuple[Loop, int], float] = {}
        self.steps = STEPS
        self.baseline = self._baseline()

    def _baseline(self) -> float:
        data = self.report.record.facts.data
        base = data.target.baseline if data is not None and data.target is not None else None
        return base or _loss(self.task, begun(self.task), Loop()) or 1.0

    def run(self, remedies: Sequence[Remedy]) -> Trials:
        began = time.perf_counter()
        self.steps = LEAST
        self.score(Loop(), 0)
        pace = (time.perf_counter() - began) / LEAST
        left = self.deadline - time.perf_counter()
        self.steps = int(min(STEPS, max(LEAST, 0.7 * left / max(pace * 4 * FEWEST, 1e-9))))
        self.known.clear()
        asked = [(None, tuple(remedies))] if remedies else [(f, (r,)) for f in self.report.flags for r in f.remedy]
        trials, untried, by_hand, nothing = [], [], [], []
        for finding, chosen in asked:
            named = f"{' and '.join(map(titled, chosen))}{'' if finding is None else f' for {finding.code}'}"
            loop, lines = self._changed(chosen)
            if any(r.id in BY_HAND for r in chosen):
                by_hand.append(f"{named}: {BY_HAND[chosen[0].id]}")
            elif loop is None:
                nothing.append(f"{named}: layers, first weights and loss of a module of your own are yours to change")
            elif time.perf_counter() > self.deadline:
                untried.append(named)
            else:
                trials.append(self._settled(finding, chosen, loop, lines))
                self.on_trial(trials[-1])
        cures = [t for t in trials if t.proven and float(np.mean(t.after)) >= MARGIN]
        best = max(cures, key=lambda t: float(np.mean(t.after)), default=None)
        note = f"replays made {self.steps} updates of the first {sum(len(b.x) for b in self.task.batches):,} rows"
        return Trials(tuple(trials), best, tuple(untried), tuple(by_hand), tuple(nothing), (note,))

    def _changed(self, remedies: Sequence[Remedy]) -> tuple[Loop | None, str]:
        loop, lines = Loop(), []
        for remedy in remedies:
            found = changed(loop, remedy, self.task)
            if found is None:
                return None, ""
            loop = found[0]
            lines.append(found[1])
        return loop, "\n".join(lines)

    def _settled(self, finding: Finding | None, remedies: tuple[Remedy, ...], loop: Loop, lines: str) -> Trial:
        began = time.perf_counter()
        seeds, late = 1, False
        compared = self._compared(loop, 1)
        while compared.open:
            if time.perf_counter() > self.deadline:
                late = True
                break
            seeds = max(FEWEST, seeds + 1)
            compared = self._compared(loop, seeds)
        verdict: Verdict = "proven" if compared.proven else "worse" if compared.worse else "no effect"
        if late and verdict == "no effect":
            verdict = "unsettled"
        return Trial(
            "" if finding is None else finding.code, "" if finding is None else finding.name, remedies, verdict,
            compared.before, compared.after, "training loss", compared.p, self.steps * loop.longer, lines, lines,
            seconds=time.perf_counter() - began,
        )  # fmt: skip

    def _compared(self, loop: Loop, seeds: int) -> Comparison:
        before, after = (tuple(self.score(each, d) for d in range(seeds)) for each in (Loop(), loop))
        return Comparison(before, after)

    def score(self, loop: Loop, draw: int) -> float:
        """The share of a constant prediction's loss that a replay takes away; `draw` is the order of its batches."""
        if (loop, draw) not in self.known:
            made = trained(self.task, loop, self.steps * loop.longer, draw)
            loss = None if made is None else _loss(self.task, made, loop)
            score = LOST if loss is None else (self.baseline - loss) / abs(self.baseline)
            self.known[loop, draw] = max(LOST, score)
        return self.known[loop, draw]


def trained(task: Task, loop: Loop, steps: int, draw: int) -> Any:
    """A copy of the model after so many updates; None if a loss was not finite."""
    import torch

    made = begun(task)
    if made is None:
        raise ArgumentError(f"treat: this {type(task.model).__name__} cannot be copied by copy.deepcopy")
    torch.manual_seed(draw)
    random = np.random.default_rng(draw)
    if loop.optimizer is not None:
        optimizer = getattr(torch.optim, loop.optimizer)(made.parameters(), lr=loop.rate)
    else:
        optimizer = optimizer_for(task, made, loop.rate)
    batches = _cut(_inputs(task, loop))
    order: list[int] = []
    for _ in range(steps):
        order = order or random.permutation(len(batches)).tolist()
        batch = batches[order.pop()]
        optimizer.zero_grad()
        value = task.loss(made(*batch.args, **batch.kwargs), batch.target)
        if not torch.isfinite(value) or not value.requires_grad:
            return None
        value.backward()
        if loop.clip is not None:
            torch.nn.utils.clip_grad_norm_(made.parameters(), loop.clip)
        optimizer.step()
    return made


ROWS = 32
"""Rows of an update where one batch holds all."""


def _cut(batches: list[Batch]) -> list[Batch]:
    """Several batches as they are; one alone in parts, so that another order is another training."""
    if len(batches) > 1 or batches[0].kwargs or len(batches[0].args) != 1 or len(batches[0].x) < 2 * ROWS:
        return batches
    x, y = batches[0].x, batches[0].target
    return [Batch((x[i : i + ROWS],), {}, y[i : i + ROWS]) for i in range(0, len(x) - ROWS + 1, ROWS)]


def _inputs(task: Task, loop: Loop) -> list[Batch]:
    if not loop.standardised:
        return task.batches
    import torch

    rows = torch.cat([b.x for b in task.batches])
    axes = (0,) if rows.dim() <= 2 else (0, *range(2, rows.dim()))
    mean, std = rows.mean(axes, keepdim=True), rows.std(axes, keepdim=True, correction=0)
    std = torch.where(std > 0, std, torch.ones_like(std))
    return [Batch(((b.x - mean) / std, *b.args[1:]), b.kwargs, b.target) for b in task.batches]


def _loss(task: Task, model: Any, loop: Loop) -> float | None:
    """The mean loss over the batches in evaluation mode; None if it is not finite."""
    import torch

    if model is None:
        return None
    model.eval()
    with torch.no_grad():
        found = [(len(b.x), float(task.loss(model(*b.args, **b.kwargs), b.target))) for b in _inputs(task, loop)]
    mean = sum(n * v for n, v in found) / sum(n for n, _ in found)
    return mean if np.isfinite(mean) else None
