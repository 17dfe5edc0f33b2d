"""What a user may hang into training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chainrule.errors import ArgumentError

if TYPE_CHECKING:
    from chainrule.training.run import Run


class Callback:
    """Override what you need. An exception stops the run as an error would: the checkpoint is kept."""

    def on_start(self, run: Run) -> None:
        """Before the first step."""

    def on_step(self, run: Run, step: int, loss: float) -> None:
        """After an update; ``step`` counts them from 1."""

    def on_epoch(self, run: Run, epoch: int, metrics: dict[str, float]) -> bool | None:
        """After an epoch, counted from 1; return True to stop training."""
        return None

    def on_end(self, run: Run) -> None:
        """After the last step."""


@dataclass(frozen=True)
class _OfFunction(Callback):
    function: Callable[[Run, int, dict[str, float]], bool | None]

    def on_epoch(self, run: Run, epoch: int, metrics: dict[str, float]) -> bool | None:
        return self.function(run, epoch, metrics)


def as_callbacks(given: Any) -> tuple[Callback, ...]:
    """Callbacks from Callback objects and plain functions of (run, epoch, metrics)."""
    found = []
    for entry in given if isinstance(given, (list, tuple)) else [given] if given is not None else []:
        if isinstance(entry, type):
            raise ArgumentError(f"a callback is an object: write {entry.__name__}(...), not the class {entry.__name__}")
        if not isinstance(entry, Callback) and not callable(entry):
            raise ArgumentError(f"a callback is a Callback or a function of (run, epoch, metrics), got {entry!r}")
        found.append(entry if isinstance(entry, Callback) else _OfFunction(entry))
    return tuple(found)
