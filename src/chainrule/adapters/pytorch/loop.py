"""Loop: what somebody's own training loop does with gradients, modes, schedules and loss scaling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LOOKS = 3
"""Steps after which a clipped gradient is no longer asked whether it is still there, which would wait for a GPU."""

ENOUGH = 2
"""Steps that have to agree before a fault of the loop is stated."""

EPOCH_SCHEDULES = ("StepLR", "MultiStepLR", "ExponentialLR", "ReduceLROnPlateau", "LambdaLR", "MultiplicativeLR")
"""Schedules that are usually stepped once an epoch."""

COLLAPSE = 1e-3
"""A learning rate below this share of the first one, by a schedule that is stepped at each update, was not meant so."""

SCHEDULE_STEPS = 20
"""Updates before a schedule is judged."""


@dataclass(eq=False)
class Holder:
    """One optimizer: a few of its small parameters whose gradients are followed, and what happened to them."""

    optimizer: Any
    followed: list[Any]
    state: list[tuple[Any, int]] = field(default_factory=list)
    """Gradient and its version as the last backward or step left them."""
    cleared: bool = True
    """Whether gradients were cleared since the last step, or there was none."""
    backward: bool = False
    """Whether a backward pass came since the last step."""
    had: bool = False
    """Whether that pass left a gradient that is not 0."""
    steps: int = 0
    kept: int = 0
    """Steps whose gradients were added to those of the step before."""
    chances: int = 0
    lost: int = 0
    """Steps before which the gradients were cleared."""
    looked: int = 0
    empty: int = 0
    """Steps without a backward pass."""

    def look(self) -> None:
        """Remember the gradients as they are."""
        self.state = state = []
        for p in self.followed:
            gradient = p.grad
            state.append((gradient, -1 if gradient is None else gradient._version))

    def touched(self) -> bool:
        """Whether the gradients were changed or dropped since `look`."""
        for p, (before, version) in zip(self.followed, self.state, strict=True):
            now = p.grad
            if now is not before or (now is not None and now._version != version):
                return True
        return False

    def present(self) -> bool:
        """Whether any followed gradient is not 0. Waits for a GPU."""
        return any(p.grad is not None and bool(p.grad.any()) for p in self.followed)


@dataclass(eq=False)
class Schedule:
    """One learning-rate schedule: its class, how often it was stepped, and whether before the first update."""

    kind: str
    calls: int = 0
    early: bool = False


@dataclass(eq=False)
class Loop:
    """Counters of one watched loop. Everything is told to it; it changes nothing."""

    holders: dict[int, Holder] = field(default_factory=dict)
    schedules: dict[int, Schedule] = field(default_factory=dict)
    steps: int = 0
    evaluating: int = 0
    """Steps whose forward passes ran in evaluation mode."""
    scaled: int = 0
    skipped: int = 0
    """Calls of a gradient scaler's step, and those that made no update."""
    without_graph: int = 0
    backwards: int = 0

    def hold(self, optimizer: Any) -> Holder:
        """The holder of an optimizer, made when it is first seen."""
        if id(optimizer) not in self.holders:
            self.holders[id(optimizer)] = Holder(optimizer, _small(optimizer))
        return self.holders[id(optimizer)]

    def before_backward(self) -> None:
        for holder in self.holders.values():
            if not holder.cleared and holder.state:
                # The same gradient object in the same version may still have been zeroed through .data.
                holder.cleared = holder.touched() or not holder.present()

    def after_backward(self) -> None:
        self.backwards += 1
        for holder in self.holders.values():
            holder.backward = True
            holder.look()
            if holder.looked < LOOKS:
                holder.had = holder.present()

    def before_step(self, optimizer: Any, closure: bool) -> None:
        holder = self.hold(optimizer)
        if closure:
            return
        if not holder.backward and self.steps:
            holder.empty += 1
        if holder.backward and holder.had and holder.looked < LOOKS:
            holder.looked += 1
            holder.lost += holder.touched() and not holder.present()

    def after_step(self, optimizer: Any) -> None:
        holder = self.hold(optimizer)
        if holder.steps and holder.backward:
            holder.chances += 1
            holder.kept += not holder.cleared
        holder.steps += 1
        holder.cleared, holder.backward, holder.had = False, False, False
        holder.look()

    def before_schedule(self, schedule: Any) -> None:
        if getattr(schedule, "_step_count", 1) < 1:
            return  # its constructor steps once
        entry = self.schedules.setdefault(id(schedule), Schedule(type(schedule).__name__))
        optimizer = getattr(schedule, "optimizer", None)
        if not entry.calls and not self.scaled and optimizer is not None:
            counted = hasattr(optimizer.step, "_wrapped_by_lr_sched")  # PyTorch's own mark, for the same question
            entry.early = counted and not getattr(optimizer, "_opt_called", False)
        entry.calls += 1

    @property
    def never_zeroed(self) -> bool | None:
        """Gradients were added to those of the step before, in every step."""
        found = [h for h in self.holders.values() if h.chances >= ENOUGH]
        return any(h.kept == h.chances for h in found) if found else None

    @property
    def zeroed_before_step(self) -> bool | None:
        """Gradients were cleared between backward and step."""
        found = [h for h in self.holders.values() if h.looked >= ENOUGH]
        return any(h.lost == h.looked for h in found) if found else None

    @property
    def step_without_backward(self) -> bool | None:
        found = [h for h in self.holders.values() if h.steps > ENOUGH]
        return any(h.empty >= h.steps - 1 for h in found) if found else None

    @property
    def evaluation_mode(self) -> bool | None:
        """Most steps ran in evaluation mode."""
        return None if self.steps <= ENOUGH else self.evaluating > self.steps / 2

    def schedule_by_step(self, rates: list[float]) -> bool | None:
        """Whether a schedule meant for epochs was stepped at every update, until nothing was left of the rate."""
        if not self.schedules or len(rates) < SCHEDULE_STEPS:
            return None
        each = any(s.kind in EPOCH_SCHEDULES and s.calls >= 0.9 * len(rates) for s in self.schedules.values())
        return each and rates[-1] < COLLAPSE * max(rates)


def _small(optimizer: Any) -> list[Any]:
    """Three trainable parameters of the optimizer, the smallest there are, from its beginning, middle and end."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    thirds = [parameters[i * len(parameters) // 3 : (i + 1) * len(parameters) // 3] for i in range(3)]
    return [min(third, key=lambda p: p.numel()) for third in thirds if third] or parameters
