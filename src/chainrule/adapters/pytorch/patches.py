"""Patches: PyTorch functions wrapped for the time of a block, and put back as they were."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def wrapped(owner: Any, name: str, wrapper: Callable[..., Any]) -> Iterator[None]:
    """``owner.name(*args)`` runs ``wrapper(original, *args)`` until the block ends.

    Blocks may end in another order than they began: a wrapper that something else has wrapped since stays and
    passes on.
    """
    before = owner.__dict__[name]
    active = True

    @functools.wraps(before)
    def call(*args: Any, **kwargs: Any) -> Any:
        return wrapper(before, *args, **kwargs) if active else before(*args, **kwargs)

    setattr(owner, name, call)
    try:
        yield
    finally:
        active = False
        if owner.__dict__.get(name) is call:
            setattr(owner, name, before)


def classes_with(base: type, method: str) -> list[type]:
    """The class and those below it that define the method themselves."""
    found, waiting = [], [base]
    while waiting:
        one = waiting.pop()
        waiting.extend(one.__subclasses__())
        if method in one.__dict__ and one not in found:
            found.append(one)
    return found
