"""Keywords that a function does not have: refused by name, with the nearest one that it has."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from chainrule.errors import ArgumentError
from chainrule.optim.arguments import unknown

P = ParamSpec("P")
R = TypeVar("R")


def known_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, whose unknown keywords are an ArgumentError that names the nearest one."""
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: P.args, **keywords: P.kwargs) -> R:
        for name in keywords:
            if name not in known:
                raise ArgumentError(unknown(f"{function.__name__}: there is no argument", name, known))
        return function(*args, **keywords)

    return checked
