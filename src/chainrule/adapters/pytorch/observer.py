"""Observer: hooks on a live model, its optimizers and the backward pass, which gather a record."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.adapters.pytorch import graph
from chainrule.adapters.pytorch.batches import Batch, Batches, copied
from chainrule.adapters.pytorch.layers import Layer, follows_mode, hidden_reason, layers_of
from chainrule.adapters.pytorch.loop import Loop
from chainrule.adapters.pytorch.measured import measured_of
from chainrule.adapters.pytorch.patches import classes_with, wrapped
from chainrule.adapters.pytorch.sizes import bad_share, rms
from chainrule.adapters.pytorch.trace import Kept
from chainrule.adapters.pytorch.uses import Pass, Use, rows_of, tap
from chainrule.record import Measurement, Quantity

FIRST = 10
"""Steps at the beginning of which every one is measured."""

GROWTH = 1.5
LONGEST = 100
"""After those, the step that is measured next is half as many later, at most a hundred steps: 1 % in a long run."""

MOST_KEPT = 2**25
"""Numbers of a model whose first weights are kept for trials: 128 MB."""


@dataclass(eq=False)
class Observer:
    """What was seen of one model. Hooks hang between `attach` and `detach`; the rest is data."""

    model: Any
    optimizers: list[Any]
    criterion: Any = None
    every: int | None = None
    on_step: Callable[[Observer], None] | None = None
    layers: tuple[Layer, ...] = ()
    hidden: str | None = None
    now: Pass = field(default_factory=Pass)
    loop: Loop = field(default_factory=Loop)
    batches: Batches = field(default_factory=Batches)
    losses: list[Any] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    following: dict[str, str] = field(default_factory=dict)
    """The activation function after each layer."""
    seen: graph.Seen | None = None
    shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    """Of prediction and target, where they were broadcast."""
    output: Any = None
    """Shape of what the model gives, if it is one tensor."""
    last: Kept | None = None
    """The latest step that was measured in full."""
    first_weights: dict[str, float] = field(default_factory=dict)
    """Standard deviation of each weight when watching began."""
    first: dict[str, Any] | None = None
    """Weights and buffers when watching began; None for a model above MOST_KEPT numbers."""
    reached: set[int] = field(default_factory=set)
    """Parameters (by id) that a gradient came to."""
    measured_backwards: int = 0
    not_finite: tuple[int, str, str] | None = None
    """(step, layer, what) of the first value that was NaN or infinite."""
    faults: dict[str, str] = field(default_factory=dict)
    """What could not be seen because the watcher itself failed, with the error."""
    moved_before: bool = False
    """Whether an optimizer had made updates before the block."""
    _aside: bool = False
    """Whether what is called now is a trial on a copy."""
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _entered: bool = False
    _looks: bool = False
    """Whether the step is measured or its batch may be kept, so that model, criterion and loss are looked at."""
    _enough: bool = False
    """Whether the order of the batches is known."""
    _hung: dict[str, list[Any]] = field(default_factory=dict)
    """Handles of the hooks of modules by what they hang on: "model", its "output", "layers", "criterion"."""
    _next: int = 0
    _scaler: Any = None
    _pending: list[Batch] = field(default_factory=list)
    _modes: list[Any] = field(default_factory=list)
    _rows_at: int = 0
    """The axis of rows of what the model takes."""
    _eval: bool | None = None
    """Whether the step's forward pass ran in evaluation mode; None if it was not looked at."""
    _step_losses: list[tuple[Any, bool]] = field(default_factory=list)
    _criterion_pair: tuple[Any, Any] | None = None
    _gradient_sizes: dict[str, float] = field(default_factory=dict)
    _gradients: dict[str, Any] = field(default_factory=dict)
    _passes: int = 0
    """Backward passes of the step, if it is measured."""
    _readers: dict[int, int] = field(default_factory=dict)
    _own: set[str] = field(default_factory=set)
    """Layers whose weight's gradient is that of the step's one use of it, and nothing else."""
    _buffers: dict[str, Any] = field(default_factory=dict)
    """As they were when the step's forward pass began."""
    _random: Any = None
    _parents: dict[Use, dict[Use, tuple[str, ...]]] = field(default_factory=dict)
    _before: dict[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Updates made in the block."""
        return self.loop.steps

    def loss_values(self) -> np.ndarray:
        """The loss of each update, NaN where none was seen. float64 [steps]"""
        return np.array([float(value) for value in self.losses], np.float64)

    # ---- attaching --------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Hang the hooks."""
        import torch
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        self.layers, self.hidden = layers_of(self.model), hidden_reason(self.model)
        self._modes = [m for m in self.model.modules() if follows_mode(m)]
        self._rows_at = self._row_axis()
        state = self.model.state_dict()
        if sum(v.numel() for v in state.values() if hasattr(v, "numel")) <= MOST_KEPT:
            self.first = copied(state)
        self.first_weights = {y.name: _std(y.weight) for y in self.layers}
        for optimizer in self.optimizers:
            self._hold(optimizer)
        self._hook(register_optimizer_step_pre_hook(self._before_step))
        self._hook(register_optimizer_step_post_hook(self._after_step))
        self._stack.enter_context(wrapped(torch.autograd, "backward", self._backward))
        self._stack.enter_context(wrapped(torch.utils.data.DataLoader, "__iter__", self._loading))
        for name, replacement in (("step", self._scaled_step), ("scale", self._scaling)):
            self._stack.enter_context(wrapped(torch.amp.GradScaler, name, replacement))
        for kind in classes_with(torch.optim.lr_scheduler.LRScheduler, "step"):
            self._stack.enter_context(wrapped(kind, "step", self._scheduled))
        self._begin_step(self._wanted())

    def detach(self) -> None:
        """Take the hooks away; what was seen stays."""
        self._stack.close()
        self._hang(())
        self.now.on = False
        self.now.forget()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Until the block ends, backward passes and updates are trials of the watcher's own and none of the loop's."""
        before, self._aside = self._aside, True
        try:
            yield
        finally:
            self._aside = before

    def _hold(self, optimizer: Any) -> None:
        self.loop.hold(optimizer)
        self.moved_before |= bool(optimizer.state)

    def _hook(self, handle: Any) -> None:
        self._stack.callback(handle.remove)

    @contextlib.contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        """A fault of the watcher must not end somebody's training: it is noted, and the verdict names it."""
        try:
            yield
        except Exception as error:
            self.faults.setdefault(what, f"{type(error).__name__}: {error}")

    # ---- forward ----------------------------------------------------------------------------------------------------

    def entering(self, module: Any, args: tuple, kwargs: dict) -> None:
        """The model is called."""
        import torch

        self._entered = torch.is_grad_enabled()
        if not self._entered:
            return
        batch = Batch(args, kwargs, None)
        self._pending.append(batch)
        self._eval = self._evaluates()
        if self.now.on:
            x = batch.x
            self.now.call = object()
            self.now.rows = int(x.shape[self._rows_at]) if x is not None and x.dim() > self._rows_at else 0
            self._random = torch.get_rng_state()
            self._buffers = {n: b.clone() for n, b in self.model.named_buffers()}

    def _evaluates(self) -> bool:
        return bool(self._modes) and not any(m.training for m in self._modes)

    def _row_axis(self) -> int:
        """Recurrent networks take time steps first unless told otherwise."""
        import torch

        first = next((m for m in self.model.modules() if isinstance(m, torch.nn.RNNBase)), None)
        embeds = any(isinstance(m, torch.nn.Embedding) for m in self.model.modules())
        return 1 if first is not None and not first.batch_first and not embeds and first is self.model else 0

    def _leaving(self, module: Any, args: tuple, out: Any) -> None:
        import torch

        self._entered = False
        if isinstance(out, torch.Tensor):
            self.output = tuple(out.shape)
            if self._pending and out.requires_grad:
                self._pending[-1] = Batch(self._pending[-1].args, self._pending[-1].kwargs, None, out.detach())

    def judged(self, module: Any, args: tuple, out: Any) -> None:
        """The criterion was called with (prediction, target)."""
        if len(args) > 1 and hasattr(args[1], "shape") and getattr(out, "requires_grad", False):
            self._criterion_pair = (args[0].detach(), args[1])

    # ---- backward ---------------------------------------------------------------------------------------------------

    def _backward(self, run: Any, tensors: Any, *args: Any, **kwargs: Any) -> Any:
        if self._aside:
            return run(tensors, *args, **kwargs)
        losses = [tensors] if hasattr(tensors, "grad_fn") else list(tensors)
        self.loop.before_backward()
        if self._step_losses and self._thrown_away():
            self.now.reached, self._step_losses = [], []
        versions = self._versions() if self.now.on else {}
        for loss in losses:
            self._read(loss)
        try:
            return run(tensors, *args, **kwargs)
        finally:
            self.loop.after_backward()
            if self.now.on:
                self._after_measured_backward(versions)

    def _thrown_away(self) -> bool:
        """Whether the passes before were an evaluation of a closure whose gradients were cleared."""
        holders = self.loop.holders.values()
        cleared = all(h.cleared for h in holders) if holders else not self.loop.backwards
        return cleared and all(p.grad is None or not h.backward for h in holders for p in h.followed)

    def _versions(self) -> dict[int, tuple[int, int]]:
        return {
            id(p): (id(p.grad), p.grad._version) for _, p in self.model.named_parameters() if p.grad is not None
        }  # fmt: skip

    def _read(self, loss: Any) -> None:
        """Note the loss, and what its graph shows, before the backward pass frees it."""
        node = loss.grad_fn
        if loss.numel() == 1:
            scaled = self._scaler is not None and self._scaler.is_enabled()
            # Reading a number would wait for a GPU; where nobody has to wait, a number is a fifth of the price.
            value = loss.item() if loss.device.type == "cpu" else loss.detach().double()
            if scaled:
                value = value / self._scaler.get_scale()
            self._step_losses.append((value, node is not None and graph.plain(node) in ("Div", "Mul") and not scaled))
        if node is None:
            self.loop.without_graph += loss.requires_grad
            return
        if self._looks and (self.now.started or not self.now.on or self.hidden is not None):
            with self._guard("the autograd graph"):
                self._read_graph(loss)

    def _read_graph(self, loss: Any) -> None:
        ends = set(self.now.started)
        seen = graph.head(loss)
        if seen is not None and (self.seen is None or seen.loss != "custom"):
            self._note_head(seen)
        if self.now.on and any(u.layer.name not in self.following for u in self.now.started.values()):
            found = graph.following(loss, ends, frozenset() if seen is None else seen.nodes)
            self.following |= {self.now.started[node].layer.name: name for node, name in found.items()}
        if self.now.on:
            started = self.now.started
            below = {u: graph.feeders(n, frozenset(ends)) for n, u in started.items()}
            self._parents = {u: {started[n]: through for n, through in found.items()} for u, found in below.items()}
            self._readers = graph.readers(loss)

    def _note_head(self, seen: graph.Seen) -> None:
        batch = self._pending[-1] if self._pending else None
        prediction, target = self._criterion_pair or (None, None)
        if target is None:
            target = seen.target
        residual = seen.prediction if seen.loss in ("mse", "mae") and target is None else None
        output = None if batch is None else batch.prediction
        if residual is not None and output is not None and output.shape == residual.shape:
            target = output - residual * (1 if seen.chain[-1] != "Rsub" else -1)
        given = prediction if prediction is not None else None if batch is None else batch.prediction
        wide = seen.prediction if seen.prediction is not None else None
        if given is not None and wide is not None and given.numel() < wide.numel():
            shape = tuple(target.shape) if target is not None and target.shape != wide.shape else tuple(wide.shape[-1:])
            self.shapes = (tuple(given.shape), shape)
        self.seen = graph.Seen(seen.loss, seen.activation, seen.chain, given)
        if batch is not None:
            full = Batch(batch.args, batch.kwargs, target, given)
            self._pending[-1] = full

    def _after_measured_backward(self, versions: dict[int, tuple[int, int]]) -> None:
        self.measured_backwards += 1
        self._passes += 1
        for _, p in self.model.named_parameters():
            if p.grad is not None and versions.get(id(p)) != (id(p.grad), p.grad._version):
                self.reached.add(id(p))
        scale = self.scale
        self._gradients = {
            n.replace("_orig_mod.", ""): p.grad.detach().clone()
            for n, p in self.model.named_parameters()
            if p.grad is not None
        }
        self._own = {
            y.name for y in self.layers
            if self._passes == 1 and id(y.weight) not in versions and self._readers.get(id(y.weight)) == 1
            and _is_as_accumulated(y.weight)
        }  # fmt: skip
        # Clipping comes after this and would change them.
        self._gradient_sizes = {y.name: rms(y.weight.grad) / scale for y in self.layers if _grad(y.weight) is not None}

    @property
    def scale(self) -> float:
        """What loss scaling multiplies the loss by."""
        return float(self._scaler.get_scale()) if self._scaler is not None and self._scaler.is_enabled() else 1.0

    # ---- steps ------------------------------------------------------------------------------------------------------

    def _ours(self, optimizer: Any) -> bool:
        if self._aside:
            return False
        if id(optimizer) in self.loop.holders:
            return True
        own = {id(p) for p in self.model.parameters()}
        if any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            self._hold(optimizer)
            self.optimizers.append(optimizer)
            return True
        return False

    def _before_step(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        if not self._ours(optimizer):
            return
        # The optimizer itself comes first among the arguments of its step.
        closure = (args[1] if len(args) > 1 else kwargs.get("closure")) is not None
        self.loop.before_step(optimizer, closure)
        if self.now.on:
            held = [*self.model.named_parameters(remove_duplicate=False), *self._buffers.items()]
            self._before = {n.replace("_orig_mod.", ""): p.detach().clone() for n, p in held}

    def _after_step(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        if not self._ours(optimizer):
            return
        self.loop.after_step(optimizer)
        self.rates.append(float(optimizer.param_groups[0]["lr"]))
        self.loop.evaluating += self._evaluates() if self._eval is None else self._eval
        self.losses.append(self._step_loss())
        if self._pending:
            batch = self._pending[-1]
            if batch.x is not None:
                self.batches.mark(batch.x)
                self.batches.keep(batch)
        if self.now.on:
            with self._guard("the measurement of a step"):
                self._measure()
            self._enough = self._enough or (self.steps >= FIRST and self.batches.settled())
        self.loop.steps += 1
        self._clear()
        if self.on_step is not None:
            self.on_step(self)

    def _step_loss(self) -> Any:
        if len(self._step_losses) == 1:
            return self._step_losses[0][0]
        divided = all(was for _, was in self._step_losses)
        parts = [value for value, _ in self._step_losses]
        return sum(parts) / (1 if divided else len(parts)) if parts else math.nan

    def _clear(self) -> None:
        self._pending, self._step_losses, self._criterion_pair, self._before = [], [], None, {}
        self._passes, self._eval = 0, None
        self.now.forget()
        self._begin_step(self._wanted())

    def _begin_step(self, measured: bool) -> None:
        self.now.on = measured
        looks = self._looks = measured or self.loop.steps < FIRST or self.batches.wants_more()
        wanted: tuple[str, ...] = ()
        if self.hidden is None and (looks or not self._enough):
            wanted = ("model", "output", "layers") if measured else ("model", "output") if looks else ("model",)
        if looks and hasattr(self.criterion, "register_forward_hook"):
            wanted += ("criterion",)
        if wanted != tuple(self._hung):
            self._hang(wanted)

    def _hang(self, wanted: tuple[str, ...]) -> None:
        """Modules have hooks only while it matters: PyTorch calls one that has any in a slower way."""
        for where in [*self._hung]:
            if where not in wanted:
                for handle in self._hung.pop(where):
                    handle.remove()
        self._hung = {where: self._hung.get(where) or self._hooks(where) for where in wanted}

    def _hooks(self, where: str) -> list[Any]:
        if where == "layers":
            return [tap(layer, self.now, lambda: self._entered) for layer in self.layers]
        if where == "criterion":
            return [self.criterion.register_forward_hook(self.judged)]
        if where == "output":
            return [self.model.register_forward_hook(self._leaving, always_call=True)]
        return [self.model.register_forward_pre_hook(self.entering, with_kwargs=True)]

    def _wanted(self) -> bool:
        """Whether the step that begins now is measured."""
        made = self.loop.steps
        if self.every is not None:
            return made % self.every == 0
        if made < self._next:
            return False
        self._next = made + (1 if made < FIRST else min(math.ceil(made * (GROWTH - 1)), LONGEST))
        return True

    def _measure(self) -> None:
        """Turn what the hooks kept of this step into numbers, and keep it as the latest step to look into."""
        order = {use: i for i, use in enumerate(self.now.started.values())}
        reached = sorted((u for u in self.now.reached if u in order), key=lambda u: order[u])
        uses: dict[str, list[Use]] = {name: [] for name in self.now.order}
        for use in reached:
            uses.setdefault(use.layer.name, []).append(use)
        found = measured_of(
            self.steps,
            self.layers,
            uses,
            self.following,
            self._before,
            self._gradient_sizes,
            self.scale,
            {y.name: self._gradients[y.full(y.weight_name)] for y in self.layers if y.name in self._own},
        )
        self.measurements += found
        if self.not_finite is None and any(m.quantity == Quantity.NOT_FINITE and m.value for m in found):
            self._place_not_finite(reached)
        if reached:
            self.last = Kept(
                self.steps, rows_of(reached), reached, self._before, self._gradients, dict(self.following), self.scale,
                float(self.losses[-1]), copied(self._pending[-1]) if self._pending else None, self._random,
                self._parents,
                self._aliases(),
            )  # fmt: skip

    def _place_not_finite(self, reached: list[Use]) -> None:
        """The first layer whose output is not finite; if all are, the last whose error is not."""
        values = next((u for u in reached if bad_share(u.z)), None)
        errors = next((u for u in reversed(reached) if bad_share(u.delta)), None)
        found, what = (values, "the output of") if values is not None else (errors, "the error at")
        if found is not None:
            self.not_finite = (self.steps, found.layer.name, what)

    def _aliases(self) -> dict[str, str]:
        """Other names of shared parameters -> their first name."""
        first: dict[int, str] = {}
        return {
            n: first[id(p)]
            for n, p in self.model.named_parameters(remove_duplicate=False)
            if first.setdefault(id(p), n) != n
        }

    # ---- what else a loop calls -------------------------------------------------------------------------------------

    def _scaling(self, run: Any, scaler: Any, outputs: Any) -> Any:
        self._scaler = scaler
        return run(scaler, outputs)

    def _scaled_step(self, run: Any, scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        before = self.steps
        try:
            return run(scaler, optimizer, *args, **kwargs)
        finally:
            if self._ours(optimizer):
                self.loop.scaled += 1
                if self.steps == before:
                    self.loop.skipped += 1
                    self._clear()

    def _scheduled(self, run: Any, schedule: Any, *args: Any, **kwargs: Any) -> Any:
        self.loop.before_schedule(schedule)
        return run(schedule, *args, **kwargs)

    def _loading(self, run: Any, loader: Any) -> Any:
        self.batches.started(loader)
        return run(loader)


def _grad(parameter: Any) -> Any:
    return None if parameter is None else parameter.grad


def _is_as_accumulated(weight: Any) -> bool:
    """Whether the gradient is what the backward pass gave, in numbers that hold its smallest entries."""
    hooks = weight._backward_hooks or getattr(weight, "_post_accumulate_grad_hooks", None)
    return not hooks and weight.grad is not None and weight.grad.element_size() >= 4


def _std(weight: Any) -> float:
    return 0.0 if weight is None or weight.numel() < 2 else float(weight.detach().double().std(correction=0))
