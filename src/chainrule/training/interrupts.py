"""Ctrl-C and SIGTERM during training: finish the step that is going on, then stop where a checkpoint can be made."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """Training was asked to end by SIGTERM."""


class Interrupts:
    """While entered, signals only leave a mark, which ``check`` turns into an exception between two steps.

    A second Ctrl-C raises at once. Outside the main thread, where Python delivers no signals, nothing changes.
    """

    def __init__(self) -> None:
        self.asked: type[KeyboardInterrupt] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if number == signal.SIGTERM or handler is signal.default_int_handler:
                    self._before[number] = signal.signal(number, self._mark)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _mark(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:
            raise self.asked
        self.asked = Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def check(self) -> None:
        """Raise what was asked for, if anything was."""
        if self.asked is not None:
            raise self.asked
