"""Remedies that change the course of training: optimizer, learning rate, decay, clipping, batches, length."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from chainrule.doctor.treat.change import Change, NotApplicable, same
from chainrule.doctor.treat.plan import Plan
from chainrule.graph import Tensor
from chainrule.ops import stop_gradient
from chainrule.optim import SGD, Adam, LinearLR, Optimizer
from chainrule.optim.describe import OPTIMIZERS
from chainrule.training.head import Loss

Treated = tuple[Plan, Change]

WARM = 0.1
"""Share of the updates in which a warm-up raises the learning rate."""


def call(optimizer: Optimizer) -> str:
    """The optimizer in the words of the code that makes it, without what is usual."""
    usual = type(optimizer)(lr=optimizer.lr)
    given = {f.name: getattr(optimizer, f.name) for f in fields(optimizer)}  # type: ignore[arg-type]
    changed = {k: v for k, v in given.items() if k == "lr" or v != getattr(usual, k)}
    words = [f"{k}={v:g}" if k == "lr" else f"{k}={v}" for k, v in changed.items()]
    return f"optim.{type(optimizer).__name__}({', '.join(words)})"


def _changed(optimizer: Any, **fields: Any) -> Optimizer:
    """The optimizer with other arguments."""
    changed: Optimizer = replace(optimizer, **fields)
    return changed


def _with_optimizer(plan: Plan, optimizer: Optimizer) -> Treated:
    if optimizer == plan.optimizer:
        raise NotApplicable("the optimizer is that one already")
    old, new = call(plan.optimizer), call(optimizer)
    torch = tuple(
        line.replace("optim.", "torch.optim.").replace("(", "(model.parameters(), ", 1) for line in (old, new)
    )
    change = Change(((f"optimizer={old}", f"optimizer={new}"),), ((torch[0], torch[1]),))
    return replace(plan, optimizer=optimizer), change


def scale_learning_rate(plan: Plan, factor: float = 1.0, lr: float | None = None) -> Treated:
    """Another learning rate: `lr`, or `factor` times the one there is."""
    wanted = float(f"{plan.optimizer.lr * factor if lr is None else lr:.6g}")
    return _with_optimizer(plan, _changed(plan.optimizer, lr=wanted))


def change_optimizer(plan: Plan, optimizer: str = "Adam", lr: float = 1e-3) -> Treated:
    """Another optimizer with its defaults; the same one gets the rate."""
    kind = OPTIMIZERS[optimizer.lower()]
    if type(plan.optimizer) is kind:
        if plan.optimizer.lr == lr:
            raise NotApplicable(f"the optimizer is {optimizer} at {lr:g} already")
        return scale_learning_rate(plan, lr=lr)
    return _with_optimizer(plan, kind(lr=lr))


def momentum(plan: Plan, momentum: float = 0.5) -> Treated:
    """Less memory of former gradients."""
    if isinstance(plan.optimizer, SGD):
        if plan.optimizer.momentum <= momentum:
            raise NotApplicable(f"the momentum is {plan.optimizer.momentum:g}, no more than {momentum:g}")
        return _with_optimizer(plan, _changed(plan.optimizer, momentum=momentum))
    if isinstance(plan.optimizer, Adam) and plan.optimizer.betas[0] > momentum:
        return _with_optimizer(plan, _changed(plan.optimizer, betas=(momentum, plan.optimizer.betas[1])))
    raise NotApplicable(f"{type(plan.optimizer).__name__} has no momentum to lower")


def epsilon(plan: Plan, eps: float = 1e-8) -> Treated:
    """The usual number under Adam's root."""
    if not hasattr(plan.optimizer, "eps"):
        raise NotApplicable(f"{type(plan.optimizer).__name__} has no eps")
    return _with_optimizer(plan, _changed(plan.optimizer, eps=eps))


def decay(plan: Plan, factor: float = 0.01) -> Treated:
    """Weaker penalties, and weaker decay in the optimizer."""
    held = float(getattr(plan.optimizer, "weight_decay", 0.0))
    if not (held or plan.options.l1 or plan.options.l2):
        raise NotApplicable("there is no decay to lower")
    lines = [(f"{n}={v:g}", f"{n}={v * factor:g}") for n, v in (("l1", plan.options.l1), ("l2", plan.options.l2)) if v]
    options = replace(plan.options, l1=plan.options.l1 * factor, l2=plan.options.l2 * factor)
    made, torch = replace(plan, options=options), list(lines)
    if held:
        lowered: Any = _changed(plan.optimizer, weight_decay=held * factor)
        made, change = _with_optimizer(made, lowered)
        lines, torch = [*lines, *change.chainrule], [*torch, *change.pytorch]
    return made, Change(tuple(lines), tuple(torch))


def clip(plan: Plan, clip_norm: float | None = 1.0) -> Treated:
    """Limit the norm of the whole gradient; None: no limit."""
    held = plan.options.clip
    if held.norm == clip_norm and held.value is None:
        raise NotApplicable("the gradient is clipped so already" if clip_norm else "no gradient is clipped")
    wanted = replace(plan.options, clip=replace(held, norm=clip_norm, value=None))
    old = f"clip_norm={held.norm:g}" if held.norm else f"clip_value={held.value:g}" if held.value else ""
    new = f"clip_norm={clip_norm:g}" if clip_norm else ""
    line = "torch.nn.utils.clip_grad_norm_(model.parameters(), {:g})"
    torch = (line.format(held.norm) if held.norm else "", line.format(clip_norm) if clip_norm else "")
    return replace(plan, options=wanted), Change(((old, new),), (torch,))


def warm_up(plan: Plan, schedule: str = "warm-up") -> Treated:
    """Raise the learning rate in a straight line over the first tenth of the updates."""
    count = max(int(plan.steps * WARM), 10)
    made = LinearLR(start_factor=0.01, total_iters=count, every="step")
    text = f'optim.LinearLR(start_factor=0.01, total_iters={count}, every="step")'
    made_of = f"optimizer, start_factor=0.01, total_iters={count}"
    torch = f"torch.optim.lr_scheduler.LinearLR({made_of})    # step it at every update"
    old = "" if plan.schedule is None else f"learning_rate_schedule=optim.{type(plan.schedule).__name__}(...)"
    return replace(plan, schedule=made), Change(((old, f"learning_rate_schedule={text}"),), (("", torch),))


def schedule(plan: Plan, schedule: str = "constant") -> Treated:
    """No learning-rate schedule."""
    if plan.schedule is None:
        raise NotApplicable("there is no learning-rate schedule")
    name = type(plan.schedule).__name__
    return replace(plan, schedule=None), Change(
        ((f"learning_rate_schedule=optim.{name}(...)", ""),), (("scheduler.step()", ""),)
    )


def train_longer(plan: Plan, factor: float = 10) -> Treated:
    """`factor` times as many updates."""
    epochs = max(1, round(plan.steps / plan.updates_an_epoch))
    return replace(plan, steps=int(plan.steps * factor)), same((f"epochs={epochs}", f"epochs={int(epochs * factor)}"))


def batch_size(plan: Plan, batch_size: int | None = None, factor: float = 1.0) -> Treated:
    """Other batches, for as many epochs as before."""
    wanted = min(max(int(batch_size or plan.batch_size * factor), 1), len(plan.x))
    if wanted == plan.batch_size:
        raise NotApplicable(f"batches have {wanted} rows already")
    made = replace(plan, batch_size=wanted, drop_last=len(plan.x) % wanted == 1)
    steps = max(1, round(plan.steps * made.updates_an_epoch / plan.updates_an_epoch))
    return replace(made, steps=steps), same((f"batch_size={plan.batch_size}", f"batch_size={wanted}"))


def early_stopping(plan: Plan, early_stopping: int = 10) -> Treated:
    """Stop after so many epochs without a better validation loss, and keep the best weights."""
    if plan.held is None:
        raise NotApplicable("nothing is held out, so nothing tells when to stop: give validation=0.2")
    if plan.patience is not None and plan.patience <= early_stopping:
        raise NotApplicable(f"it stops after {plan.patience} epochs already")
    return replace(plan, patience=early_stopping), same(("", f"early_stopping={early_stopping}"))


def shuffle(plan: Plan, shuffle: bool = True) -> Treated:
    """Visit the rows in another order in every epoch."""
    if plan.shuffle:
        raise NotApplicable("rows are shuffled already")
    torch = (("DataLoader(..., shuffle=False)", "DataLoader(..., shuffle=True)"),)
    return replace(plan, shuffle=True), Change((("shuffle=False", "shuffle=True"),), torch)


def redraw(plan: Plan, seed: int = 1) -> Treated:
    """Other first weights."""
    return replace(plan, seed=plan.seed + 1000 * seed, drawn=True), same(
        (f"seed={plan.seed}", f"seed={plan.seed + 1000 * seed}")
    )


@dataclass(frozen=True)
class Reversed:
    """The value of a loss, with every derivative of the other sign."""

    loss: Loss

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        value = self.loss(prediction, target)
        return 2 * stop_gradient(value) - value


def restore_sign(plan: Plan) -> Treated:
    """Step the other way: wherever a sign is lost, in the loss, the gradient or the update, this gives it back."""
    where = "or wherever the sign was lost: the reversed step learns"
    return replace(plan, loss=Reversed(plan.loss)), same(("", "loss = -loss"), where=where)


def check_sign(plan: Plan) -> Treated:
    """Go down the gradient, not up."""
    if not getattr(plan.optimizer, "maximize", False):
        raise NotApplicable("the optimizer goes down; check the sign of the loss")
    return _with_optimizer(plan, _changed(plan.optimizer, maximize=False))
