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

        self.epochs, self.rows, self.last_rate, self.shown = epochs, 0, "", 0.0
        self.console = Console()
        self.bar = RichProgress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[loss]}"), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
            console=self.console, transient=True, refresh_per_second=10,
        )  # fmt: skip
        self.task = self.bar.add_task(f"epoch 1/{epochs}", total=updates, loss="", rate="")
        self.started = time.perf_counter()

    def __enter__(self) -> Bar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def step(self, epoch: int, done: int, loss: float, rows: int) -> None:
        self.rows += rows
        now = time.perf_counter()
        if now - self.shown < 0.1:
            return
        self.shown = now
        rate = self.rows / max(now - self.started, 1e-9)
        self.bar.update(self.task, completed=done, description=f"epoch {epoch}/{self.epochs}",
                        loss=f"loss {loss:.4f}", rate=f"{rate:,.0f} rows/s")  # fmt: skip

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        width = len(str(self.epochs))
        seen = {k: v for k, v in metrics.items() if k != "learning_rate"}
        self.say(f"epoch {epoch:>{width}}/{self.epochs}  {shown_metrics(seen)}")

    def say(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)


def shown_metrics(metrics: dict[str, float]) -> str:
    """Metrics in one line, accuracies in percent."""
    return "  ".join(f"{name.replace('_', ' ')} {shown_metric(name, value)}" for name, value in metrics.items())


def shown_metric(name: str, value: float) -> str:
    """A value as people read it: shares of rows in percent."""
    bare = name.removeprefix("validation_")
    if bare == "accuracy" or bare.startswith("top"):
        return f"{100 * value:.1f} %"
    return f"{value:.3g}" if bare == "learning_rate" else f"{value:.4f}"


def progress_for(wanted: bool | None, epochs: int, updates: int | None) -> Any:
    """A bar if wanted, or, with None, where somebody is looking."""
    if wanted is None:
        wanted = sys.stdout.isatty() or "ipykernel" in sys.modules
    return Bar(epochs, updates) if wanted else Silent()
