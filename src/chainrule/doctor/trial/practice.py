"""The checks that practitioners run by hand, on copies of a network: short trainings within a budget of time."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from chainrule.doctor.trial.observe import Look, Observer
from chainrule.errors import NonFiniteError
from chainrule.graph import Tensor
from chainrule.nn import Module
from chainrule.optim import Adam, Optimizer
from chainrule.record import Quantity, measurements_of
from chainrule.record.facts import StandingFacts, SweepPoint, TrialFacts
from chainrule.training.options import StepOptions
from chainrule.training.step import TrainingStep

Loss = Callable[..., Tensor]

TRIAL_STEPS = 100
FEWEST_STEPS = 20
"""Steps of a trial that even the slowest network makes: fewer say nothing."""

TRIALS_OF_ALL = 12
"""Trials that a budget is for."""

OVERFIT_ROWS = 16
SWEEP = (0.1, 10.0, 0.01, 100.0)
"""Factors of the learning rate that was asked for, the most telling first."""

ALIKE = 0.02
"""Share of the constant prediction's loss within which two rates of a sweep end alike."""

TRIAL_RATES = (1e-3, 1e-2)
"""Learning rates of Adam in a trial that asks what could still be gained: its default, and ten times that."""

DRAWS = 20


@dataclass(frozen=True)
class Task:
    """What is trained: a network, rows and targets as the loss takes them, and the way in which it is done."""

    net: Module
    loss: Loss
    x: np.ndarray
    y: np.ndarray
    optimizer: Optimizer
    batch_size: int = 32
    options: StepOptions = field(default_factory=StepOptions)
    seed: int = 0
    backend: str | None = None


class Trials:
    """Short trainings of a copy of the network, each from the same weights; the network itself never changes."""

    def __init__(self, task: Task, optimizer: Optimizer | None = None) -> None:
        self.task = task
        self.net = copy.deepcopy(task.net).train()
        self.present = self.net.state_dict()
        self.optimizer = task.optimizer if optimizer is None else optimizer
        self.step = TrainingStep(self._forward, self.net, self.optimizer, task.options, task.backend, task.seed)
        self.moments = {slot: flat.copy() for slot, flat in self.step.state.moments.items()}

    def _forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.task.loss(self.net(x), y)

    def train(
        self,
        steps: int,
        lr: float,
        first: dict[str, np.ndarray] | None = None,
        x: np.ndarray | None = None,
        y: np.ndarray | None = None,
        among: int | None = None,
    ) -> np.ndarray:
        """Losses of `steps` updates, float64 [steps]; infinite from the update on that could not be made.

        first: weights by name to begin with, instead of those that the network has. x, y: rows in place of the task's,
        of the same shapes. among: only the first so many rows, over and over.
        """
        x, y = self.task.x if x is None else x, self.task.y if y is None else y
        state = self.step.state
        self.net.load_state_dict(self.present | (first or {}))
        for slot, flat in state.moments.items():
            flat[...] = self.moments[slot]
        state.step = 0
        order = _order(min(among or len(x), len(x)), steps, min(self.task.batch_size, len(x)), self.task.seed)
        losses = np.full(steps, math.inf)
        with np.errstate(all="ignore"):
            made, _ = self._many((x, y), order, [lr] * steps)
        losses[: len(made)] = np.where(np.isfinite(made), made, math.inf)
        return losses

    def steps_within(self, budget: float) -> int:
        """Steps of each trial, so that all trials of an examination take about `budget` seconds."""
        self.train(1, self.optimizer.lr)  # compiles
        began = time.perf_counter()
        self.train(2, self.optimizer.lr)
        each = (time.perf_counter() - began) / 2
        return max(FEWEST_STEPS, min(TRIAL_STEPS, int(budget / TRIALS_OF_ALL / max(each, 1e-9))))

    def _many(self, rows: Any, batches: np.ndarray, rates: list[float]) -> tuple[np.ndarray, Any]:
        try:
            return self.step.many(rows, batches, rates)
        except NonFiniteError as error:
            return np.zeros(0), error


def _order(rows: int, steps: int, size: int, seed: int) -> np.ndarray:
    """Rows of each batch, int64 [steps, size]: permutations one after another, so far as they are needed."""
    random = np.random.default_rng(seed)
    if rows >= steps * size:
        return random.choice(rows, steps * size, replace=False).reshape(steps, size)
    repeats = -(-steps * size // rows)
    return np.concatenate([random.permutation(rows) for _ in range(repeats)])[: steps * size].reshape(steps, size)


def ending(losses: np.ndarray) -> float:
    """The loss at the end of a trial: the mean of its last fifth."""
    return float(np.mean(losses[-max(len(losses) // 5, 1) :]))


def practitioners_checks(
    trials: Trials, initial: float, expected: float | None, budget: float, first: dict[str, np.ndarray] | None = None
) -> TrialFacts:
    """A sweep of learning rates, one batch overfitted, shuffled labels, zeroed inputs: what `budget` seconds allow.

    first: first weights by name, if they are not those that the network has.
    """
    began, task = time.perf_counter(), trials.task
    lr, steps = task.optimizer.lr, trials.steps_within(budget)
    facts = TrialFacts(rows=len(task.x), initial_loss=initial, expected_loss=expected)

    def left() -> bool:
        return time.perf_counter() - began < budget

    real = trials.train(steps, lr, first)
    facts = replace(facts, trained_loss=ending(real), trial_steps=steps)
    points = [SweepPoint(lr=lr, loss=ending(real))]
    for factor in SWEEP:
        if left():
            points.append(SweepPoint(lr=lr * factor, loss=ending(trials.train(steps, lr * factor, first))))
    facts = replace(facts, sweep=tuple(sorted(points, key=lambda p: p.lr)), sweep_steps=steps)
    best = best_rate(facts)
    for lr in dict.fromkeys((best, min(facts.sweep, key=lambda p: p.loss).lr)):
        if left() and (facts.overfit_after is None or facts.overfit_after > 0.5 * (facts.overfit_before or 0.0)):
            few = trials.train(2 * steps, lr, first, among=OVERFIT_ROWS)
            after = min(ending(few), math.inf if facts.overfit_after is None else facts.overfit_after)
            facts = replace(facts, overfit_before=float(few[0]), overfit_after=after, overfit_steps=2 * steps)
    if left():
        shuffled = task.y[np.random.default_rng(task.seed + 1).permutation(len(task.y))]
        facts = replace(facts, shuffled_loss=ending(trials.train(steps, best, first, y=shuffled)), shuffled_lr=best)
    if left():
        blank = np.zeros(task.x.shape, task.x.dtype)  # takes neither memory nor time, as zeros_like does
        facts = replace(facts, zeroed_loss=ending(trials.train(steps, lr, first, x=blank)))
    return replace(facts, seconds=time.perf_counter() - began)


def best_rate(facts: TrialFacts) -> float:
    """The largest rate of the sweep that ends as low as any, but for chance: of noise all end alike, and tiny ones make
    no step."""
    whole = facts.expected_loss or facts.initial_loss or 0.0
    lowest = min(p.loss for p in facts.sweep)
    return max(p.lr for p in facts.sweep if p.loss <= lowest + ALIKE * abs(whole))


def redraws(observer: Observer, x: np.ndarray, y: np.ndarray, facts: TrialFacts, budget: float) -> TrialFacts:
    """How often other first weights of the same initialisers have a fault, on the same batch."""
    began, counts, draws = time.perf_counter(), dict.fromkeys(FAULTS, 0), 0
    while draws < DRAWS and (draws < 2 or time.perf_counter() - began < budget):
        with np.errstate(all="ignore"):
            look = observer.look(x, y, observer.redrawn(draws + 1))
            found = fault_of(measurements_of(look.trace), look.trace.loss)
        draws += 1
        if found is not None:
            counts[found] += 1
    return replace(facts, draws=draws, probability={name: n / draws for name, n in counts.items()})


FAULTS = ("not finite", "dead layer", "zero error", "vanishing", "exploding")

LOST = 1e-4
"""Share of the error that reaches the first layer, below which the chain vanishes."""


def fault_of(measured: Any, loss: float) -> str | None:
    """The fault that one look shows, if any."""
    table: dict[str, dict[str, float]] = {}
    for m in measured:
        table.setdefault(m.layer, {})[str(m.quantity)] = m.value
    layers = list(table.values())
    if not math.isfinite(loss) or any(q.get(Quantity.NOT_FINITE, 0) for q in layers):
        return "not finite"
    if not layers:
        return None
    errors = [q.get(Quantity.ERROR, 0.0) for q in layers]
    if errors[-1] == 0:
        return "zero error"
    if any(q.get(Quantity.DEAD) == 1 for q in layers):
        return "dead layer"
    if errors[0] < LOST * errors[-1]:
        return "vanishing"
    return "exploding" if errors[0] > errors[-1] / LOST else None


def standing_facts(look: Look, step: int) -> StandingFacts:
    """The gradient of the weights against its sampling noise, over the rows of a look."""
    table = {(m.layer, str(m.quantity)): m.value for m in measurements_of(look.trace)}
    sizes = {layer.name: layer.weight.size for layer in look.trace.layers if layer.weight is not None}
    norm = math.sqrt(sum(n * table.get((k, Quantity.GRADIENT), 0.0) ** 2 for k, n in sizes.items()))
    noise = math.sqrt(sum(n * table.get((k, Quantity.NOISE), 0.0) ** 2 for k, n in sizes.items()))
    return StandingFacts(
        step=step,
        rows=look.trace.rows,
        loss=look.trace.loss,
        gradient_norm=norm,
        gradient_noise=noise,
        zero_gradient=not any(g.any() for g in look.gradients.values()),
    )


@dataclass(frozen=True)
class Curvatures:
    """Second derivatives of the loss: along the gradient, the largest, and the lowest that was found."""

    along: float
    highest: float
    lowest: float


def curvatures(task: Task, x: np.ndarray, y: np.ndarray, iterations: int = 8) -> Curvatures | None:
    """Second derivatives along the gradient, and the extremes that Lanczos' iteration finds; None where there are none.

    Hessian-vector products as central differences of the gradient in float64, whose error of about 1e-8 relative is far
    below what is asked of them.
    """
    net = copy.deepcopy(task.net).to("float64")
    x = x.astype(np.float64) if x.dtype.kind == "f" else x
    observer = Observer(net, task.loss, x, y.astype(np.float64) if y.dtype.kind == "f" else y)
    weights, names = observer.weights(), [n for n in observer.trainable if n not in observer.reasons]
    keyed = observer.named(weights)
    order = {id(w): i for i, w in enumerate(weights)}
    places = [order[id(keyed[n])] for n in names]

    def gradient(shift: list[np.ndarray] | None, scale: float) -> list[np.ndarray]:
        moved = list(weights)
        for i, place in enumerate(places):
            moved[place] = weights[place] if shift is None else weights[place] + scale * shift[i]
        found = observer.look(x, y, moved).gradients
        return [found[n] for n in names]

    def norm(v: list[np.ndarray]) -> float:
        return math.sqrt(sum(float(np.vdot(p, p)) for p in v))

    def product(v: list[np.ndarray]) -> list[np.ndarray]:
        up, down = gradient(v, STEP), gradient(v, -STEP)
        return [(a - b) / (2 * STEP) for a, b in zip(up, down, strict=True)]

    with np.errstate(all="ignore"):
        g = gradient(None, 0)
        size = norm(g)
        if not size or not math.isfinite(size):
            return None
        v = [p / size for p in g]
        products = product(v)
        along = float(sum(np.vdot(a, b) for a, b in zip(v, products, strict=True)))
        if not math.isfinite(along):
            return None
        highest, lowest = _extremes(v, products, product, norm, iterations)
    return Curvatures(along, highest, lowest)


STEP = 1e-5


def _extremes(v: Any, hv: Any, product: Any, norm: Any, iterations: int) -> tuple[float, float]:
    """Largest and lowest eigenvalue by Lanczos' iteration from v: those of its small tridiagonal matrix."""
    basis, alphas, betas = [v], [], []
    w = hv
    for _ in range(iterations):
        alphas.append(sum(float(np.vdot(a, b)) for a, b in zip(w, basis[-1], strict=True)))
        for q in basis:  # full orthogonalisation: there are few
            part = sum(float(np.vdot(a, b)) for a, b in zip(w, q, strict=True))
            w = [a - part * b for a, b in zip(w, q, strict=True)]
        size = norm(w)
        if size < 1e-10 or len(alphas) == iterations:
            break
        betas.append(size)
        basis.append([p / size for p in w])
        w = product(basis[-1])
    values = np.linalg.eigvalsh(
        np.diag(alphas) + np.diag(betas[: len(alphas) - 1], 1) + np.diag(betas[: len(alphas) - 1], -1)
    )
    return float(values[-1]), float(values[0])


@dataclass(frozen=True)
class Endings:
    """Losses that short trials from the present weights end with: of the best of all, at the run's own rate, and at a
    tenth of it; None where the budget was spent."""

    best: float
    own: float
    slower: float | None
    steps: int


def endings(trials: Trials, observer: Observer, x: np.ndarray, y: np.ndarray, budget: float) -> Endings:
    """What short trials from the present weights end with.

    Adam is tried at its usual rates, for the question is only whether anything is left to gain. The losses are those of
    rows x, which the network's own loss is measured on too: a mean over a trial's last batches would be another sample.
    """
    began = time.perf_counter()
    steps = trials.steps_within(2 * budget)  # another half is for the checks that follow

    def after(tried: Trials, lr: float) -> float:
        losses = tried.train(steps, lr)
        if not math.isfinite(losses[-1]):
            return math.inf
        with np.errstate(all="ignore"):
            return observer.look(x, y, observer.replaced(tried.net.state_dict())).trace.loss

    own = best = after(trials, trials.optimizer.lr)
    other = trials
    if not isinstance(trials.optimizer, Adam) and time.perf_counter() - began < budget:
        other = Trials(trials.task, Adam())
    for lr in TRIAL_RATES:
        if time.perf_counter() - began < budget:
            found = after(other, lr)
            best = min(best, found) if math.isfinite(found) else best
    slower = None
    if time.perf_counter() - began < budget:
        slower = after(trials, trials.optimizer.lr / 10)
        best = min(best, slower) if math.isfinite(slower) else best
    return Endings(best, own, slower, steps)
