"""Watch: the progress bar of training at a terminal, with a line an epoch, and what users named escaped."""

from __future__ import annotations

from typing import Any

from chainrule.training import Callback, Run
from chainrule.training.progress import Bar


class Watch(Callback):
    """A context whose value is the callbacks that move the bar."""

    def __init__(self, epochs: int, updates: int, batch_size: int) -> None:
        self.bar = Bar(epochs, epochs * updates)
        self.updates, self.batch_size = updates, batch_size

    def __enter__(self) -> tuple[Callback, ...]:
        self.bar.__enter__()
        return (self,)

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)

    def on_step(self, run: Run, step: int, loss: float) -> None:
        self.bar.step(1 + (step - 1) // self.updates, step, loss, self.batch_size)

    def on_epoch(self, run: Run, epoch: int, metrics: dict[str, float]) -> None:
        self.bar.epoch(epoch, metrics)
