"""Tracing: run a function on placeholders and keep what it did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chainrule.errors import DTypeError
from chainrule.graph.apply import refuse_captured
from chainrule.graph.context import context, holding
from chainrule.graph.graph import Graph
from chainrule.graph.tensor import Tensor
from chainrule.spec import TensorSpec


@dataclass
class Trace:
    """What a trace in progress has met so far."""

    captured: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """(tensor from outside, its placeholder)."""
    present: dict[int, Tensor] = field(default_factory=dict)
    """id of a tensor from outside -> what it holds at this point of the trace."""
    written: dict[int, Tensor] = field(default_factory=dict)
    """id of a state tensor -> it, if the traced function has written it."""
    lifts: bool = False
    """Whether any tensor from outside becomes an input (scan's body), or only state does."""
    first: int = 0
    """Values with a smaller serial come from outside."""

    def seen(self, x: Tensor) -> Tensor:
        """The value that stands for ``x`` inside this trace."""
        if x.constant:
            return x
        known = self.present.get(id(x))
        if known is not None:
            return known
        if x.array is not None:
            if x.is_state or self.lifts:
                return self.capture(x)
            if x.node is None and not x.requires_grad and x.serial > self.first:
                return Tensor(x.spec, x.array, constant=True)  # made inside from constants
            refuse_captured(x)
        if self.lifts and x.serial < self.first:
            return self.capture(x)
        return x

    def capture(self, x: Tensor) -> Tensor:
        placeholder = Tensor(x.spec, name=x.name)
        self.captured.append((x, placeholder))
        self.present[id(x)] = placeholder
        return placeholder


def placeholder(spec: TensorSpec, name: str = "") -> Tensor:
    """A tensor that will exist when the graph runs."""
    return Tensor(spec, name=name)


@dataclass(frozen=True)
class Traced:
    """A graph, and the tensors from outside that its last inputs stand for."""

    graph: Graph
    captured: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]
    """State tensors that the graph's last outputs shall be written to."""


def trace(function: Callable[..., Any], *specs: TensorSpec, names: Sequence[str] = (), lifts: bool = False) -> Traced:
    """Run ``function`` on placeholders of ``specs``.

    The graph's inputs are those placeholders, then one for each tensor captured from outside; its outputs are what the
    function returned (a Tensor or a sequence of them), then the values of the state that it wrote.
    """
    going_on = Trace(lifts=lifts)
    labels = list(names) or [f"x{i}" for i in range(len(specs))]
    inputs = tuple(map(placeholder, specs, labels))
    going_on.first = inputs[0].serial if inputs else Tensor(TensorSpec(())).serial
    with holding(trace=going_on):
        returned = function(*inputs)
        outputs = tuple(going_on.seen(_checked(y)) for y in _sequence(returned))
    targets = tuple(going_on.written.values())
    return Traced(
        Graph(
            inputs + tuple(stands for _, stands in going_on.captured),
            outputs + tuple(going_on.present[id(target)] for target in targets),
        ),
        tuple(x for x, _ in going_on.captured),
        targets,
    )


def _sequence(returned: Any) -> tuple:
    return tuple(returned) if isinstance(returned, (tuple, list)) else (returned,)


def _checked(y: Any) -> Tensor:
    if isinstance(y, Tensor):
        return y
    raise DTypeError(f"a traced function must return Tensors, got {type(y).__name__}: return what the operations gave")


def write(target: Tensor, value: Tensor) -> None:
    """Give a state tensor a new value: at once when eager, as an extra output of the graph when traced."""
    if context.trace is None:
        target.value("a write to a buffer")[...] = value.value("a write to a buffer")
        return
    context.trace.seen(target)
    context.trace.present[id(target)] = value
    context.trace.written[id(target)] = target
