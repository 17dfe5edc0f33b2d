"""Scalar expressions: the closed vocabulary that every backend speaks, one value an element."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from chainrule.errors import GraphError
from chainrule.spec import BOOL, INT64

ARITHMETIC = ("add", "subtract", "multiply", "divide", "floor_divide", "remainder", "minimum", "maximum", "pow")
"""Two numbers of one dtype -> that dtype. maximum and minimum give NaN if either is NaN."""
FUNCTIONS = (
    "negative", "abs", "sign", "sqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "erf", "floor", "ceil",
    "round",
)  # fmt: skip
"""One number -> a number of its dtype."""
COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
"""Two numbers of one dtype -> bool."""
LOGIC = ("logical_and", "logical_or", "logical_xor")
"""Two bools -> bool; ``logical_not`` takes one; ``isfinite`` and ``isnan`` take a number."""
REDUCTIONS = ("sum", "maximum", "minimum", "all", "any")
"""How an accumulation joins values; its first value is 0, -inf (or the least integer), +inf, true, false."""


@dataclass(frozen=True)
class Scalar:
    """One value for each point of a loop nest."""

    dtype: np.dtype

    def __init_subclass__(cls) -> None:
        """Expressions share their parts, and are keys everywhere: each works out its hash once."""
        super().__init_subclass__()
        cls.__hash__ = _kept_hash  # type: ignore[assignment]


KEPT = ("hash", "below")
"""What an expression works out once and keeps."""


def _kept_hash(expression: Scalar) -> int:
    held = expression.__dict__
    if "hash" not in held:
        held["hash"] = hash((type(expression), *(v for k, v in held.items() if k not in KEPT)))
    return held["hash"]


@dataclass(frozen=True)
class Const(Scalar):
    """The same value everywhere. value: a Python number or bool that the dtype holds."""

    value: float | int | bool


@dataclass(frozen=True)
class Variable(Scalar):
    """The value of a loop variable, int64."""

    name: str


@dataclass(frozen=True)
class Local(Scalar):
    """What an accumulation of this nest gave, by its name."""

    name: str


@dataclass(frozen=True)
class Affine:
    """An element's position: ``start + Σ stride * variable``, in elements of a buffer. Strides may be negative."""

    start: int
    strides: tuple[tuple[str, int], ...] = ()
    """(loop variable, stride), strides of 0 left out, in the order of the nest's variables."""

    def stride(self, variable: str) -> int:
        return dict(self.strides).get(variable, 0)


@dataclass(frozen=True)
class Load(Scalar):
    """A buffer's element at an affine position that is always inside it.

    where: a bool expression; where it is false nothing is read and ``other`` is the value.
    """

    buffer: int
    at: Affine
    where: Scalar | None = None
    other: float | int | bool = 0


@dataclass(frozen=True)
class Gather(Scalar):
    """A buffer's element at a computed position ``at`` (int64, in elements).

    Where ``at`` is outside [0, size) nothing is read and the value is ``other``.
    """

    buffer: int
    at: Scalar
    size: int
    other: float | int | bool = 0


@dataclass(frozen=True)
class Op(Scalar):
    """A scalar operation.

    name: one of ARITHMETIC, FUNCTIONS, COMPARISONS, LOGIC; "logical_not"; "isfinite"; "isnan"; "where" (bool, a, b);
    "cast" (to ``dtype``); "philox0" and "philox1": the first and second word (uint32) of Philox-4x32-10 with the four
    counter words and two key words as arguments (all uint32).
    """

    name: str
    arguments: tuple[Scalar, ...]


def op(name: str, *arguments: Scalar, dtype: np.dtype | None = None) -> Scalar:
    """An operation with the dtype that follows from its arguments."""
    if dtype is None:
        if name in COMPARISONS or name in LOGIC or name in ("logical_not", "isfinite", "isnan"):
            dtype = BOOL
        elif name == "where":
            dtype = arguments[1].dtype
        else:
            dtype = arguments[0].dtype
    return Op(dtype, name, arguments)


def variable(name: str) -> Variable:
    return Variable(INT64, name)


def walk(*roots: Scalar) -> Iterable[Scalar]:
    """Every expression below ``roots``, each once, arguments before what uses them."""
    if len(roots) == 1:
        return _below(roots[0])
    return dict.fromkeys(e for root in roots for e in _below(root))


def _below(root: Scalar) -> tuple[Scalar, ...]:
    """What ``walk`` gives for one root, which keeps it: every stage asks again."""
    held = root.__dict__
    if "below" in held:
        return held["below"]
    order: dict[Scalar, None] = {}
    stack = [(root, False)]
    while stack:
        expression, ready = stack.pop()
        if expression in order:
            continue
        if ready:
            order[expression] = None
            continue
        known = expression.__dict__.get("below")
        if known is not None:
            order |= dict.fromkeys(known)
            continue
        stack.append((expression, True))
        stack.extend((a, False) for a in reversed(children(expression)))
    held["below"] = tuple(order)
    return held["below"]


def children(expression: Scalar) -> tuple[Scalar, ...]:
    if isinstance(expression, Op):
        return expression.arguments
    if isinstance(expression, Gather):
        return (expression.at,)
    if isinstance(expression, Load) and expression.where is not None:
        return (expression.where,)
    return ()


ARITY = {
    **dict.fromkeys(ARITHMETIC + COMPARISONS + LOGIC, 2),
    **dict.fromkeys((*FUNCTIONS, "logical_not", "isfinite", "isnan", "cast"), 1),
    "where": 3, "philox0": 6, "philox1": 6,
}  # fmt: skip


def check_scalar(expression: Scalar) -> None:
    """GraphError unless every operation below is of the closed list and has arguments of fitting dtypes."""
    for e in walk(expression):
        if not isinstance(e, Op):
            continue
        if e.name not in ARITY or len(e.arguments) != ARITY[e.name]:
            raise GraphError(f"scalar operation {e.name!r} with {len(e.arguments)} arguments is not of the closed list")
        dtypes = {a.dtype for a in (e.arguments[1:] if e.name == "where" else e.arguments)}
        if len(dtypes) > 1:
            raise GraphError(f"scalar operation {e.name!r} mixes {', '.join(sorted(d.name for d in dtypes))}")
