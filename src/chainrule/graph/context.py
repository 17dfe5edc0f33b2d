"""What holds around an operation while it is applied: the trace, the module, the rule. One context a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chainrule.graph.tensor import Node, Tensor
    from chainrule.graph.trace import Trace


class Context(threading.local):
    """Defaults of a new thread: eager, recording what gradients need, outside any module."""

    trace: Trace | None = None
    """The trace that is going on, if any."""
    origin: tuple[Node, tuple[str, ...]] | None = None
    """While a pullback runs: the forward node that it belongs to."""
    scope: str = ""
    """Qualified name of the module whose forward pass is running, such as ``encoder.0``."""
    recording: bool = True
    """Whether eager operations on tensors that require gradients keep their nodes."""
    observer: Callable[[Any, Any], None] | None = None
    """Called with each module and what its forward pass gave."""
    key: Tensor | None = None
    """Random key of the step, [seed low, seed high, step, first row]; None: the next eager one."""


context = Context()


@contextmanager
def holding(**values: object) -> Iterator[None]:
    """Set attributes of this thread's context for the duration of a block."""
    before = {name: getattr(context, name) for name in values}
    for name, value in values.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


def no_grad():
    """A block in which eager operations record nothing, as ``torch.no_grad``."""
    return holding(recording=False)
