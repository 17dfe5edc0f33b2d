"""Ctrl-C and SIGTERM during training: finish the step that is going on, then stop where a checkpoint can be made."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """Training was asked to end by SIGTERM."""


class Interrupts:
    """While entered, a signal raises only where nothing is half done.

    Within ``finishing()`` it waits for the end of the block. Elsewhere (a callback, validation, waiting for a batch) it
    raises at once, and so does a second signal anywhere. Handlers of the user's own are left alone; outside the main
    thread, where Python delivers no signals, nothing changes.
    """

    def __init__(self) -> None:
        self._asked: type[KeyboardInterrupt] | None = None
        self._waiting = self._finishing = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) == usual:
                    self._before[number] = signal.signal(number, self._mark)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _mark(self, number: int, frame: FrameType | None) -> None:
        again = self._asked is not None
        self._asked = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if again or not self._finishing:
            raise self._asked
        self._waiting = True

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """A block that a first signal does not break; it raises at the end of the outermost one."""
        outermost, self._finishing = not self._finishing, True
        try:
            yield
        finally:
            if outermost:
                self._finishing = False
        if outermost and self._waiting and self._asked is not None:
            self._waiting = False
            raise self._asked
