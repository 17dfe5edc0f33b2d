"""One training step as graphs: rows of a batch; forward, loss, backward; the gate; clip and update; joined as parts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sized
from typing import Any, cast

from chainrule.compiler import Part, Parts, Stop
from chainrule.errors import DTypeError, ShapeError, UnreachableWarning
from chainrule.graph import (
    Graph,
    Node,
    Tensor,
    Traced,
    collector_paused,
    context,
    holding,
    ones_cotangent,
    placeholder,
    reason,
    trace,
    vjp,
    zeros_like,
)
from chainrule.graph.trace import Trace
from chainrule.ops import add, gather, isfinite, logical_and, multiply
from chainrule.optim import penalty
from chainrule.optim.clipping import euclidean_norm
from chainrule.spec import INT64, UINT32, TensorSpec
from chainrule.training.options import StepOptions
from chainrule.training.probed_update import measured_update
from chainrule.training.probes import Probes, probes_of
from chainrule.training.state import TrainingState

StepFunction = Callable[..., Tensor]


@collector_paused()
def build_gradients(
    function: StepFunction, state: TrainingState, specs: tuple[TensorSpec, ...], options: StepOptions, part: str,
    measures: bool = False,
) -> tuple[Traced, Probes | None]:  # fmt: skip
    """(batch, key, [share, [gradients so far]]) -> (loss, a gradient for each parameter), and the buffers it writes.

    measures: with the sums of ``probes_of`` behind the gradients; then the probes tell what they mean.

    part: "whole" for an update from this batch alone. A "first" part of several has an input ``share``, its part of the
    rows, by which its gradients are multiplied; a "further" one adds them to those of the parts before it.
    """
    names = [*batch_names(specs), "key"]
    inputs = [*specs, TensorSpec((4,), UINT32)]
    if part != "whole":
        names.append("share")
        inputs.append(TensorSpec((), state.dtype))
    if part == "further":
        names += [f"gradient.{n}" for n in state.names]
        inputs += [p.spec for p in state.parameters]

    passed: dict[Node, tuple[list[Tensor | None], tuple]] | None = {} if measures else None
    probed: list[Probes] = []

    def gradients(*given: Tensor) -> tuple[Tensor, ...]:
        batch, step_key, rest = given[: len(specs)], given[len(specs)], given[len(specs) + 1 :]
        tracing = cast(Trace, context.trace)
        weights = {n: tracing.seen(p) for n, p in zip(state.names, state.parameters, strict=True)}
        with holding(key=step_key):
            plain = _scalar(function(*batch))
        extra = penalty(weights, options.l1, options.l2)
        loss = plain if extra is None else add(plain, extra)
        pulled = vjp([loss], [ones_cotangent(loss)], list(weights.values()), passed)
        found = [_reached(loss, n, w, g) for (n, w), g in zip(weights.items(), pulled, strict=True)]
        if part != "whole":
            found = [multiply(g, rest[0]) for g in found]
        if part == "further":
            found = [add(before, g) for before, g in zip(rest[1:], found, strict=True)]
        if passed is None:
            return (loss, *found)
        made, sums = probes_of(state.net, plain, batch, weights, passed, (options.l1, options.l2))
        probed.append(made)
        return (loss, *found, *sums)

    traced = trace(gradients, *inputs, names=names)
    return traced, probed[0] if probed else None


def batch_names(specs: Sized) -> list[str]:
    """What the arrays of a batch are called in graphs and memory."""
    return ["x", "y"] if len(specs) == 2 else [f"input{i}" for i in range(len(specs))]


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


def build_gate(state: TrainingState) -> Graph:
    """(loss, gradient, scalars of the update) -> (norm of the gradient, whether the update may be made).

    The loss must be finite, and the norm times each scalar: an update that overflows is refused like a gradient that
    did.
    """

    def gate(loss: Tensor, gradient: Tensor, *scalars: Tensor) -> tuple[Tensor, Tensor]:
        norm = euclidean_norm(gradient)
        sound = isfinite(loss)
        for scalar in scalars:
            sound = logical_and(sound, isfinite(multiply(norm, scalar)))
        return norm, sound

    names = state.scalars
    scalar = TensorSpec((), state.dtype)
    specs = (scalar, TensorSpec(state.theta.shape, state.dtype), *[scalar] * len(names))
    return trace(gate, *specs, names=("loss", "gradient", *names)).graph


def build_update(state: TrainingState, options: StepOptions, writes: tuple[TensorSpec, ...] = ()) -> Graph:
    """(parameters, gradient, moments, scalars, updates made, values) -> (parameters, moments, updates made, values).

    Clip and update, over flat vectors. values: what the forward pass writes to buffers; with the update they become the
    network's own, or none of it does.
    """
    flat, scalar = TensorSpec(state.theta.shape, state.dtype), TensorSpec((), state.dtype)
    slots, scalars = tuple(state.moments), state.scalars

    def update(theta: Tensor, gradient: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        moments = dict(zip(slots, rest, strict=False))
        numbers = dict(zip(scalars, rest[len(slots) :], strict=False))
        made, *values = rest[len(slots) + len(scalars) :]
        gradient, _ = options.clip.clipped(gradient)
        theta, moments = state.optimizer.update(theta, gradient, moments, numbers)
        return (theta, *(moments[s] for s in slots), add(made, 1), *values)

    names = ["parameters", "gradient", *slots, *scalars, "updates", *(f"value{i}" for i in range(len(writes)))]
    specs = [flat] * (2 + len(slots)) + [scalar] * len(scalars) + [TensorSpec((), INT64), *writes]
    return trace(update, *specs, names=names).graph


def build_rows(rows: tuple[TensorSpec, ...], batch_size: int) -> Graph:
    """(all rows of each array, which of them) -> the arrays of a batch."""
    order = TensorSpec((batch_size,), INT64)
    names = [*(f"rows.{n}" for n in batch_names(rows)), "order"]
    return trace(lambda *given: [gather(r, given[-1]) for r in given[:-1]], *rows, order, names=names).graph


def parts_of_step(
    traced: Traced, state: TrainingState, options: StepOptions, updates: bool, probes: Probes | None = None
) -> Parts:
    """Gradients; the gate; then, only if it is open, what the forward pass writes, and the update.

    updates: whether this batch ends an update; the earlier ones of several only leave their gradients. probes: what the
    graph measures besides; then the update is measured too.
    """
    named = captured_names(traced)
    inputs = [x.name for x in traced.graph.inputs[: -len(traced.captured) or None]] + list(named.values())
    targets = [named[id(x)] for x in traced.targets]
    gradients = [f"gradient.{n}" for n in state.names]
    staged = [f"new.{n}" for n in targets]
    sums = () if probes is None else probes.tables
    weights = [named.get(id(p), "") for p in state.parameters]
    doomed = tuple((g, w) for g, w in zip(gradients, weights, strict=True) if w and updates)
    begin: Parts = (Part(traced.graph, tuple(inputs), ("loss", *gradients, *sums, *staged), doomed),)
    writes = tuple(y.spec for y in traced.graph.outputs[1 + len(gradients) + len(sums) :])
    if not updates:
        copied = tuple(map(placeholder, writes))
        return (*begin, Part(Graph(copied, copied), tuple(staged), tuple(targets))) if targets else begin
    slots, scalars = tuple(state.moments), state.scalars
    gate = Part(state.made("gate", lambda: build_gate(state)), ("loss", "gradient", *scalars), ("norm", "finite"))
    taken = ("parameters", "gradient", *slots, *scalars, "updates", *staged)
    given = ("parameters", *slots, "updates", *targets)
    made = state.made(("update", options, writes), lambda: build_update(state, options, writes))
    update = Part(made, taken, given)
    measured = (update,) if probes is None else measured_update(update, state, writes, probes)
    return (*begin, gate, Stop("finite"), *measured)


def captured_names(traced: Traced) -> dict[int, str]:
    """What the state that a trace reads is called in memory, by id."""
    return {id(x): f"state{i} {x.name}" for i, x in enumerate(traced.captured)}
