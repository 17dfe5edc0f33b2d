"""Differences: the gradients of a run's network against what moving single weights says, and the time of each way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chainrule.cli.escape import escaped
from chainrule.cli.output import Output
from chainrule.cli.rows import rows_of
from chainrule.cli.settings import kept_settings
from chainrule.compiler import compile_graph
from chainrule.errors import ArgumentError
from chainrule.graph import trace
from chainrule.nn import Module
from chainrule.ops import LOSSES
from chainrule.optim import SGD
from chainrule.see import gradients
from chainrule.spec import TensorSpec
from chainrule.training import Run
from chainrule.training.options import StepOptions
from chainrule.training.state import TrainingState
from chainrule.training.step_graphs import build_gradients

TOLERANCE = 1e-6
"""The largest difference that counts as agreement, relative to the largest derivative of the parameter."""

STEPS = (1e-4, 1e-5, 1e-6)
"""How far a weight is moved. A kink (relu at 0) inside the wide interval is outside a narrow one, whose rounding is
larger: so an entry agrees if it does at one width."""

ROWS = 8


@dataclass(frozen=True)
class Checked:
    """The worst of the entries of one parameter that were moved."""

    parameter: str
    entries: int
    error: float
    where: tuple[int, ...]
    gradient: float
    difference: float

    @property
    def ok(self) -> bool:
        return self.error <= TOLERANCE


def check_run(path: Path, weights: int, seed: int, output: Output) -> bool:
    """Print the check of a run's network; whether every gradient agrees."""
    if weights < 1:
        raise ArgumentError(f"--weights is {weights}; move at least one entry of each parameter")
    run = Run.load(path)
    loss = run.config.loss.name
    if loss not in LOSSES:
        raise ArgumentError(
            f"run {str(path)!r} was trained with a loss of your own ({loss}); use cr.check_gradients in Python"
        )
    net = run.net.to("float64").eval()
    source, x, y = _rows(run, path, seed)
    checked = check_network(net, loss, x, y, weights, seed)
    ok = all(c.ok for c in checked)
    output.show(f"{escaped(path)}: {loss} of {len(x)} rows ({escaped(source)}), in float64")
    output.table(
        ("parameter", "entries", "worst error", "backpropagation", "difference", "verdict"),
        [(c.parameter, c.entries, f"{c.error:.1e}", f"{c.gradient:.6g}", f"{c.difference:.6g}",
          "agrees" if c.ok else f"WRONG at {list(c.where)}") for c in checked],
        right=(1, 2, 3, 4),
    )  # fmt: skip
    output.show(f"gradients {'agree' if ok else 'DIFFER'}: worst relative error {max(c.error for c in checked):.1e}, "
                f"tolerance {TOLERANCE:.0e}")  # fmt: skip
    cost = measure_cost(net, loss, x, y)
    output.show(
        f"why backpropagation: one forward and one backward pass takes {_seconds(cost.backpropagation)}; one forward "
        f"pass per parameter would take {_seconds(cost.differences)} ({cost.parameters + 1:,} × "
        f"{_seconds(cost.forward)}), {cost.differences / cost.backpropagation:,.0f} times as long"
    )
    output.next("info", str(path))
    output.result({
        "schema": 1, "run": str(path), "ok": ok,
        "parameters": [{"name": c.parameter, "entries": c.entries, "error": c.error, "ok": c.ok} for c in checked],
        "seconds": {"backpropagation": cost.backpropagation, "differences": cost.differences, "forward": cost.forward},
    })  # fmt: skip
    return ok


def check_network(net: Module, loss: str, x: np.ndarray, y: np.ndarray, weights: int, seed: int) -> list[Checked]:
    """Move up to ``weights`` entries of each parameter of a float64 network, and compare with its gradients."""
    _, found = gradients(net, loss, x, y)
    forward = _forward(net, loss, x, y)
    random = np.random.default_rng(seed)
    parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}
    return [
        _checked(name, parameters[name].array, found[name], forward, random.permutation(found[name].size)[:weights])
        for name in parameters
    ]


def _checked(
    name: str, array: np.ndarray, gradient: np.ndarray, forward: Callable[[], float], chosen: np.ndarray
) -> Checked:
    scale = max(float(np.abs(gradient).max(initial=0.0)), 1e-8)
    worst = Checked(name, len(chosen), -1.0, (), 0.0, 0.0)
    for flat in chosen:
        where = tuple(int(i) for i in np.unravel_index(int(flat), array.shape))
        tried = [_difference(array, where, forward, step) for step in STEPS]
        closest = min(tried, key=lambda d: abs(d - gradient[where]))
        error = abs(closest - float(gradient[where])) / scale
        if not error <= worst.error:  # also where it is NaN
            worst = Checked(name, len(chosen), error, where, float(gradient[where]), closest)
    return worst


def _difference(array: np.ndarray, where: tuple[int, ...], forward: Callable[[], float], step: float) -> float:
    """(L(w + h) - L(w - h)) / 2h."""
    kept = float(array[where])
    h = step * max(1.0, abs(kept))
    array[where] = kept + h
    above = forward()
    array[where] = kept - h
    below = forward()
    array[where] = kept
    return (above - below) / (2 * h)


@dataclass(frozen=True)
class Cost:
    """Seconds of all derivatives by each way."""

    forward: float
    backpropagation: float
    parameters: int

    @property
    def differences(self) -> float:
        """One forward pass as it is, and one with each parameter moved."""
        return self.forward * (self.parameters + 1)


def measure_cost(net: Module, loss: str, x: np.ndarray, y: np.ndarray) -> Cost:
    """Measure both on the same rows: the least of some repetitions."""
    function = LOSSES[loss]
    state = TrainingState(net, SGD(lr=1e-3))
    specs = (TensorSpec(x.shape, x.dtype), TensorSpec(y.shape, y.dtype))
    traced, _ = build_gradients(lambda a, b: function(net(a), b), state, specs, StepOptions(), "whole")
    both = compile_graph(traced.graph)
    inputs = [x, y, np.zeros(4, np.uint32), *(p.value("the check") for p in traced.captured)]
    forward = _forward(net, loss, x, y)
    count = sum(p.size for p in state.parameters)
    return Cost(_least(forward), _least(lambda: both(*inputs)), count)


def _forward(net: Module, loss: str, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    """The loss of the rows with the weights as they are at each call."""
    function = LOSSES[loss]
    traced = trace(lambda a, b: function(net(a), b), TensorSpec(x.shape, x.dtype), TensorSpec(y.shape, y.dtype))
    compiled = compile_graph(traced.graph)
    return lambda: float(compiled(x, y, *(p.value("the check") for p in traced.captured))[0])


def _least(work: Callable[[], object], repetitions: int = 20) -> float:
    times = []
    for _ in range(repetitions):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def _seconds(seconds: float) -> str:
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:,.3g} s"


def _rows(run: Run, path: Path, seed: int) -> tuple[str, np.ndarray, np.ndarray]:
    """(what they are, x, y): a few rows of the run's source, or random ones for a run that learned from arrays."""
    settings = kept_settings(path)
    random = np.random.default_rng(seed)
    if settings is not None:
        rows = rows_of(settings)
        chosen = random.permutation(len(rows.x))[:ROWS]
        return rows.source, rows.x[chosen].astype(np.float64), _truth(rows.y[chosen], run.config.loss.name)
    x = random.standard_normal((ROWS, *_input_shape(run)))
    outputs = run.net.predict(x)
    if run.config.loss.name == "cross_entropy":
        return "random", x, random.integers(0, outputs.shape[-1], ROWS)
    if run.config.loss.name.startswith("binary"):
        return "random", x, random.integers(0, 2, outputs.shape).astype(np.float64)
    return "random", x, random.standard_normal(outputs.shape)


def _truth(y: np.ndarray, loss: str) -> np.ndarray:
    if loss.startswith("binary"):
        return y.astype(np.float64).reshape(len(y), -1)
    return y.astype(np.float64) if y.dtype.kind == "f" else y


def _input_shape(run: Run) -> tuple[int, ...]:
    if run.preprocess is not None:
        return run.preprocess.input_shape
    width = next((m.in_features for _, m in run.net.named_modules() if hasattr(m, "in_features")), None)
    if width is None:
        raise ArgumentError("the run does not say what its network takes; use cr.check_gradients in Python")
    return (int(width),)
