"""Replay: train a plan once, from its seed, and measure what it reached."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chainrule.data.batches import batch_slices, permutation
from chainrule.doctor.treat.plan import Plan, Rows, Start, copy_of, forget, truth_of
from chainrule.errors import ChainruleError, NonFiniteError
from chainrule.graph import Tensor, constant, no_grad
from chainrule.nn import Module
from chainrule.nn.module import State
from chainrule.record.measure_rows import sampled
from chainrule.training.step import TrainingStep

MEASURED = 4096
"""Rows of each part that a result is measured on, evenly chosen."""

SECONDS_A_CALL = 0.25
"""Seconds of updates between two looks at the clock."""

LOST = -1.0
"""The score of a training that ended in NaN or below the worst that is told apart."""

BENCHES = 6
"""Compiled steps that a process keeps."""


@dataclass(frozen=True)
class Outcome:
    """What one replay reached, measured in evaluation mode.

    progress: share of a constant prediction's loss that was taken away; skill: share of what a constant prediction gets
    wrong that is right: of classes balanced accuracy above chance, of numbers R2. Both: 0 for a constant, 1 for a
    perfect prediction, not below -1. `held_...`: on the validation part.
    """

    progress: float
    skill: float
    loss: float
    held_progress: float | None = None
    held_skill: float | None = None
    steps: int = 0
    seconds: float = 0.0
    whole: bool = True
    """Whether it came to its end before its time was up."""
    fault: str = ""
    """Why it ended early or never began."""


def failed(fault: str, steps: int = 0) -> Outcome:
    """The outcome of a replay that could not be made, or lost its weights to NaN."""
    return Outcome(LOST, LOST, math.inf, steps=steps, fault=fault)


class Bench:
    """A network with its compiled step, on which plans of the same shapes are replayed one after another."""

    def __init__(self, plan: Plan) -> None:
        self.net = copy_of(plan.net)
        if plan.drawn:
            forget(self.net)
        self.net.initialise(plan.seed)
        self.start = {n: s.array.copy() for n, s in self.net._named_states(State) if s.kept}
        loss = plan.loss

        def forward(x: Tensor, y: Tensor) -> Tensor:
            return loss(self.net(x), y)

        self.step = TrainingStep(forward, self.net, plan.optimizer, plan.options, plan.backend, plan.seed)
        self.moments = {slot: flat.copy() for slot, flat in self.step.state.moments.items()}

    def begin(self, seed: int, start: Start | None = None) -> None:
        """First weights of the seed, or those that the plan's network held; moments as before the first update.

        start: weights, moments and count of a checkpoint instead.
        """
        forget(self.net)  # training keeps what it made
        self.net.train().initialise(seed)
        for name, state in self.net._named_states(State):
            if name in self.start:
                state.fill(self.start[name])
        for slot, flat in self.step.state.moments.items():
            flat[...] = self.moments[slot]
        self.step.state.step, self.step.seed = 0, seed
        if start is not None:
            self.step.state.load(start.arrays, start.step)


class Replays:
    """Replays of one process: each compiled step is made once and serves every seed and learning rate."""

    def __init__(self) -> None:
        self.benches: dict[Hashable, Bench] = {}

    def __call__(
        self, plan: Plan, step: Hashable, deadline: float = math.inf
    ) -> tuple[Outcome, Bench | None, list[float]]:
        """(outcome, the bench with the weights that came out, the loss of each update).

        step: equal for plans that one compiled step serves. deadline: of `time.perf_counter`, when to stop early.
        """
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                bench = self._bench(plan, step)
                return self._train(plan, bench, deadline)
            except ChainruleError as error:
                return failed(f"{type(error).__name__}: {error}"), None, []

    def _bench(self, plan: Plan, step: Hashable) -> Bench:
        found = self.benches.pop(step, None) or Bench(plan)
        self.benches[step] = found  # the latest last
        while len(self.benches) > BENCHES:
            del self.benches[next(iter(self.benches))]
        return found

    def _train(self, plan: Plan, bench: Bench, deadline: float) -> tuple[Outcome, Bench, list[float]]:
        began = time.perf_counter()
        bench.begin(plan.seed, plan.start)
        course = _Course(plan, bench, deadline)
        with bench.step.state.training():
            course.run()
        bench.net.eval()
        made, seconds = course.made - course.first, time.perf_counter() - began
        if course.fault:
            return replace(failed(course.fault, made), seconds=seconds), bench, course.losses
        if course.best is not None:
            bench.net.load_state_dict(course.best[1])
        found = replace(measured(plan, bench.net), steps=made, whole=course.whole)
        return replace(found, seconds=time.perf_counter() - began), bench, course.losses


class _Course:
    """The updates of one replay: the same batches as `fit` makes of the plan's seed."""

    def __init__(self, plan: Plan, bench: Bench, deadline: float) -> None:
        self.plan, self.bench, self.deadline = plan, bench, deadline
        start = plan.start or Start(0, 0, 0, {}, plan.schedule.initial() if plan.schedule else {})
        self.first, self.epoch, self.batch = start.step, start.epoch, start.batch
        self.made, self.fault, self.whole = start.step, "", True
        self.losses: list[float] = []
        self.schedule_state = start.schedule
        self.best: tuple[float, dict[str, np.ndarray]] | None = None
        self.waited = 0

    def run(self) -> None:
        plan, epoch, skipped = self.plan, self.epoch, self.batch
        size = min(plan.batch_size, len(plan.x))
        slices = batch_slices(len(plan.x), size, plan.drop_last)
        while self.made < plan.steps and not self.fault and self.whole:
            order = permutation(len(plan.x), plan.seed, epoch) if plan.shuffle else np.arange(len(plan.x))
            self._epoch([order[s] for s in slices[skipped:][: plan.steps - self.made]], epoch)
            epoch, skipped = epoch + 1, 0
            if plan.schedule is not None and self.losses:
                held = None if plan.held is None else _loss(plan, self.bench.net, plan.held)
                self.schedule_state = plan.schedule.observe(
                    self.schedule_state, self.losses[-1] if held is None else held
                )
            if plan.patience is not None and plan.held is not None and self._stops():
                return

    def _epoch(self, batches: list[np.ndarray], epoch: int) -> None:
        first = 0
        while first < len(batches) and not self.fault and self.whole:
            size, last = len(batches[first]), first
            while last < len(batches) and len(batches[last]) == size and last - first < self._many():
                last += 1
            chosen = np.stack(batches[first:last])
            rates = self._rates(len(chosen), epoch)
            losses, error = self.bench.step.many((self.plan.x, self.plan.y), chosen, rates)
            self.losses += [float(v) for v in losses]
            self.made += len(losses)
            first += len(losses)
            if error is not None:
                first += 1
                self._left_out(error)
            self.whole = time.perf_counter() < self.deadline or self.made >= self.plan.steps

    def _many(self) -> int:
        return 64 if math.isfinite(self.deadline) else 4096

    def _rates(self, count: int, epoch: int) -> list[float]:
        schedule, base = self.plan.schedule, self.plan.optimizer.lr
        if schedule is None:
            return [base] * count
        by_step = schedule.every == "step"
        return [schedule.rate(base, self.made + i if by_step else epoch, self.schedule_state) for i in range(count)]

    def _left_out(self, error: NonFiniteError) -> None:
        if self.plan.skip_bad:
            self.made += 1
            return
        self.fault = f"not finite at update {self.made + 1:,}"

    def _stops(self) -> bool:
        """Whether the validation loss got no better for long enough; the best weights are kept."""
        plan, net = self.plan, self.bench.net
        now = _loss(plan, net, plan.held)  # type: ignore[arg-type]
        if self.best is None or now < self.best[0]:
            self.best, self.waited = (now, net.state_dict()), 0
            return False
        self.waited += 1
        return self.waited >= (plan.patience or 0)


# -------------------------------------------------------------------------------------------- what was reached


def measured(plan: Plan, net: Module) -> Outcome:
    """Progress and skill on the training rows and on those held out."""
    told = plan.told or (plan.y, None if plan.held is None else plan.held[1])
    chosen = sampled(len(plan.x), MEASURED)
    progress, skill, loss = _scores(plan, net, (plan.x[chosen], plan.y[chosen]), told[0][chosen])
    found = Outcome(progress, skill, loss)
    if plan.held is None or not len(plan.held[0]):
        return found
    some = sampled(len(plan.held[0]), MEASURED)
    held_progress, held_skill, _ = _scores(plan, net, (plan.held[0][some], plan.held[1][some]), told[1][some])  # type: ignore[index]
    return replace(found, held_progress=held_progress, held_skill=held_skill)


def _scores(plan: Plan, net: Module, rows: Rows, told: np.ndarray) -> tuple[float, float, float]:
    prediction = net.predict(rows[0])
    if not np.isfinite(prediction).all():
        return LOST, LOST, math.inf
    loss = _loss_of(plan, prediction, rows[1])
    baseline = plan.truth.baseline if plan.scale is None else truth_of(plan.y, plan.loss_name).baseline
    progress = (baseline - loss) / abs(baseline) if baseline else LOST
    if plan.scale is not None:
        prediction = prediction * plan.scale[1] + plan.scale[0]
    return _bounded(progress), _bounded(_skill(plan, prediction, told)), loss


def _bounded(score: float) -> float:
    return max(LOST, score) if math.isfinite(score) else LOST


def _loss(plan: Plan, net: Module, rows: Rows) -> float:
    return _loss_of(plan, net.predict(rows[0]), rows[1])


def _loss_of(plan: Plan, prediction: np.ndarray, y: np.ndarray) -> float:
    with no_grad():
        return float(plan.loss(constant(prediction), constant(y)).item())


def _skill(plan: Plan, prediction: np.ndarray, told: np.ndarray) -> float:
    """Balanced accuracy above chance for classes and yes-or-no labels; R2 for numbers."""
    kind = plan.truth.kind
    flat = prediction.reshape(len(prediction), -1).astype(np.float64)
    if kind == "numbers":
        truth = told.reshape(len(told), -1).astype(np.float64)
        if plan.loss_name == "cross_entropy" and truth.shape[1] == 1:  # numbers that were taken for classes
            flat = flat.argmax(axis=1).astype(np.float64).reshape(-1, 1)
        if truth.shape != flat.shape:
            return LOST
        rest = float(((truth - truth.mean(axis=0)) ** 2).sum())
        return 1 - float(((truth - flat) ** 2).sum()) / rest if rest else 0.0
    if kind == "labels":
        said = told.reshape(len(told), -1) > 0.5
        logits = plan.loss_name.endswith("with_logits")
        if flat.shape != said.shape:
            return _balanced(flat.argmax(axis=1), said[:, 0].astype(int)) if said.shape[1] == 1 else LOST
        return _balanced((flat > (0.0 if logits else 0.5)).reshape(-1).astype(int), said.reshape(-1).astype(int))
    classes = told.argmax(axis=1) if told.ndim > 1 and told.shape[1] > 1 else told.reshape(-1).astype(np.int64)
    found = flat.argmax(axis=1) if flat.shape[1] > 1 else np.rint(flat[:, 0])
    return _balanced(found, classes)


def _balanced(found: np.ndarray, truth: np.ndarray) -> float:
    """(mean over classes of the share that was found - 1 / classes) / (1 - 1 / classes)."""
    classes = np.unique(truth[truth >= 0])
    if len(classes) < 2:
        return 0.0
    recall = float(np.mean([(found[truth == c] == c).mean() for c in classes]))
    return (recall - 1 / len(classes)) / (1 - 1 / len(classes))


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """Plain numbers; infinity becomes None."""
    return {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in vars(outcome).items()}


def outcome_of(found: dict[str, Any]) -> Outcome:
    """What `as_dict` wrote."""
    return Outcome(**found | {"loss": math.inf if found["loss"] is None else found["loss"]})
