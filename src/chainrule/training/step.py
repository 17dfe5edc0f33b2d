"""One training step of a network: compiled for each shape of batch, run once or many times in a call."""

from __future__ import annotations

import functools
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.backends.numpy_threads import one_numpy_thread
from chainrule.compiler import Part, chosen_backend
from chainrule.data.batches import batch_slices, permutation
from chainrule.errors import ArgumentError, GraphError, NonFiniteError, ShapeError, UnreachableWarning
from chainrule.graph import (
    Graph,
    Tensor,
    Traced,
    as_array,
    evaluator,
    shown,
    user_line,
)
from chainrule.nn import Module
from chainrule.nn.module import remoded
from chainrule.ops import key
from chainrule.optim import Optimizer
from chainrule.spec import INT64, TensorSpec
from chainrule.training.keywords import known_keywords
from chainrule.training.nonfinite import explain_nonfinite
from chainrule.training.options import StepOptions, checked_options
from chainrule.training.probed_update import evaluated_sums
from chainrule.training.probes import Measured, Probes
from chainrule.training.running import AHEAD, Running, Taken
from chainrule.training.state import TrainingState
from chainrule.training.step_graphs import StepFunction, batch_names, build_gradients, build_rows, parts_of_step

log = logging.getLogger("chainrule.compile")


class StepResult(NamedTuple):
    """What one step found: the loss of its batch and the norm of its gradient before clipping."""

    loss: float
    norm: float


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
        self._sums: list[Taken] = []
        self.running: dict[Any, Running] = {}
        self._last: Running | None = None

    def trace(self, specs: tuple[TensorSpec, ...], part: str = "whole", measures: bool = False) -> Traced:
        """Forward and backward pass for one set of batch shapes; with probes, if it measures."""
        place = (specs, part, self.mode(), measures)
        if place not in self.traces:
            self._say_traced_again(place)
            with warnings.catch_warnings():
                if self.traces:  # said once, with the first trace
                    warnings.simplefilter("ignore", UnreachableWarning)
                traced, probes = build_gradients(self.function, self.state, specs, self.options, part, measures)
            self.traces[place] = traced
            if probes is not None:
                self.probes[id(traced)] = probes
        return self.traces[place]

    def _say_traced_again(self, place: Any) -> None:
        """In one line, what no trace before was for."""
        if not self.traces:
            return
        specs, part, _, measures = place
        last = next(reversed(self.traces))
        changed = [
            (specs != last[0], f"the batch was ({_listed(last[0])}), now ({_listed(specs)})"),
            (part != last[1], f"it makes the {part} part of an update, before the {last[1]}"),
            (place[2] != last[2], "modes of the network changed"),
            (measures != last[3], "it measures its layers" if measures else "it no longer measures its layers"),
        ]
        reasons = "; ".join(reason for differs, reason in changed if differs)
        name = getattr(self.function, "__name__", "_")
        log.info("%s traced again at %s: %s", "fit" if name[0] == "_" else name, shown(user_line()), reasons)

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
    ) -> tuple[Running, int]:  # fmt: skip
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
            self._sums.append(running.taken(np.array([self.state.step - 1]), t))
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
        self, rows: tuple[np.ndarray, ...], order: np.ndarray, lrs: Sequence[float], measures: Sequence[bool] = ()
    ) -> tuple[np.ndarray, NonFiniteError | None]:
        """Updates from batches of ``rows``, one right after another: (the loss of each that was made, error).

        order: int64 [updates, batch size], the rows of each batch. lrs: the learning rate of each update. measures:
        whether each measures its layers, for ``take``; without it none does. The error says why the batch after the
        last loss made no update; None if all were made.
        """
        rows = tuple(map(np.ascontiguousarray, rows))
        order = np.ascontiguousarray(order, np.int64)
        measured = np.array(measures, bool) if len(measures) else np.zeros(len(order), bool)
        made: list[np.ndarray] = [np.zeros(0, self.state.dtype)]
        error = None
        for first in range(0, len(order), AHEAD):
            ahead = slice(first, first + AHEAD)
            losses, error = self._ahead(rows, order[ahead], lrs[ahead], measured[ahead])
            made.append(losses)
            if error is not None:
                break
        return np.concatenate(made), error

    def _ahead(
        self, rows: tuple[np.ndarray, ...], order: np.ndarray, lrs: Sequence[float], measured: np.ndarray
    ) -> tuple[np.ndarray, NonFiniteError | None]:
        """The same for at most as many updates as tables hold."""
        start, size = self.state.step, order.shape[1]
        probing = measured & self.compiles_probes
        runs: dict[bool, Running] = {}
        # All tables before the first update: threads that find nothing to do for 50 us go to sleep.
        for kind in dict.fromkeys(probing.tolist()):
            chosen = np.flatnonzero(probing == kind)
            running = runs[kind] = self._on_rows(rows, size, kind)
            running.fill(start + chosen, self.state.optimizer, [lrs[i] for i in chosen.tolist()], self.seed, 0)
            running.tables["order"][: len(chosen)] = order[chosen]
        done = dict.fromkeys(runs, 0)
        for first, end in _stretches(measured, alone=not self.compiles_probes):
            running, kind = runs[probing[first]], bool(probing[first])
            aside = self._aside(tuple(a[order[first]] for a in rows)) if measured[first] and not kind else None
            done[kind] += running.run(end - first)
            if self.state.step < start + end:
                break
            if aside is not None:
                self._sums.append(aside())
        made = self.state.step - start
        losses = np.zeros(made, self.state.dtype)
        for kind, running in runs.items():
            steps = np.flatnonzero(probing[:made] == kind)
            losses[steps] = running.tables["loss"][: len(steps)]
            if running.probes is not None and len(steps):
                self._sums.append(running.taken(start + steps, 0))
        if made == len(order):
            return losses, None
        failed = runs[bool(probing[made])]
        batch = tuple(a[order[made]] for a in rows)
        return losses, self._explained(failed.traced, batch, failed, done[bool(probing[made])])

    def _aside(self, batch: tuple[np.ndarray, ...]) -> Callable[[], Taken]:
        """Have the reference measure the next step, which ``batch`` makes; call what it gives after that step."""
        state = self.state
        traced = self.trace(tuple(TensorSpec(a.shape, a.dtype) for a in batch), measures=True)
        probes, names, made = self.probes[id(traced)], state.names, state.step
        words = key(self.seed, made + 1).value("a probe")
        run = self.references.get(id(traced)) or evaluator(traced.graph)
        self.references[id(traced)] = run
        with np.errstate(all="ignore"), one_numpy_thread():
            _, *found = run(*batch, words, *(x.value("a probe") for x in traced.captured))
        before = state.views(state.theta.copy())
        sums = found[len(names) : len(names) + len(probes.names)]

        def after() -> Taken:
            moved = [new - old for new, old in zip(state.views(state.theta), before, strict=True)]
            own = evaluated_sums(probes, names, before, found, moved)
            return probes, np.array([made]), np.array([*sums, *own], np.float64)[:, None]

        return after

    def _on_rows(self, rows: tuple[np.ndarray, ...], size: int, measures: bool) -> Running:
        """What makes batches of so many of ``rows``."""
        place = ("rows", self.mode(), measures, size, *((a.shape, a.dtype) for a in rows))
        running = self.running.get(place) or self._run_rows(place, rows, size)
        running.point(rows)
        return running

    def _run_batches(self, place: Any, batch: tuple[np.ndarray, ...]) -> Running:
        part, _, measures = place[:3]
        specs = tuple(TensorSpec(a.shape, a.dtype) for a in batch)
        kind = {"whole": "whole", "first": "first"}.get(part, "further")
        traced = self.trace(specs, kind, measures)
        updates = part in ("whole", "last")
        probes = self.probes.get(id(traced))
        parts = parts_of_step(traced, self.state, self.options, updates, probes)
        ahead = AHEAD if part == "whole" else 1
        own = {n: np.zeros(s.shape, s.dtype) for n, s in zip(batch_names(specs), specs, strict=True)}
        running = Running(place, traced, parts, self.state, self.backend, own, ahead, updates, probes=probes)
        self.running[place] = running
        return running

    def _run_rows(self, place: Any, rows: tuple[np.ndarray, ...], size: int) -> Running:
        specs = tuple(TensorSpec((size, *a.shape[1:]), a.dtype) for a in rows)
        traced = self.trace(specs, measures=place[2])
        probes = self.probes.get(id(traced))
        whole = tuple(TensorSpec(a.shape, a.dtype) for a in rows)
        picked = build_rows(whole, size)
        names = batch_names(specs)
        gathering = Part(picked, (*(f"rows.{n}" for n in names), "order"), tuple(names))
        parts = (gathering, *parts_of_step(traced, self.state, self.options, True, probes))
        own = {f"rows.{n}": a for n, a in zip(names, rows, strict=True)}
        running = Running(place, traced, parts, self.state, self.backend, own, AHEAD, True, size, probes)
        self.running[place] = running
        return running

    def _explained(self, traced: Traced, batch: tuple[np.ndarray, ...], running: Running, t: int) -> NonFiniteError:
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


def _stretches(measured: np.ndarray, alone: bool) -> Iterator[tuple[int, int]]:
    """(first, end) of neighbours that all measure or all do not. alone: one by one where they measure."""
    first = 0
    for i in range(1, len(measured) + 1):
        if i == len(measured) or measured[i] != measured[first] or (alone and measured[first]):
            yield first, i
            first = i


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


def _listed(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(map(str, specs))
