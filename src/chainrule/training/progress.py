"""The progress bar of training: in terminals and notebooks; silent elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Protocol


class Progress(Protocol):
    """What ``fit`` tells about its progress."""

    def __enter__(self) -> Progress: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def step(self, epoch: int, done: int, loss: float, rows: int) -> None:
        """``done`` of all updates are made; the last one had ``rows`` rows."""

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """An epoch has ended."""

    def say(self, text: str) -> None:
        """A line for the reader."""


class Silent:
    """No progress."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def step(self, epoch: int, done: int, loss: float, rows: int) -> None:
        return None

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        return None

    def say(self, text: str) -> None:
        return None


class Bar:
    """One line that moves, and a line an epoch in the end: loss, rows a second, time left."""

    def __init__(self, epochs: int, updates: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.epochs, self.rows, self.shown = epochs, 0, 0.0
        self.done, self.loss, self.known = 0, "", updates is not None
        self.console = Console()
        self.bar = RichProgress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[share]}"),
            TextColumn("{task.fields[loss]}"), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
            console=self.console, transient=True, refresh_per_second=10,
        )  # fmt: skip
        self.task = self.bar.add_task(f"epoch 1/{epochs}", total=updates, loss="", rate="", share="")
        self.started = time.perf_counter()

    def __enter__(self) -> Bar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def step(self, epoch: int, done: int, loss: float, rows: int) -> None:
        self.rows += rows
        self.done, self.loss = done, f"loss {loss:.4f}"
        now = time.perf_counter()
        if now - self.shown >= 0.1:
            self.shown = now
            self._show(epoch)

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        if not self.known:  # the first epoch of a stream tells how long all of them are
            self.known = True
            self.bar.update(self.task, total=self.done * self.epochs // epoch)
        self._show(epoch)
        head = f"epoch {epoch:>{len(str(self.epochs))}}/{self.epochs}"
        for line in folded(head, metric_words(metrics), self.console.width):
            self.say(line)

    def _show(self, epoch: int) -> None:
        rate = self.rows / max(time.perf_counter() - self.started, 1e-9)
        self.bar.update(self.task, completed=self.done, description=f"epoch {epoch}/{self.epochs}", loss=self.loss,
                        rate=f"{rate:,.0f} rows/s")  # fmt: skip
        if self.known:
            self.bar.update(self.task, share=f"{self.bar.tasks[0].percentage:.0f} %")

    def say(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)


def metric_words(metrics: dict[str, float]) -> list[str]:
    """The metrics of an epoch in words; what was measured on the validation part follows that word, said once."""
    words = [f"{name} {shown_metric(name, value)}" for name, value in metrics.items()
             if name != "learning_rate" and not name.startswith("validation_")]  # fmt: skip
    held = {n.removeprefix("validation_"): v for n, v in metrics.items() if n.startswith("validation_")}
    found = [f"{name} {shown_metric(name, value)}" for name, value in held.items()]
    return words + [f"validation {word}" if i == 0 else word for i, word in enumerate(found)]


def folded(head: str, words: list[str], width: int) -> list[str]:
    """``head`` and the words in lines that fit the width; the later ones begin below the first word."""
    lines = [head]
    for word in words:
        if len(lines[-1]) + 2 + len(word) > width and lines[-1].strip() not in ("", head):
            lines.append(" " * len(head))
        lines[-1] += f"  {word}"
    return lines


def shown_metric(name: str, value: float) -> str:
    """A value as people read it: shares of rows in percent."""
    bare = name.removeprefix("validation_")
    if bare == "accuracy" or bare.startswith("top"):
        return f"{100 * value:.1f} %"
    return f"{value:.3g}" if bare == "learning_rate" else f"{value:.4f}"


def progress_for(wanted: bool | None, epochs: int, updates: int | None) -> Any:
    """A bar if wanted, or, with None, where somebody is looking."""
    if wanted is None:
        wanted = (sys.stdout is not None and sys.stdout.isatty()) or "ipykernel" in sys.modules
    return Bar(epochs, updates) if wanted else Silent()
