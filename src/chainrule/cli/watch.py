"""Watch: the progress bar of training at a terminal, with a line an epoch."""

from __future__ import annotations

from chainrule.training import Callback, Run
from chainrule.training.progress import Bar


class Watch(Callback):
    """A context in which the bar moves, from the start of training on."""

    def __init__(self, epochs: int, updates: int, batch_size: int) -> None:
        self.bar = Bar(epochs, epochs * updates)
        self.updates, self.batch_size = updates, batch_size
        self.started = False

    def __enter__(self) -> tuple[Callback, ...]:
        return (self,)

    def __exit__(self, *error: object) -> None:
        if self.started:
            self.bar.__exit__(*error)

    def on_start(self, run: Run) -> None:
        self.bar.__enter__()
        self.started = True

    def on_step(self, run: Run, step: int, loss: float) -> None:
        self.bar.step(1 + (step - 1) // self.updates, step, loss, self.batch_size)

    def on_epoch(self, run: Run, epoch: int, metrics: dict[str, float]) -> None:
        self.bar.epoch(epoch, metrics)
