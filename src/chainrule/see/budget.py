"""Flow: the budget of the gradient, layer by layer and link by link, in logarithms that add up."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.errors import MissingDependencyError
from chainrule.record.trace import INPUT, LOSS, Link, NetworkTrace, ratio, rms, sum_of_squares

if TYPE_CHECKING:
    from chainrule.nn import Module

LOST = 1e-3
"""An error that has shrunk to a thousandth of what left the loss is lost: a learning rate that suits the last layer
moves this one a thousand times less."""
EXPLODED = 1e3


@dataclass(frozen=True)
class Row:
    """The budget of one parameter: |gradient| = uses x |activation| x |error| x agreement, as root mean squares.

    agreement: of the parameter's entries together; at most 1 for a weight matrix. Where there is no product (``form``)
    the three are None.
    """

    name: str
    short: str
    kind: str
    layer: int
    form: str
    gradient: float
    activation: float | None
    error: float | None
    uses: float
    noise: float
    """The agreement that unrelated samples would have: 1 / √n."""
    reason: str = ""
    """Why nothing reaches it."""

    @property
    def agreement(self) -> float | None:
        if self.activation is None or self.error is None:
            return None
        return ratio(self.gradient, self.activation * self.error * self.uses)

    @property
    def logs(self) -> dict[str, float] | None:
        """log10 of each factor; they add up to that of the gradient. None where one of them is 0."""
        factors = {"uses": self.uses, "activation": self.activation, "error": self.error, "agreement": self.agreement}
        if not all(factors.values()):
            return None
        return {name: math.log10(value) for name, value in factors.items()}  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "agreement": self.agreement, "logs": self.logs}


@dataclass(frozen=True)
class Gain:
    """One link of the chain: how the error changes from z of ``source`` back to z of ``target``.

    gain = weights x local x cross, and their logarithms add up. arrived: the size of the error at the target so far,
    against what the loss gave the last layers.
    """

    source: str
    target: str
    gain: float
    weights: float
    local: float
    cross: float
    arrived: float
    forward: float
    """What the same link does to values on the way forward: |z of source| / |z of target|."""
    through: tuple[str, ...]

    @property
    def logs(self) -> dict[str, float] | None:
        """log10 of weights, local derivative and cross term; they add up to that of the gain."""
        parts = {"weights": self.weights, "local": self.local, "cross": self.cross}
        return {n: math.log10(v) for n, v in parts.items()} if all(parts.values()) else None

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "through": list(self.through), "logs": self.logs}


@dataclass(frozen=True, eq=False)
class Flow:
    """Where the error of a step lives or dies. Its text is a picture for the terminal."""

    trace: NetworkTrace = field(repr=False)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """A row for each parameter, in the order in which layers ran."""
        order = dict.fromkeys(name for layer in self.trace.layers for name in layer.parameters())
        names = [*(n for n in order if n in self.trace.gradients), *(n for n in self.trace.gradients if n not in order)]
        return tuple(_row(self.trace, name) for name in names)

    def table(self) -> list[dict[str, Any]]:
        """``rows`` as plain data."""
        return [row.to_dict() for row in self.rows]

    @cached_property
    def links(self) -> tuple[Gain, ...]:
        """A gain for each link, from the loss back to the input."""
        return tuple(_gain(self.trace, link) for link in sorted(self.trace.links, key=_backwards))

    @cached_property
    def activations(self) -> tuple[dict[str, Any], ...]:
        """The way forward: size of z and of what the activation function makes of it, and how much of that is exactly
        0 or has no local derivative."""
        return tuple(_forward(self.trace, i) for i in range(len(self.trace.layers)))

    @cached_property
    def first_trouble(self) -> str:
        """The first link from the loss on at which the error is lost or explodes, in a sentence; "" if none."""
        if not math.isfinite(self.trace.loss):
            return f"the loss is {self.trace.loss}: nothing that comes back from it means anything"
        for link in self.links:
            if link.target != "x" and (trouble := _trouble(link)):
                return trouble
        for name, why in self.trace.reasons.items():
            return f"nothing reaches {name}: {why}"
        return ""

    def text(self, width: int = 100) -> str:
        """The picture in lines of at most ``width`` characters, where the names of layers leave room."""
        from chainrule.see.budget_text import text_of

        return text_of(self, width)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON has it."""
        return {
            "schema": 1, "step": self.trace.step, "rows": self.trace.rows, "loss": self.trace.loss,
            "table": self.table(), "links": [link.to_dict() for link in self.links],
            "forward": list(self.activations), "first_trouble": self.first_trouble,
        }  # fmt: skip

    def plot(self, axes: Any = None) -> Any:
        """Activation, error and gradient of every weight in logarithms, over the layers; the matplotlib axes.

        axes: where to draw; by default a new figure. MissingDependencyError without matplotlib.
        """
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise MissingDependencyError("flow().plot() needs matplotlib: pip install matplotlib") from error
        if axes is None:
            _, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
        rows = [row for row in self.rows if row.short.startswith("W")] or list(self.rows)
        places = range(len(rows))
        for name, marker in (("activation", "o"), ("error", "s"), ("agreement", "^"), ("gradient", "D")):
            values = [getattr(row, name) or np.nan for row in rows]
            axes.plot(places, values, marker=marker, label=name)
        axes.axhline(rows[0].noise if rows else 1.0, linestyle=":", color="grey", label="agreement of chance")
        axes.set(yscale="log", xticks=list(places), ylabel="root mean square", title="Flow: where the gradient lives")
        axes.set_xticklabels([row.name for row in rows], rotation=45, ha="right")
        axes.legend()
        return axes


def _row(trace: NetworkTrace, name: str) -> Row:
    from chainrule.see.place import short_name

    gradient = trace.gradients[name]
    found = [(i, w) for i, w in enumerate(trace.layers) if name in w.parameters()]
    first = found[0] if found else None
    kind = first[1].kind if first else ""
    common = (name, short_name(name, trace), kind, first[0] if first else -1)
    noise, why = trace.rows**-0.5, trace.reasons.get(name, "")
    if not found or any(w.by_row is not None for _, w in found):
        form = "none" if found else "unreached"
        return Row(*common, form, rms(gradient), None, None, 1.0, noise, why)
    activation = error = 0.0
    values = errors = uses = 0
    for _, layer in found:
        is_weight = layer.weight is not None and layer.parameters()[name] is layer.weight
        squares, count = layer.size_of_activation() if is_weight else (1.0, 1)
        entries = layer.z.size if layer.form == "scale" else max(layer.delta[..., :1].size, 1)
        each = layer.delta.size // max(gradient.size, 1) if layer.form == "scale" or not is_weight else entries
        # Places with more uses count more, as they do in the gradient.
        activation += squares / count * each
        error += sum_of_squares(layer.delta) / max(layer.delta.size, 1) * each
        values, errors, uses = values + each, errors + each, uses + each
    form = found[0][1].form
    return Row(*common, form, rms(gradient), math.sqrt(activation / values), math.sqrt(error / errors),
               uses / trace.rows, noise, why)  # fmt: skip


def _backwards(link: Link) -> tuple[int, int]:
    return (-(link.child if link.child != LOSS else 10**9), -link.parent)


def _called(trace: NetworkTrace, layer: int) -> str:
    if layer in (LOSS, INPUT):
        return trace.loss_name if layer == LOSS else "x"
    own = trace.layers[layer]
    return own.name or own.kind


def _gain(trace: NetworkTrace, link: Link) -> Gain:
    top = [rms(trace.layers[k.parent].delta) for k in trace.links if k.child == LOSS and k.parent >= 0]
    at = trace.x_delta if link.parent == INPUT else trace.layers[link.parent].delta
    arrived = ratio(rms(at) if at is not None else 0.0, max(top, default=0.0))
    forward = math.nan
    if link.child != LOSS:
        below = trace.x if link.parent == INPUT else trace.layers[link.parent].z
        forward = ratio(rms(trace.layers[link.child].z), rms(below) if below is not None else 0.0)
    return Gain(_called(trace, link.child), _called(trace, link.parent), link.gain, link.weights, link.local,
                link.cross, arrived, forward, link.through)  # fmt: skip


def _forward(trace: NetworkTrace, i: int) -> dict[str, Any]:
    layer = trace.layers[i]
    output = layer.z if layer.output is None else layer.output
    off = layer.local_derivative
    return {
        "layer": layer.name, "kind": layer.kind, "activation_function": layer.activation, "input": rms(layer.a)
        if layer.form not in ("lookup", "none") else None, "z": rms(layer.z), "output": rms(output),
        "share_off": None if off is None or not off.size else float(np.mean(off == 0)),
        "local_derivative": None if off is None else rms(off),
    }  # fmt: skip


def _trouble(link: Gain) -> str:
    where = f"between {link.source} and {link.target}"
    if not math.isfinite(link.arrived):
        return f"the error is not finite {where}"
    if link.arrived > LOST and link.arrived < EXPLODED:
        return ""
    if link.gain == 0 or link.arrived == 0:
        part = "its weights are 0" if link.weights == 0 else f"the local derivative is 0 ({_names(link)})"
        return f"the error is lost {where}: exactly 0 arrives, as {part}"
    most = max(("the local derivative", link.local), ("the weights", link.weights), key=lambda p: abs(math.log10(p[1])))
    what = "lost" if link.arrived <= LOST else "exploding"
    return (
        f"the error is {what} {where}: {link.arrived:.1e} of what left the loss arrives; here {most[0]} "
        f"{'shrinks' if most[1] < 1 else 'enlarges'} it most (x {most[1]:.2g}; the link x {link.gain:.2g})"
    )


def _names(link: Gain) -> str:
    return ", ".join(link.through) or "nothing between"


def flow_trace(trace: NetworkTrace) -> Flow:
    """The budget of the gradient in a traced step; see ``flow``. Needs the trace and nothing else."""
    return Flow(trace)


def flow(net: Module, loss: Any, x: Any, y: Any, *, backend: str | None = None) -> Flow:
    """Layer by layer, where the signal of ``loss(net(x), y)`` lives or dies, in the mode that the network is in.

    ``.table()``: for each parameter activation, error, agreement and gradient, whose logarithms add up. ``.links``: the
    gain of each link, local derivative and weights apart. ``.activations``: the way forward. ``.first_trouble``: the
    first link at which the error is lost or explodes. On any graph: residual links and shared weights too.
    """
    from chainrule.see.gradient import traced_step

    return Flow(traced_step(net, loss, x, y, "flow", backend))
