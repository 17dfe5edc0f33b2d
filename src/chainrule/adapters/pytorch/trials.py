"""Trials: where a PyTorch model stands and what short trainings of copies of it show."""

from __future__ import annotations

import collections
import contextlib
import copy
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chainrule.adapters.pytorch.batches import Batch
from chainrule.record.facts import StandingFacts, SweepPoint, TrialFacts

# The same lengths and rates as for a network of chainrule, so that the rules' thresholds mean the same.
TRIAL_STEPS = 100
OVERFIT_ROWS = 16
SWEEP = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
TRIAL_RATES = (1e-3, 1e-2)
MOST_ROWS = 512
"""Rows that standing is measured on."""

CURVED_ROWS = 128
"""Rows from which curvatures are taken: each costs two gradients in float64 an iteration."""

PIECES = 8
"""Parts that the rows are cut into, to see how much the gradient varies from part to part."""

ITERATIONS = 8

STEP = 1e-5
"""Of a central difference of the gradient in float64, whose error is far below what is asked of it."""


@dataclass(frozen=True, eq=False)
class Task:
    """What is tried: a model, batches with targets, the loss of (prediction, target), and the user's optimizer."""

    model: Any
    batches: list[Batch]
    loss: Callable[[Any, Any], Any]
    optimizer: Any = None
    first: dict[str, Any] | None = None
    """Weights and buffers to begin trials with; None: those that the model has."""
    rate: float | None = None
    """Learning rate of the user's training; None: what the optimizer holds now."""

    @property
    def lr(self) -> float:
        """Learning rate of the user's training."""
        if self.rate is not None:
            return self.rate
        return 1e-3 if self.optimizer is None else float(self.optimizer.param_groups[0]["lr"])


@contextlib.contextmanager
def untouched(generators: Any = ()) -> Iterator[None]:
    """Put every random state back: of PyTorch on all its devices, of NumPy, of Python and of the generators given."""
    import torch

    states = [(g, g.get_state()) for g in generators]
    python, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)
            for generator, state in states:
                generator.set_state(state)


def copy_of(model: Any, training: bool = False) -> Any:
    """A copy of the model without its gradients and hooks; None where it cannot be copied.

    training: in training mode, whatever mode the model is in.
    """
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    # What a hook belongs to, such as a watch that goes on, is not copied with it.
    without: dict[int, Any] = {
        id(getattr(m, name)): collections.OrderedDict() for m in model.modules() for name in hooks
    }
    try:
        made = copy.deepcopy(model, without)
    except (RuntimeError, TypeError, NotImplementedError):
        return None
    for parameter in made.parameters():
        parameter.grad = None
    return made.train() if training else made


def begun(task: Task) -> Any:
    """A copy of the task's model in training mode, with the weights to begin with; None where it cannot be copied."""
    made = copy_of(task.model, training=True)
    if made is not None and task.first is not None:
        made.load_state_dict(task.first)
    return made


def optimizer_for(task: Task, made: Any, lr: float | None = None) -> Any:
    """An optimizer of the same class and settings for a copy of the model, with fresh moments."""
    import torch

    if task.optimizer is None:
        return torch.optim.Adam(made.parameters(), lr=task.lr if lr is None else lr)
    twins = dict(zip(map(id, task.model.parameters()), made.parameters(), strict=True))
    groups = [
        {
            **{k: v for k, v in group.items() if k != "params"},
            "params": [twins[id(p)] for p in group["params"] if id(p) in twins],
        }
        for group in task.optimizer.param_groups
    ]
    made_optimizer = type(task.optimizer)([g for g in groups if g["params"]] or [{"params": list(made.parameters())}])
    for group in made_optimizer.param_groups:
        group["lr"] = lr if lr is not None else group["lr"]
    return made_optimizer


def train(
    task: Task,
    steps: int,
    lr: float | None,
    batches: list[Batch] | None = None,
    kind: Any = None,
    until: float = math.inf,
) -> np.ndarray:
    """Losses of `steps` updates of a copy; infinite from the one on that is not finite. float64 [steps]

    until: what `time.perf_counter` says when the trial is broken off; there are fewer losses then, but one at least.
    """
    import torch

    losses = np.full(steps, math.inf)
    with untouched(), torch.enable_grad():
        torch.manual_seed(0)
        made = begun(task)
        optimizer = (
            optimizer_for(task, made, task.lr if lr is None else lr) if kind is None else kind(made.parameters(), lr=lr)
        )
        given = task.batches if batches is None else batches
        for i in range(steps):
            batch = given[i % len(given)]

            def closure(batch: Batch = batch) -> Any:
                optimizer.zero_grad()
                value = task.loss(made(*batch.args, **batch.kwargs), batch.target)
                value.backward()
                return value

            value = float(optimizer.step(closure).detach())
            if not math.isfinite(value):
                break
            losses[i] = value
            if time.perf_counter() > until:
                return losses[: i + 1]
    return losses


def ending(losses: np.ndarray) -> float:
    """The loss at the end of a trial: the mean of its last fifth."""
    return float(np.mean(losses[-max(len(losses) // 5, 1) :]))


def rows_between(batch: Batch, low: int, high: int) -> Batch:
    """The rows of a batch from `low` up to `high`."""
    import torch

    whole = len(batch.x)

    def cut(item: Any) -> Any:
        if isinstance(item, torch.Tensor) and item.dim() and len(item) == whole:
            return item[low:high]
        if isinstance(item, dict):
            return {k: cut(v) for k, v in item.items()}
        return type(item)(map(cut, item)) if type(item) in (tuple, list) else item

    return Batch(cut(batch.args), cut(batch.kwargs), cut(batch.target))


def _changed(batch: Batch, args: Callable[[Any], Any], target: Callable[[Any], Any]) -> Batch:
    import torch

    def over(item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            return args(item)
        if isinstance(item, dict):
            return {k: over(v) for k, v in item.items()}
        return type(item)(map(over, item)) if type(item) in (tuple, list) else item

    return Batch(over(batch.args), over(batch.kwargs), target(batch.target))


def practitioners_checks(task: Task, expected: float | None, budget: float) -> TrialFacts:
    """Overfit one batch, zeroed inputs, shuffled labels, a sweep of learning rates: what fits into `budget` seconds."""
    import torch

    began = time.perf_counter()
    real = train(task, TRIAL_STEPS, None, until=began + budget)
    facts = TrialFacts(
        rows=sum(len(b.x) for b in task.batches),
        initial_loss=float(real[0]),
        expected_loss=expected,
        trained_loss=ending(real),
        trial_steps=TRIAL_STEPS,
    )

    def left() -> bool:
        return time.perf_counter() - began < budget

    def shuffled(target: Any) -> Any:
        order = torch.from_numpy(np.random.default_rng(1).permutation(len(target)))
        return target[order.to(target.device)]

    if left():
        zeroed = [_changed(b, torch.zeros_like, lambda t: t) for b in task.batches]
        facts = replace(facts, zeroed_loss=ending(train(task, TRIAL_STEPS, None, zeroed)))
    if left():
        mixed = [_changed(b, lambda x: x, shuffled) for b in task.batches]
        facts = replace(facts, shuffled_loss=ending(train(task, TRIAL_STEPS, None, mixed)))
    points = [SweepPoint(lr=task.lr, loss=ending(real))]
    for factor in sorted(SWEEP, key=lambda f: abs(math.log(f))):
        if factor != 1.0 and left():
            lr = task.lr * factor
            points.append(SweepPoint(lr=lr, loss=ending(train(task, TRIAL_STEPS, lr))))
    facts = replace(facts, sweep=tuple(sorted(points, key=lambda p: p.lr)), sweep_steps=TRIAL_STEPS)
    if left():
        best = min(facts.sweep, key=lambda p: p.loss).lr
        few = train(task, 2 * TRIAL_STEPS, best, [rows_between(task.batches[0], 0, OVERFIT_ROWS)])
        facts = replace(facts, overfit_before=float(few[0]), overfit_after=ending(few), overfit_steps=2 * TRIAL_STEPS)
    return replace(facts, seconds=time.perf_counter() - began)


def standing_facts(task: Task, step: int) -> StandingFacts | None:
    """The loss and the gradient against its sampling noise, at the model's weights; None where it cannot be copied."""
    import torch

    made = copy_of(task.model, training=True)
    if made is None:
        return None
    with untouched(), torch.enable_grad():
        torch.manual_seed(0)
        loss, gradient = _gradient(made, task, task.batches)
        if gradient is None:
            return None
        parts = [_gradient(made, task, [piece])[1] for piece in _pieces(task.batches)]
    size = float(gradient.norm())
    deviations = [float((p - gradient).norm()) ** 2 for p in parts if p is not None]
    noise = math.sqrt(sum(deviations) / max(len(deviations) - 1, 1) / max(len(deviations), 1))
    return StandingFacts(
        step=step,
        rows=sum(len(b.x) for b in task.batches),
        loss=loss,
        gradient_norm=size,
        gradient_noise=noise,
        zero_gradient=size == 0,
    )


def tried(task: Task, found: StandingFacts, baseline: float, budget: float) -> StandingFacts:
    """The same with curvature, and with what short trials still gain as shares of the constant prediction's loss."""
    import torch

    began = time.perf_counter()
    made = copy_of(task.model, training=True)
    if made is None or not math.isfinite(found.loss):
        return found
    with untouched(), torch.enable_grad():
        curved: dict[str, Any] = _curvatures(made, task)
        found = replace(found, **curved)
    own = best = ending(train(task, TRIAL_STEPS, None, until=began + budget))
    for lr in TRIAL_RATES:
        if time.perf_counter() - began < budget:
            best = min(best, ending(train(task, TRIAL_STEPS, lr, kind=torch.optim.Adam, until=began + budget)))
    whole = abs(baseline) if baseline and math.isfinite(baseline) else abs(found.loss) or 1.0
    return replace(
        found,
        trial_gain=(found.loss - best) / whole,
        same_trial_gain=(found.loss - own) / whole,
        trial_steps=TRIAL_STEPS,
    )


def _pieces(batches: list[Batch]) -> list[Batch]:
    """The rows in up to PIECES parts of at least two rows, so that a norm layer has something to average."""
    found: list[Batch] = []
    for batch in batches:
        rows = len(batch.x)
        count = max(min(PIECES // len(batches), rows // 2), 1)
        found += [rows_between(batch, rows * i // count, rows * (i + 1) // count) for i in range(count)]
    return found


def _gradient(made: Any, task: Task, batches: list[Batch]) -> tuple[float, Any]:
    """(mean loss over the batches, its gradient as one flat tensor in float64; None if there is none)."""
    import torch

    parameters = [p for p in made.parameters() if p.requires_grad]
    torch.manual_seed(0)  # the same dropout each time
    total, flat = 0.0, None
    for batch in batches:
        value = task.loss(made(*batch.args, **batch.kwargs), batch.target)
        total += float(value.detach()) / len(batches)
        if not value.requires_grad:
            return total, None
        found = torch.autograd.grad(value, parameters, allow_unused=True)
        part = torch.cat(
            [
                (torch.zeros_like(p) if g is None else g).reshape(-1).double()
                for g, p in zip(found, parameters, strict=True)
            ]
        )
        flat = part / len(batches) if flat is None else flat + part / len(batches)
    return total, flat


def _curvatures(made: Any, task: Task) -> dict[str, float | None]:
    """Second derivatives along the gradient, and the extremes that Lanczos' iteration finds from it.

    Hessian-vector products as central differences of the gradient in float64.
    """
    import torch

    unknown: dict[str, float | None] = {"curvature": None, "highest_curvature": None, "lowest_curvature": None}
    wide = made.double()
    batches = [widened(rows_between(b, 0, CURVED_ROWS)) for b in task.batches[:1]]
    parameters = [p for p in wide.parameters() if p.requires_grad]
    origin = [p.detach().clone() for p in parameters]

    def at(direction: Any, by: float) -> Any:
        offset = 0
        with torch.no_grad():
            for p, first in zip(parameters, origin, strict=True):
                shift = 0 if direction is None else by * direction[offset : offset + p.numel()].reshape(p.shape)
                p.copy_(first + shift)
                offset += p.numel()
        return _gradient(wide, task, batches)[1]

    def product(direction: Any) -> Any:
        return (at(direction, STEP) - at(direction, -STEP)) / (2 * STEP)

    try:
        first = at(None, 0.0)
        if first is None or not math.isfinite(float(first.norm())) or not float(first.norm()):
            return unknown
        v = first / first.norm()
        basis, alphas, betas = [v], [], []
        w = product(v)
        along = float(v @ w)
        for _ in range(ITERATIONS):
            alphas.append(float(w @ basis[-1]))
            for q in basis:
                w = w - (w @ q) * q
            if float(w.norm()) < 1e-10 or len(alphas) == ITERATIONS:
                break
            betas.append(float(w.norm()))
            basis.append(w / w.norm())
            w = product(basis[-1])
    except (RuntimeError, TypeError):  # an operation that has no float64
        return unknown
    off = betas[: len(alphas) - 1]
    matrix = np.diag(alphas) + np.diag(off, 1) + np.diag(off, -1)
    if not np.isfinite(matrix).all():
        return unknown
    values = np.linalg.eigvalsh(matrix)
    return {"curvature": along, "highest_curvature": float(values[-1]), "lowest_curvature": float(values[0])}


def widened(batch: Batch) -> Batch:
    """The batch in float64."""

    def wide(item: Any) -> Any:
        return item.double() if hasattr(item, "is_floating_point") and item.is_floating_point() else item

    return _changed(batch, wide, wide)
