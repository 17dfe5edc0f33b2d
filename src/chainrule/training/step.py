"""One training step as graphs: forward, loss, backward; the gate; clip and update."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from chainrule.compiler import Evaluated, compile_graph
from chainrule.data.batches import batch_slices, permutation
from chainrule.errors import ArgumentError, DTypeError, GraphError, NonFiniteError, ShapeError, UnreachableWarning
from chainrule.graph import (
    Graph,
    Tensor,
    Traced,
    as_array,
    context,
    holding,
    ones_cotangent,
    reason,
    trace,
    vjp,
    zeros_like,
)
from chainrule.graph.trace import Trace
from chainrule.nn import Module
from chainrule.ops import add, key, multiply, sqrt, square
from chainrule.ops import sum as total
from chainrule.optim import Clip, Optimizer, penalty
from chainrule.spec import UINT32, TensorSpec
from chainrule.training.keywords import known_keywords
from chainrule.training.nonfinite import explain_nonfinite
from chainrule.training.state import TrainingState

StepFunction = Callable[..., Tensor]


@dataclass(frozen=True)
class StepOptions:
    """What a step does beside loss, gradient and update."""

    clip: Clip = field(default_factory=Clip)
    l1: float = 0.0
    l2: float = 0.0


def build_gradients(
    function: StepFunction, state: TrainingState, specs: tuple[TensorSpec, ...], options: StepOptions, adds: bool
) -> Traced:
    """(batch, key, share, [gradients so far]) -> (loss, a gradient for each parameter), and the buffers it writes.

    share: the batch's part of the rows that one update is made of; gradients come out multiplied by it.
    adds:  whether gradients of earlier parts of the same update are added.
    """
    scalar = TensorSpec((), state.dtype)
    earlier = tuple(p.spec for p in state.parameters) if adds else ()

    def gradients(*inputs: Tensor) -> tuple[Tensor, ...]:
        batch, key, share = inputs[: len(specs)], inputs[len(specs)], inputs[len(specs) + 1]
        so_far = inputs[len(specs) + 2 :]
        tracing = cast(Trace, context.trace)
        weights = {n: tracing.seen(p) for n, p in zip(state.names, state.parameters, strict=True)}
        with holding(key=key):
            loss = _scalar(function(*batch))
        extra = penalty(weights, options.l1, options.l2)
        loss = loss if extra is None else add(loss, extra)
        pulled = vjp([loss], [ones_cotangent(loss)], list(weights.values()))
        found = [_reached(loss, n, w, g) for (n, w), g in zip(weights.items(), pulled, strict=True)]
        shared = [multiply(g, share) for g in found]
        return (loss, *([add(before, g) for before, g in zip(so_far, shared, strict=True)] if adds else shared))

    names = [f"input{i}" for i in range(len(specs))] if len(specs) != 2 else ["x", "y"]
    labels = [*names, "key", "share", *(f"gradient of {n}" for n in state.names if adds)]
    return trace(gradients, *specs, TensorSpec((4,), UINT32), scalar, *earlier, names=labels)


def _scalar(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor):
        raise DTypeError(f"a step must return the loss as a Tensor, got {type(loss).__name__}")
    if loss.shape != ():
        raise ShapeError(f"the loss must be a scalar, got {loss.spec}: reduce it with mean() or sum()")
    return loss


def _reached(loss: Tensor, name: str, weight: Tensor, gradient: Tensor | None) -> Tensor:
    if gradient is not None:
        return gradient
    warnings.warn(f"{name} will not learn: {reason([loss], weight)}", UnreachableWarning, stacklevel=2)
    return zeros_like(weight)


def build_update(state: TrainingState, options: StepOptions) -> Traced:
    """(parameters, gradient, moments, scalars; all flat) -> (norm of the gradient, parameters, moments)."""
    flat = TensorSpec(state.theta.shape, state.dtype)
    slots, scalars = tuple(state.moments), tuple(state.optimizer.scalars(1, state.optimizer.lr))

    def update(theta: Tensor, gradient: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        moments = dict(zip(slots, rest, strict=False))
        numbers = dict(zip(scalars, rest[len(slots) :], strict=True))
        norm = sqrt(total(square(gradient)))
        gradient, _ = options.clip.clipped(gradient)
        theta, moments = state.optimizer.update(theta, gradient, moments, numbers)
        return (norm, theta, *(moments[s] for s in slots))

    names = ["parameters", "gradient", *slots, *scalars]
    specs = [flat] * (2 + len(slots)) + [TensorSpec((), state.dtype)] * len(scalars)
    return trace(update, *specs, names=names)


@dataclass(frozen=True)
class _Variant:
    """The gradient graph for one set of batch shapes."""

    traced: Traced
    compiled: Evaluated


@dataclass(frozen=True)
class StepResult:
    """What one step found: the loss of its batch and the norm of its gradient before clipping."""

    loss: float
    norm: float


class TrainingStep:
    """Forward, backward, clip and update of one network, for any batch shapes.

    The gate stands between gradient and update: a loss or gradient that is not finite leaves every weight, moment and
    buffer as it was, and raises NonFiniteError.
    """

    def __init__(
        self, function: StepFunction, net: Module, optimizer: Optimizer, options: StepOptions, backend: str
    ) -> None:
        self.function, self.options, self.backend = function, options, backend
        self.state = TrainingState(net, optimizer)
        self.modules = tuple(net.modules())
        self.variants: dict[Any, _Variant] = {}
        self.updating = compile_graph(build_update(self.state, options).graph, backend)

    def __call__(
        self, batch: tuple[np.ndarray, ...], key: np.ndarray, lr: float, share: float = 1.0, part: str = "whole"
    ) -> StepResult:
        """One batch.

        part: "whole" for an update from this batch alone; "first", "middle" and "last" for the parts of one update
        from several batches, each counting for its ``share`` of the rows. Only "whole" and "last" update.
        """
        state = self.state
        variant = self._variant(batch, adds=part in ("middle", "last"))
        inputs = self._inputs(variant, batch, key, share, part)
        loss, *results = variant.compiled(*inputs)
        writes = results[len(state.parameters) :]
        if not np.isfinite(loss):
            raise explain_nonfinite(variant.traced.graph, inputs, state.step + 1, "loss")
        for view, gradient in zip(state.views(state.gradient), results, strict=False):
            view[...] = gradient
        if part in ("first", "middle"):
            self._write(variant, writes)
            return StepResult(float(loss), float("nan"))
        with np.errstate(over="ignore"):  # a learning rate beyond float32 becomes infinity, which the gate finds
            scalars = [np.asarray(s, state.dtype) for s in state.optimizer.scalars(state.step + 1, lr).values()]
        norm, theta, *moments = self.updating(state.theta, state.gradient, *state.moments.values(), *scalars)
        if not np.isfinite(norm):
            raise explain_nonfinite(variant.traced.graph, inputs, state.step + 1, "gradient")
        if not np.isfinite(theta).all() or not all(np.isfinite(m).all() for m in moments):
            raise NonFiniteError(
                f"step {state.step + 1}: the update overflows at learning rate {lr:g} although the gradient is finite "
                f"(its norm is {float(norm):.3g}). The weights were left as they were: lower the learning rate, or "
                "clip the gradient (clip_norm=1.0)"
            )
        number = state.step + 1
        try:
            self._take_over(number, theta, moments, variant, writes)
        except KeyboardInterrupt:  # once begun it is finished, so that no update is half made
            self._take_over(number, theta, moments, variant, writes)
            raise
        return StepResult(float(loss), float(norm))

    def _take_over(
        self, number: int, theta: np.ndarray, moments: list[np.ndarray], variant: _Variant, writes: list[np.ndarray]
    ) -> None:
        state = self.state
        state.theta[...] = theta
        for held, moment in zip(state.moments.values(), moments, strict=True):
            held[...] = moment
        self._write(variant, writes)
        state.step = number

    def _variant(self, batch: tuple[np.ndarray, ...], adds: bool) -> _Variant:
        specs = tuple(TensorSpec(a.shape, a.dtype) for a in batch)
        modes = tuple(m.training for m in self.modules)
        if (specs, adds, modes) not in self.variants:
            with warnings.catch_warnings():
                if self.variants:  # said once, with the first trace
                    warnings.simplefilter("ignore", UnreachableWarning)
                traced = build_gradients(self.function, self.state, specs, self.options, adds)
            self.variants[specs, adds, modes] = _Variant(traced, compile_graph(traced.graph, self.backend))
        return self.variants[specs, adds, modes]

    def _inputs(self, variant: _Variant, batch: tuple, key: np.ndarray, share: float, part: str) -> list[np.ndarray]:
        earlier = self.state.views(self.state.gradient) if part in ("middle", "last") else []
        captured = (x.value("a step") for x in variant.traced.captured)
        return [*batch, key, np.asarray(share, self.state.dtype), *earlier, *captured]

    def _write(self, variant: _Variant, values: list[np.ndarray]) -> None:
        for target, value in zip(variant.traced.targets, values, strict=True):
            target.value("a step")[...] = value


def checked_options(clip_norm: Any, clip_value: Any, l1: Any, l2: Any) -> StepOptions:
    """The options of a step; ArgumentError for a number out of its range."""
    for name, value in (("l1", l1), ("l2", l2)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value) or value < 0:
            raise ArgumentError(f"{name} must be a finite number of at least 0, got {value!r}")
    return StepOptions(Clip(norm=clip_norm, value=clip_value), float(l1), float(l2))


class CompiledStep:
    """What ``@step`` gives: call it with a batch for one update, or ``epoch`` for a pass over all rows."""

    def __init__(self, inner: TrainingStep, seed: int) -> None:
        self.inner, self.seed = inner, seed
        self.epochs = 0

    def __call__(self, *batch: Any) -> float:
        """One update; the loss of the batch before it."""
        arrays = tuple(self._array(a) for a in batch)
        state = self.inner.state
        with state.training():
            return self.inner(arrays, self._key(0), state.optimizer.lr).loss

    def epoch(self, *rows: Any, batch_size: int = 32, shuffle: bool = True, drop_last: bool = False) -> float:
        """One pass over all rows in mini-batches, in an order that seed and epoch decide; the mean loss of a row."""
        arrays = tuple(self._array(a) for a in rows)
        lengths = [len(a) if a.ndim else 0 for a in arrays]
        if not lengths or len(set(lengths)) > 1 or lengths[0] == 0:
            raise ShapeError(f"an epoch needs arrays of equally many rows, got {[list(a.shape) for a in arrays]}")
        n = lengths[0]
        order = permutation(n, self.seed, self.epochs) if shuffle else np.arange(n)
        total, counted, state = 0.0, 0, self.inner.state
        with state.training():
            for part in batch_slices(n, batch_size, drop_last):
                chosen = order[part]
                result = self.inner(tuple(a[chosen] for a in arrays), self._key(0), state.optimizer.lr)
                total += result.loss * len(chosen)
                counted += len(chosen)
        self.epochs += 1
        return total / counted

    @property
    def graph(self) -> Graph:
        """Forward and backward pass of the last batch shape."""
        if not self.inner.variants:
            raise GraphError("the step has not been called yet, so there is no graph: call it once")
        return next(reversed(self.inner.variants.values())).traced.graph

    def _array(self, given: Any) -> np.ndarray:
        array = given.value("a step") if isinstance(given, Tensor) else as_array(given)
        return array.astype(self.inner.state.dtype, copy=False) if array.dtype.kind == "f" else array

    def _key(self, first_row: int) -> np.ndarray:
        return key(self.seed, self.inner.state.step + 1, first_row).value("a step")


@known_keywords
def step(
    net: Module,
    optimizer: Optimizer,
    *,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    seed: int = 0,
    backend: str = "reference",
) -> Callable[[StepFunction], CompiledStep]:
    """Turn a function that returns the loss of a batch into a step of training.

    Used as ``@step(net, optimizer)`` over ``def step(x, y): return loss``; forward, backward, clip and update of
    ``net``'s parameters are compiled together, once for each shape of the batch. See ``fit`` for the options.
    """

    if not isinstance(net, Module) or not isinstance(optimizer, Optimizer):
        found = [f"the class {v.__name__}" if isinstance(v, type) else type(v).__name__ for v in (net, optimizer)]
        wanted = "step takes a network and an optimizer, as @step(net, optim.Adam(1e-3))"
        raise ArgumentError(f"{wanted}, got {found[0]} and {found[1]}")

    def made(function: StepFunction) -> CompiledStep:
        inner = TrainingStep(function, net, optimizer, checked_options(clip_norm, clip_value, l1, l2), backend)
        return functools.wraps(function)(CompiledStep(inner, seed))  # type: ignore[return-value]

    return made
