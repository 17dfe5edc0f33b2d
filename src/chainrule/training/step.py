"""One training step as graphs: forward, loss, backward; the gate; clip and update."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np

from chainrule.compiler import Part, Parts, Stop, chosen_backend, link
from chainrule.data.batches import batch_slices, permutation
from chainrule.errors import ArgumentError, DTypeError, GraphError, NonFiniteError, ShapeError, UnreachableWarning
from chainrule.graph import (
    Graph,
    Node,
    Tensor,
    Traced,
    as_array,
    context,
    evaluator,
    holding,
    no_grad,
    ones_cotangent,
    placeholder,
    reason,
    tensor,
    trace,
    vjp,
    zeros_like,
)
from chainrule.graph.trace import Trace
from chainrule.nn import Module
from chainrule.nn.module import remoded
from chainrule.ops import add, gather, isfinite, key, logical_and, multiply, subtract
from chainrule.optim import Clip, Optimizer, penalty
from chainrule.optim.clipping import euclidean_norm
from chainrule.spec import INT64, UINT32, TensorSpec
from chainrule.training.keywords import known_keywords
from chainrule.training.nonfinite import explain_nonfinite
from chainrule.training.probes import Measured, Probes, probes_of
from chainrule.training.state import TrainingState

StepFunction = Callable[..., Tensor]


@dataclass(frozen=True)
class StepOptions:
    """What a step does beside loss, gradient and update."""

    clip: Clip = field(default_factory=Clip)
    l1: float = 0.0
    l2: float = 0.0


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

    names = scalar_names(state.optimizer)
    scalar = TensorSpec((), state.dtype)
    specs = (scalar, TensorSpec(state.theta.shape, state.dtype), *[scalar] * len(names))
    return trace(gate, *specs, names=("loss", "gradient", *names)).graph


def build_update(state: TrainingState, options: StepOptions, writes: tuple[TensorSpec, ...] = ()) -> Graph:
    """(parameters, gradient, moments, scalars, updates made, values) -> (parameters, moments, updates made, values).

    Clip and update, over flat vectors. values: what the forward pass writes to buffers; with the update they become the
    network's own, or none of it does.
    """
    flat, scalar = TensorSpec(state.theta.shape, state.dtype), TensorSpec((), state.dtype)
    slots, scalars = tuple(state.moments), scalar_names(state.optimizer)

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


def scalar_names(optimizer: Optimizer) -> tuple[str, ...]:
    """The numbers that an update takes besides arrays."""
    return tuple(optimizer.scalars(1, optimizer.lr))


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
    begin: Parts = (Part(traced.graph, tuple(inputs), ("loss", *gradients, *sums, *staged)),)
    writes = tuple(y.spec for y in traced.graph.outputs[1 + len(gradients) + len(sums) :])
    if not updates:
        copied = tuple(map(placeholder, writes))
        return (*begin, Part(Graph(copied, copied), tuple(staged), tuple(targets))) if targets else begin
    slots, scalars = tuple(state.moments), scalar_names(state.optimizer)
    gate = Part(state.made("gate", lambda: build_gate(state)), ("loss", "gradient", *scalars), ("norm", "finite"))
    taken = ("parameters", "gradient", *slots, *scalars, "updates", *staged)
    given = ("parameters", *slots, "updates", *targets)
    made = state.made(("update", options, writes), lambda: build_update(state, options, writes))
    update = Part(made, taken, given)
    measured = (update,) if probes is None else measured_update(update, state, writes, probes)
    return (*begin, gate, Stop("finite"), *measured)


def measured_update(update: Part, state: TrainingState, writes: tuple[TensorSpec, ...], probes: Probes) -> Parts:
    """The same update, with what its probes sum up.

    Where every entry is updated by itself it is made parameter by parameter, so that the sums join the loops that have
    the numbers at hand: half a dozen flat vectors pass through memory as it is, and another would cost a fifth.
    """
    if all(node.primitive.elementwise for node in update.graph.nodes()):
        return (_update_by_parameter(state, writes, probes, update),)
    names = [n for layer in probes.layers for n in layer.weights]
    shapes = {n: p.shape for n, p in zip(state.names, state.parameters, strict=True)}
    specs = [TensorSpec(matrix_shape(shapes[n]), state.dtype) for n in names] * 3
    # Copies of what it was and is: an optimizer that mixes entries has no loop that could be joined.
    flat = placeholder(TensorSpec(state.theta.shape, state.dtype))
    copied = Part(Graph((flat,), (flat,)), ("parameters",), ("before",))

    def sums(*given: Tensor) -> tuple[Tensor, ...]:
        before, after, gradients = (
            dict(zip(names, given[i:], strict=False)) for i in range(0, 3 * len(names), len(names))
        )
        return probes.sums_of_update(before, gradients, {n: subtract(after[n], before[n]) for n in names})

    inputs = [f"{kind} of {n}" for kind in ("before", "parameters", "gradient") for n in names]
    return copied, update, Part(trace(sums, *specs, names=inputs).graph, tuple(inputs), probes.update_tables)


def _update_by_parameter(state: TrainingState, writes: tuple[TensorSpec, ...], probes: Probes, whole: Part) -> Part:
    slots, scalars = tuple(state.moments), scalar_names(state.optimizer)
    arrays = ("parameters", "gradient", *slots)
    shapes = {n: p.shape for n, p in zip(state.names, state.parameters, strict=True)}
    inputs = [f"{kind} of {n}" for n in state.names for kind in arrays]
    specs = [TensorSpec(matrix_shape(shapes[n]), state.dtype) for n in state.names for _ in arrays]
    specs += [TensorSpec((), state.dtype)] * len(scalars) + [TensorSpec((), INT64), *writes]
    inputs += [*scalars, "updates", *(n for n in whole.inputs if n.startswith("new."))]

    def update(*given: Tensor) -> tuple[Tensor, ...]:
        rest = given[len(arrays) * len(state.names) :]
        numbers = dict(zip(scalars, rest, strict=False))
        made, *values = rest[len(scalars) :]
        outputs, weights, gradients, moved = [], {}, {}, {}
        for i, n in enumerate(state.names):
            theta, gradient, *moments = given[len(arrays) * i :][: len(arrays)]
            after, kept = state.optimizer.update(theta, gradient, dict(zip(slots, moments, strict=True)), numbers)
            weights[n], gradients[n], moved[n] = theta, gradient, subtract(after, theta)
            outputs += [after, *(kept[s] for s in slots)]
        return (*outputs, add(made, 1), *values, *probes.sums_of_update(weights, gradients, moved))

    written = [f"{kind} of {n}" for n in state.names for kind in ("parameters", *slots)]
    targets = whole.outputs[1 + len(slots) :]
    return Part(trace(update, *specs, names=inputs).graph, tuple(inputs), (*written, *targets, *probes.update_tables))


def _matrix(array: np.ndarray) -> Tensor:
    return tensor(array.reshape(matrix_shape(array.shape)))


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a parameter as a matrix, [outputs, the rest]: rows long enough for a loop."""
    return shape if len(shape) < 2 else (shape[0], math.prod(shape[1:]))


def captured_names(traced: Traced) -> dict[int, str]:
    """What the state that a trace reads is called in memory, by id."""
    return {id(x): f"state{i} {x.name}" for i, x in enumerate(traced.captured)}


class StepResult(NamedTuple):
    """What one step found: the loss of its batch and the norm of its gradient before clipping."""

    loss: float
    norm: float


AHEAD = 256
"""Steps whose scalars are worked out at once."""


class TrainingStep:
    """Forward, backward, clip and update of one network, for any batch shapes.

    The gate stands between gradient and update: a loss or gradient that is not finite leaves every weight, moment and
    buffer as it was, and raises NonFiniteError.
    """

    def __init__(
        self,
        function: StepFunction,
        net: Module,
        optimizer: Optimizer,
        options: StepOptions,
        backend: str | None,
        seed: int = 0,
    ) -> None:
        self.function, self.options, self.seed = function, options, seed
        self.backend = chosen_backend(backend)
        self.state = TrainingState(net, optimizer)
        self.modules = tuple(net.modules())
        self.modes: dict[tuple[bool, ...], int] = {}
        """Each combination of the modules' modes that was met, numbered: a trace serves one of them."""
        self._seen, self._mode = -1, 0
        self.traces: dict[Any, Traced] = {}
        self.probes: dict[Any, Probes] = {}
        """What the traces measure that do so."""
        self.compiles_probes = True
        """Whether steps that measure are compiled; for a few steps the reference is sooner ready."""
        self.references: dict[int, Callable[..., tuple[np.ndarray, ...]]] = {}
        self._sums: list[_Taken] = []
        self.running: dict[Any, _Running] = {}
        self._last: _Running | None = None

    def trace(self, specs: tuple[TensorSpec, ...], part: str = "whole", measures: bool = False) -> Traced:
        """Forward and backward pass for one set of batch shapes; with probes, if it measures."""
        place = (specs, part, self.mode(), measures)
        if place not in self.traces:
            with warnings.catch_warnings():
                if self.traces:  # said once, with the first trace
                    warnings.simplefilter("ignore", UnreachableWarning)
                traced, probes = build_gradients(self.function, self.state, specs, self.options, part, measures)
            self.traces[place] = traced
            if probes is not None:
                self.probes[id(traced)] = probes
        return self.traces[place]

    def mode(self) -> int:
        """The number of the combination of modes (training or evaluation) that the modules are in."""
        if self._seen != remoded[0]:
            modes = tuple(m.training for m in self.modules)
            self._seen, self._mode = remoded[0], self.modes.setdefault(modes, len(self.modes))
        return self._mode

    def __call__(
        self, batch: tuple[np.ndarray, ...], lr: float, share: float = 1.0, part: str = "whole", first_row: int = 0,
        measures: bool = False,
    ) -> StepResult:  # fmt: skip
        """One batch.

        part: "whole" for an update from this batch alone; "first", "middle" and "last" for the parts of one update
        from several batches, each counting for its ``share`` of the rows. Only "whole" and "last" update.
        first_row: rows of the update that came before this batch; random numbers are counted by row.
        measures: whether a "whole" one measures its layers, for ``take``.
        """
        aside = self._aside(batch) if measures and not self.compiles_probes else None
        running, t = self.once(batch, lr, share, part, first_row, measures and self.compiles_probes)
        if aside is not None:
            self._sums.append(aside())
        return StepResult(running.losses[t], running.norms[t])

    def once(
        self, batch: tuple[np.ndarray, ...], lr: float, share: float = 1.0, part: str = "whole", first_row: int = 0,
        measures: bool = False,
    ) -> tuple[_Running, int]:  # fmt: skip
        """The same; (what ran, the entry of its tables that tells what the step found)."""
        running = self._last
        if running is None or running.measures != measures or not running.takes(batch, part, self.mode()):
            place = (part, self.mode(), measures, *[(a.shape, a.dtype) for a in batch])
            running = self._last = self.running.get(place) or self._run_batches(place, batch)
            running.point(batch)
        if part != "whole":
            running.memory["share"][...] = share
        t = running.ready(self.state, lr, self.seed, first_row)
        if running.run(1) == 0 or not (running.updates or math.isfinite(running.losses[t])):
            raise self._explained(running.traced, batch, running, t)
        if running.probes is not None:
            self._sums.append(running.taken(self.state.step - 1, t, 1))
        return running, t

    def take(self) -> list[Measured]:
        """What the steps with probes measured since the last call."""
        taken, self._sums = self._sums, []
        found = []
        for probes in {id(p): p for p, _, _ in taken}.values():  # a batch of another size has probes of its own
            own = [(steps, sums) for p, steps, sums in taken if p is probes]
            steps, sums = (np.concatenate(arrays, axis=-1) for arrays in zip(*own, strict=True))
            found.append(Measured(steps, probes.quantities(sums)))
        return found

    def many(
        self, rows: tuple[np.ndarray, ...], order: np.ndarray, lrs: list[float], measures: bool = False
    ) -> tuple[np.ndarray, NonFiniteError | None]:
        """Updates from batches of ``rows``, one after another in one call: (the loss of each that was made, error).

        order: int64 [updates, batch size], the rows of each batch. lrs: the learning rate of each update. The error
        says why the batch after the last loss made no update; None if all were made. measures: whether each measures
        its layers, for ``take``.
        """
        if not measures or self.compiles_probes:
            return self._many(rows, order, lrs, measures)
        made: list[np.ndarray] = []
        for chosen, lr in zip(order, lrs, strict=True):
            aside = self._aside(tuple(a[chosen] for a in rows))
            losses, error = self._many(rows, chosen[None], [lr], False)
            made.append(losses)
            if error is not None:
                return np.concatenate(made), error
            self._sums.append(aside())
        return np.concatenate(made) if made else np.zeros(0, self.state.dtype), None

    def _aside(self, batch: tuple[np.ndarray, ...]) -> Callable[[], _Taken]:
        """Have the reference measure the next step, which ``batch`` makes; call what it gives after that step."""
        state = self.state
        traced = self.trace(tuple(TensorSpec(a.shape, a.dtype) for a in batch), measures=True)
        probes, names, made = self.probes[id(traced)], state.names, state.step
        words = key(self.seed, made + 1).value("a probe")
        run = self.references.setdefault(id(traced), evaluator(traced.graph))
        with np.errstate(all="ignore"):
            _, *found = run(*batch, words, *(x.value("a probe") for x in traced.captured))
        before = state.views(state.theta.copy())
        sums = found[len(names) : len(names) + len(probes.names)]

        def after() -> _Taken:
            moved = [new - old for new, old in zip(state.views(state.theta), before, strict=True)]
            kinds = [dict(zip(names, map(_matrix, kind), strict=False)) for kind in (before, found, moved)]
            with no_grad(), np.errstate(all="ignore"):
                own = [x.value("a probe") for x in probes.sums_of_update(*kinds)]
            return probes, np.array([made]), np.array([*sums, *own], np.float64)[:, None]

        return after

    def _many(
        self, rows: tuple[np.ndarray, ...], order: np.ndarray, lrs: list[float], measures: bool
    ) -> tuple[np.ndarray, NonFiniteError | None]:
        size = order.shape[1]
        place = ("rows", self.mode(), measures, size, *((a.shape, a.dtype) for a in rows))
        rows = tuple(map(np.ascontiguousarray, rows))
        running = self.running.get(place) or self._run_rows(place, rows, size)
        running.point(rows)
        order = np.ascontiguousarray(order, np.int64)
        made: list[np.ndarray] = []
        for first in range(0, len(order), AHEAD):
            count = min(AHEAD, len(order) - first)
            running.fill(self.state.step, self.state.optimizer, lrs[first : first + count], self.seed, 0)
            running.tables["order"][:count] = order[first : first + count]
            done = running.run(count)
            made.append(running.tables["loss"][:done].copy())
            if running.probes is not None and done:
                self._sums.append(running.taken(self.state.step - done, 0, done))
            if done < count:
                batch = tuple(a[order[first + done]] for a in rows)
                error = self._explained(running.traced, batch, running, done)
                return np.concatenate(made), error
        return np.concatenate(made) if made else np.zeros(0, self.state.dtype), None

    def _run_batches(self, place: Any, batch: tuple[np.ndarray, ...]) -> _Running:
        part, _, measures = place[:3]
        specs = tuple(TensorSpec(a.shape, a.dtype) for a in batch)
        kind = {"whole": "whole", "first": "first"}.get(part, "further")
        traced = self.trace(specs, kind, measures)
        updates = part in ("whole", "last")
        probes = self.probes.get(id(traced))
        parts = parts_of_step(traced, self.state, self.options, updates, probes)
        ahead = AHEAD if part == "whole" else 1
        own = {n: np.zeros(s.shape, s.dtype) for n, s in zip(batch_names(specs), specs, strict=True)}
        running = _Running(place, traced, parts, self.state, self.backend, own, ahead, updates, probes=probes)
        self.running[place] = running
        return running

    def _run_rows(self, place: Any, rows: tuple[np.ndarray, ...], size: int) -> _Running:
        specs = tuple(TensorSpec((size, *a.shape[1:]), a.dtype) for a in rows)
        traced = self.trace(specs, measures=place[2])
        probes = self.probes.get(id(traced))
        whole = tuple(TensorSpec(a.shape, a.dtype) for a in rows)
        picked = build_rows(whole, size)
        names = batch_names(specs)
        gathering = Part(picked, (*(f"rows.{n}" for n in names), "order"), tuple(names))
        parts = (gathering, *parts_of_step(traced, self.state, self.options, True, probes))
        own = {f"rows.{n}": a for n, a in zip(names, rows, strict=True)}
        running = _Running(place, traced, parts, self.state, self.backend, own, AHEAD, True, size, probes)
        self.running[place] = running
        return running

    def _explained(self, traced: Traced, batch: tuple[np.ndarray, ...], running: _Running, t: int) -> NonFiniteError:
        """Why the gate closed at entry ``t`` of the tables: the step once more, operation by operation."""
        given = dict(zip(batch_names(batch), batch, strict=True))
        # What the parts before left has been added to already; it was finite, or they would have said so.
        earlier = {n: np.zeros_like(a) for n, a in running.memory.items() if n.startswith("gradient.")}
        memory = {**running.memory, **earlier, "key": running.tables["key"][t], **given}
        own = traced.graph.inputs[: -len(traced.captured) or None]
        inputs = [memory[x.name] for x in own] + [x.value("a step") for x in traced.captured]
        running.forget()
        loss, norm = running.losses[t], running.norms[t]
        if running.updates and math.isfinite(loss) and math.isfinite(norm):
            return NonFiniteError(
                f"step {self.state.step + 1}: the update overflows although the gradient is finite (its norm is "
                f"{norm:.3g}): {', '.join(f'{n} is {running.tables[n][t]:.3g}' for n in running.names)}. The weights "
                "were left as they were: lower the learning rate",
                self.state.step + 1,
                "update",
            )
        what = "gradient" if math.isfinite(loss) else "loss"
        return explain_nonfinite(traced.graph, inputs, self.state.step + 1, what)


_Taken = tuple[Probes, np.ndarray, np.ndarray]
"""(what was measured, updates made before each step, sums [tables, steps])"""


class _Running:
    """A step joined to the memory of its state, with the tables that it walks."""

    def __init__(
        self, place: Any, traced: Traced, parts: Parts, state: TrainingState, backend: str, own: dict[str, np.ndarray],
        ahead: int, updates: bool, batch_size: int = 0, probes: Probes | None = None,
    ) -> None:  # fmt: skip
        self.part, self.mode, self.measures = place[:3]
        self.probes = probes
        self.traced, self.updates, self.ahead = traced, updates, ahead
        self.memory = {**own, "gradient": state.gradient, "parameters": state.theta, **state.moments}
        self.memory |= {f"gradient.{n}": v for n, v in zip(state.names, state.views(state.gradient), strict=True)}
        named = captured_names(traced)
        self.memory |= {named[id(x)]: x.value("a step") for x in traced.captured}
        self.memory |= {"share": np.zeros((), state.dtype), "updates": state.counter}
        self.names = scalar_names(state.optimizer)
        self.tables = {n: np.zeros(ahead, state.dtype) for n in ("loss", *((*self.names, "norm") if updates else ()))}
        # Entries of a memoryview are Python's floats, at a tenth of the price of an array's.
        self.losses = self.tables["loss"].data
        self.norms = self.tables.get("norm", np.full(ahead, np.nan, state.dtype)).data
        self.batch = tuple((name, a.shape, a.dtype) for name, a in own.items())
        self.held: list[np.ndarray | None] = list(own.values())
        self.tables["key"] = np.zeros((ahead, 4), np.uint32)
        if probes is not None:
            flat = {"parameters": state.theta, "gradient": state.gradient, **state.moments}
            flat["before"] = self.memory["before"] = np.zeros_like(state.theta)
            for kind, array in flat.items():
                for n, view in zip(state.names, state.views(array), strict=True):
                    self.memory[f"{kind} of {n}"] = view.reshape(matrix_shape(view.shape))
            self.tables |= {n: np.zeros(ahead) for n in (*probes.tables, *probes.update_tables)}
        if batch_size:
            self.tables["order"] = np.zeros((ahead, batch_size), np.int64)
        self.bound = link(parts, backend).bind(self.memory, self.tables)
        self.forget()

    def takes(self, batch: tuple[np.ndarray, ...], part: str, mode: int) -> bool:
        """Whether this is made for such a batch; if so, the next step reads it."""
        if part != self.part or mode != self.mode or len(batch) != len(self.batch):
            return False
        for i, (_, shape, dtype) in enumerate(self.batch):  # a good part of what a call of a small step costs
            array = batch[i]
            if array.shape != shape:
                return False
            if array is not self.held[i]:
                if array.dtype is not dtype:  # one that is equal and not the same goes the long way, which does no harm
                    return False
                self._point(i, array)
        return True

    def point(self, batch: tuple[np.ndarray, ...]) -> None:
        """The next step reads these arrays."""
        for i, array in enumerate(batch):
            self._point(i, array)

    def _point(self, i: int, array: np.ndarray) -> None:
        contiguous = array.flags.c_contiguous
        self.bound.point(self.batch[i][0], array if contiguous else np.ascontiguousarray(array))
        self.held[i] = array if contiguous else None

    def run(self, steps: int) -> int:
        """Run ``steps`` times; how many were whole."""
        try:
            return self.bound.run(steps)
        except BaseException:  # nobody knows how far the tables have been walked
            self.forget()
            raise

    def taken(self, first: int, t: int, steps: int) -> _Taken:
        """What the probes left in ``steps`` entries of the tables from ``t`` on. first: updates made before them."""
        assert self.probes is not None
        names = (*self.probes.tables, *self.probes.update_tables)
        return self.probes, np.arange(first, first + steps), np.array([self.tables[n][t : t + steps] for n in names])

    def forget(self) -> None:
        """What stands in the tables holds no more."""
        self.first, self.expected = 0, -1
        self.filled_lr, self.filled_row = math.nan, -1

    def ready(self, state: TrainingState, lr: float, seed: int, first_row: int) -> int:
        """Make the next entry of the tables that of the next step, and say which it is."""
        t = state.step - self.first
        if t != self.expected or t >= self.ahead or lr != self.filled_lr or first_row != self.filled_row:
            self.fill(state.step, state.optimizer, [lr] * self.ahead, seed, first_row)
            self.first, self.filled_lr, self.filled_row, t = state.step, lr, first_row, 0
        self.expected = t + 1
        return t

    def fill(self, step: int, optimizer: Optimizer, lrs: list[float], seed: int, first_row: int) -> None:
        """The tables for the steps after ``step``, from their beginning."""
        numbers = [optimizer.scalars(step + 1 + i, lr) for i, lr in enumerate(lrs)] if self.updates else []
        with np.errstate(over="ignore"):  # a learning rate beyond float32 becomes infinity, which the gate finds
            for name in self.names if self.updates else ():
                self.tables[name][: len(lrs)] = [n[name] for n in numbers]
        words = key(seed, step + 1, first_row).value("a step")
        self.tables["key"][: len(lrs)] = words
        self.tables["key"][: len(lrs), 2] += np.arange(len(lrs), dtype=np.uint32)
        self.forget()
        self.bound.rewind()


def checked_options(clip_norm: Any, clip_value: Any, l1: Any, l2: Any) -> StepOptions:
    """The options of a step; ArgumentError for a number out of its range."""
    for name, value in (("l1", l1), ("l2", l2)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value) or value < 0:
            raise ArgumentError(f"{name} must be a finite number of at least 0, got {value!r}")
    return StepOptions(Clip(norm=clip_norm, value=clip_value), float(l1), float(l2))


class CompiledStep:
    """What ``@step`` gives: call it with a batch for one update, or ``epoch`` for a pass over all rows."""

    def __init__(self, inner: TrainingStep) -> None:
        self.inner, self.dtype = inner, inner.state.dtype
        self.epochs = 0

    def __call__(self, *batch: Any) -> float:
        """One update; the loss of the batch before it."""
        for given in batch:
            if type(given) is not np.ndarray or (given.dtype is not self.dtype and given.dtype is not INT64):
                batch = tuple(map(self._array, batch))
                break
        state = self.inner.state
        held = state.begin()
        try:
            running, t = self.inner.once(batch, state.optimizer.lr)
            return running.losses[t]
        finally:
            state.end(held)

    def epoch(self, *rows: Any, batch_size: int = 32, shuffle: bool = True, drop_last: bool = False) -> float:
        """One pass over all rows in mini-batches, in an order that seed and epoch decide; the mean loss of a row."""
        arrays = tuple(np.ascontiguousarray(self._array(a)) for a in rows)
        lengths = [len(a) if a.ndim else 0 for a in arrays]
        if not lengths or len(set(lengths)) > 1 or lengths[0] == 0:
            raise ShapeError(f"an epoch needs arrays of equally many rows, got {[list(a.shape) for a in arrays]}")
        n, inner = lengths[0], self.inner
        order = permutation(n, inner.seed, self.epochs) if shuffle else np.arange(n)
        slices = batch_slices(n, batch_size, drop_last)
        total, counted = 0.0, 0
        with inner.state.training():
            for chosen in even_batches(order, slices):
                losses, error = inner.many(arrays, chosen, [inner.state.optimizer.lr] * len(chosen))
                if error is not None:
                    raise error
                total += float(losses.sum(dtype=np.float64)) * chosen.shape[1]
                counted += chosen.size
        self.epochs += 1
        return total / counted

    @property
    def graph(self) -> Graph:
        """Forward and backward pass of the last batch shape."""
        if not self.inner.traces:
            raise GraphError("the step has not been called yet, so there is no graph: call it once")
        return next(reversed(self.inner.traces.values())).graph

    def _array(self, given: Any) -> np.ndarray:
        array = given.value("a step") if isinstance(given, Tensor) else as_array(given)
        return array.astype(self.inner.state.dtype, copy=False) if array.dtype.kind == "f" else array


def even_batches(order: np.ndarray, slices: list[slice]) -> list[np.ndarray]:
    """The rows of each batch, int64 [batches, size]: those of one size together, then the smaller last one."""
    parts = [order[s] for s in slices]
    found: list[np.ndarray] = []
    for size in dict.fromkeys(map(len, parts)):
        found.append(np.stack([p for p in parts if len(p) == size]))
    return found


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
    backend: str | None = None,
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
        inner = TrainingStep(function, net, optimizer, checked_options(clip_norm, clip_value, l1, l2), backend, seed)
        return functools.wraps(function)(CompiledStep(inner))  # type: ignore[return-value]

    return made
