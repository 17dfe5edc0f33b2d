"""Declared arguments: each one says which values it can have, and one check holds every construction to it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from difflib import get_close_matches
from functools import wraps
from itertools import pairwise
from typing import Annotated, Any, Protocol, TypeVar, dataclass_transform, get_type_hints

import numpy as np

from chainrule.errors import ArgumentError, ChainruleWarning

Declared = TypeVar("Declared")

OTHER_NAMES = {"learning_rate": "lr", "epsilon": "eps", "beta": "betas", "rho": "alpha", "l2": "weight_decay"}
"""What other libraries call an argument, for the hint that follows an unknown name."""


class Kind(Protocol):
    """Which values an argument can have."""

    @property
    def wanted(self) -> str:
        """The values in words, to follow "must be"."""

    def accepts(self, value: Any) -> bool: ...

    def plain(self, value: Any) -> Any:
        """An accepted value as the Python number, bool, string or tuple that is kept."""


@dataclass(frozen=True)
class Number:
    """Finite numbers within bounds. Strings, None and booleans are not numbers here."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    whole: bool = False
    optional: bool = False
    """Whether None is accepted too."""
    zero_warning: str = ""
    """If given, 0 is accepted in spite of ``above=0``, with this ChainruleWarning."""

    @property
    def wanted(self) -> str:
        bounds = {"above": self.above, "at least": self.at_least, "below": self.below, "at most": self.at_most}
        words = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
        bounded = self.below is not None or self.at_most is not None
        noun = "an integer" if self.whole else "a number" if bounded else "a finite number"
        return f"{noun} {words}{' or None' if self.optional else ''}"

    def accepts(self, value: Any) -> bool:
        if value is None:
            return self.optional
        numbers = (int, np.integer) if self.whole else (int, float, np.integer, np.floating)
        if isinstance(value, bool) or not isinstance(value, numbers):
            return False
        try:
            number = float(value)
        except OverflowError:  # an int of more than 308 digits
            return False
        return (self._lies_within(number) and math.isfinite(number)) or (number == 0 and bool(self.zero_warning))

    def _lies_within(self, number: float) -> bool:
        return (
            (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.below is None or number < self.below)
            and (self.at_most is None or number <= self.at_most)
        )

    def plain(self, value: Any) -> Any:
        if value is None:
            return None
        return int(value) if self.whole else float(value)


@dataclass(frozen=True)
class Numbers:
    """A list or tuple of numbers of one kind: of a fixed length, or one or more in ascending order."""

    each: Number
    length: int | None = None

    @property
    def wanted(self) -> str:
        if self.length is None:
            return f"one or more in ascending order, each {self.each.wanted}"
        return f"{self.length} values, each {self.each.wanted}"

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, (list, tuple)) or not value or not all(map(self.each.accepts, value)):
            return False
        if self.length is not None:
            return len(value) == self.length
        return all(a < b for a, b in pairwise(value))

    def plain(self, value: Any) -> tuple:
        return tuple(map(self.each.plain, value))


@dataclass(frozen=True)
class Truth:
    """True or False, not 0 or 1."""

    wanted = "True or False"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, (bool, np.bool_))

    def plain(self, value: Any) -> bool:
        return bool(value)


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def wanted(self) -> str:
        return " or ".join(map(repr, self.words))

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.words

    def plain(self, value: Any) -> str:
        return str(value)


LearningRate = Annotated[float, Number(above=0, zero_warning="nothing will be learned")]
Positive = Annotated[float, Number(above=0)]
NonNegative = Annotated[float, Number(at_least=0)]
Decay = Annotated[float, Number(at_least=0, below=1)]
"""The share that a running average keeps: at 1 it would never take in anything."""
Share = Annotated[float, Number(at_least=0, at_most=1)]
Flag = Annotated[bool, Truth()]


def check(owner: str, name: str, kind: Kind, value: Any) -> Any:
    """``value`` as a plain Python value; ArgumentError naming owner, argument, value and range if it is refused."""
    if not kind.accepts(value):
        raise ArgumentError(f"{owner}: {name} must be {kind.wanted}, got {shown(value)}")
    return kind.plain(value)


def shown(value: Any) -> str:
    """A value for a message: short, and with its type where the type is what is wrong with it."""
    if isinstance(value, np.generic):
        value = value.item()
    text = repr(value).splitlines()[0]
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return text if value is None or isinstance(value, (bool, int, float, tuple)) else f"{text} ({type(value).__name__})"


def kinds(declared: Any) -> dict[str, Kind]:
    """The kind of each argument of a declared class."""
    hints = get_type_hints(declared, include_extras=True)
    return {field.name: hints[field.name].__metadata__[0] for field in fields(declared)}


@dataclass_transform(frozen_default=True)
def declared(cls: type[Declared]) -> type[Declared]:
    """Make a frozen dataclass whose arguments are checked against their annotation, ``Annotated[type, Kind]``.

    An argument that is refused, unknown, missing or given twice is an ArgumentError; an unknown one names the nearest.
    """
    made: Any = dataclass(frozen=True)(cls)
    accepted, plain_init = kinds(made), made.__init__

    @wraps(plain_init)
    def __init__(self: Any, *args: Any, **keywords: Any) -> None:
        given = _given(made.__name__, fields(made), accepted, args, keywords)
        values = {name: check(made.__name__, name, accepted[name], value) for name, value in given.items()}
        for name, value in values.items():
            warning = getattr(accepted[name], "zero_warning", "")
            if warning and value == 0:
                warnings.warn(f"{made.__name__}: {name} is 0: {warning}", ChainruleWarning, stacklevel=2)
        plain_init(self, **values)

    made.__init__ = __init__
    return made


def _given(owner: str, known: tuple[Field, ...], accepted: Mapping[str, Kind], args: tuple, keywords: dict) -> dict:
    """The arguments that were given, by name."""
    positional = [field.name for field in known if not field.kw_only]
    if len(args) > len(positional):
        raise ArgumentError(
            f"{owner}: at most {len(positional)} arguments can go without a name ({', '.join(positional)}), "
            f"got {len(args)}"
        )
    given = dict(zip(positional, args, strict=False))
    for name, value in keywords.items():
        if name not in accepted:
            raise ArgumentError(unknown(f"{owner}: there is no argument", name, list(accepted)))
        if name in given:
            raise ArgumentError(f"{owner}: {name} is given twice, as {shown(given[name])} and as {shown(value)}")
        given[name] = value
    for field in known:
        if field.name not in given and field.default is MISSING:
            raise ArgumentError(f"{owner}: {field.name} is missing: give {accepted[field.name].wanted}")
    return given


def unknown(what: str, name: str, names: list[str]) -> str:
    """The message about a name that is none of ``names``, with the nearest of them."""
    others = {other: name for other, name in OTHER_NAMES.items() if name in names}
    close = get_close_matches(name, [*names, *others], n=1)
    hint = f" did you mean {others.get(close[0], close[0])!r}?" if close else ""
    return f"{what} {name!r}:{hint} the names are {', '.join(names)}"
