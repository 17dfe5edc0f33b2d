"""A primitive: everything chainrule knows about one operation, in one object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chainrule.errors import GraphError
from chainrule.spec import TensorSpec

PRIMITIVES: dict[str, Primitive] = {}
"""Every declared primitive, by name."""

OPERATIONS: dict[str, Callable[..., Any]] = {}
"""Every operation that a tensor's methods call by name: the primitives and the compositions of them."""


MOST_KNOWN = 1024
"""Answers of its shape rule that a primitive keeps."""


@dataclass(frozen=True, eq=False, repr=False)
class Primitive:
    """One declared operation; calling it applies it."""

    name: str
    formula: str
    """How a textbook writes it."""
    shape: Callable[..., Any]
    """(*input specs, **parameters) -> output spec, or a tuple of them; raises ShapeError."""
    evaluate: Callable[..., Any]
    """(xp, *inputs, **parameters) -> output. The meaning; with NumPy as ``xp`` it is the reference."""
    pullback: Callable[..., tuple]
    """(dy, y, *inputs, **parameters) -> one cotangent an input; None where nothing flows.

    With several outputs dy and y are tuples, and an entry of dy is None where no cotangent arrived."""
    arguments: Callable[..., tuple[tuple, dict]]
    """(what the user passes) -> (inputs as tensors, static parameters)."""
    draw: Callable[..., tuple[tuple, dict]] | None = None
    """(Draw) -> (arrays, parameters): a random point of the domain, kinks left out. None: not differentiable."""
    meaning: str = ""
    """One or two sentences for the documentation: meaning, shapes, source."""
    convention: str = ""
    """The derivative chosen at ties and kinks."""
    why: tuple[str, ...] = ()
    """The rule in words, one phrase an input."""
    rule: tuple[str, ...] = ()
    """The rule in symbols, one Python expression an input: its cotangent.

    In braces: ``dy`` and ``y`` for the output, ``0``, ``1`` … for the inputs, ``inputs`` and ``dys`` for all of them,
    ``i`` for the input's position; then parameters and ``terms`` by name. The last entry serves all further inputs."""
    written: str = ""
    """The forward pass likewise; empty: the name, applied to the inputs and parameters."""
    terms: Callable[..., dict[str, Any]] | None = None
    """(*input specs, **parameters) -> what else rule and form name: a mean's ``n``, and what it has ``counted``."""
    equations: tuple[str, ...] = ()
    """Which of Nielsen's equations BP1 to BP4 the rule is, one entry an input
    ("Neural Networks and Deep Learning", 2015, chapter 2)."""
    elementwise: bool = False
    several: bool = False
    """Whether it has several outputs."""
    lower: Any = None
    """How it becomes loops; None: by the expansion of its ``evaluate``."""

    known: dict[Any, tuple[TensorSpec, ...]] = field(default_factory=dict)
    """Output specs by input specs and parameters."""

    def __post_init__(self) -> None:
        if self.name in PRIMITIVES:
            raise GraphError(f"primitive {self.name!r} is already declared: choose another name")
        PRIMITIVES[self.name] = self
        OPERATIONS.setdefault(self.name, self)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        from chainrule.graph.apply import apply

        inputs, parameters = self.arguments(*args, **keywords)
        return apply(self, inputs, parameters)

    def specs(self, inputs: tuple[TensorSpec, ...], parameters: dict[str, Any]) -> tuple[TensorSpec, ...]:
        """What its shape rule says of the outputs; kept, as equal layers ask again, and so does every rewrite."""
        if self.several:
            return tuple(self.shape(*inputs, **parameters))
        try:
            key = (inputs, tuple(parameters.items()))
            found = self.known.get(key)
        except TypeError:  # a parameter without a hash
            return (self.shape(*inputs, **parameters),)
        if found is None:
            if len(self.known) >= MOST_KNOWN:
                self.known.clear()
            found = self.known[key] = (self.shape(*inputs, **parameters),)
        return found

    def __repr__(self) -> str:
        return f"<primitive {self.name}: {self.formula}>"


def operation(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declare a composition of primitives under its own name, so that tensors' methods find it."""
    OPERATIONS[function.__name__] = function
    return function
