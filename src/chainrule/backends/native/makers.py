"""Makers: threads that turn texts into code, none of which outlives the work there is."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable

from chainrule.backends.native.cores import usable_cores

SWITCH_WITHIN = 0.0003
"""s after which a thread that wants the interpreter gets it while makers work, who want it often and briefly, between
calls of LLVM: a first call of 2-16-16-2 took 121 ms with Python's own 5 ms, 116 with this."""


class _Job:
    """A text that somebody makes, or will make. made: None where that failed."""

    def __init__(self, text: str) -> None:
        self.text, self.done = text, threading.Event()
        self.made: bytes | None = None


class Makers:
    """What ``make`` gives for each text that was begun: made by threads, and by whoever waits for it."""

    def __init__(self, make: Callable[[str], bytes]) -> None:
        self.make = make
        self.usual: float | None = None
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Of a parent's threads a child made by fork has none."""
        self.lock = threading.Lock()
        self.jobs: dict[str, _Job] = {}
        self.waiting: deque[_Job] = deque()
        self.working = 0
        self._switch_as_usual()

    def _switch_soon(self) -> None:
        self.usual = sys.getswitchinterval()
        sys.setswitchinterval(min(SWITCH_WITHIN, self.usual))

    def _switch_as_usual(self) -> None:
        if self.usual is not None:
            sys.setswitchinterval(self.usual)
        self.usual = None

    def begin(self, text: str) -> None:
        """Have ``text`` made by a thread, unless it is begun already."""
        with self.lock:
            if text in self.jobs:
                return
            self.jobs[text] = _Job(text)
            self.waiting.append(self.jobs[text])
            # Whoever waits in `take` makes one more.
            if self.working >= max(1, usable_cores() - 1):
                return
            self.working += 1
            if self.working == 1:
                self._switch_soon()
        threading.Thread(target=self._work, name="chainrule maker").start()

    def take(self, text: str) -> bytes:
        """What was made of ``text``; raises as ``make`` does. The caller makes what waits meanwhile."""
        job = self.jobs.get(text) or _Job(text)
        while not job.done.is_set():
            other = self._next()
            if other is None:
                break
            self._do(other)
        if text in self.jobs:
            job.done.wait()
        self.jobs.pop(text, None)
        return self.make(text) if job.made is None else job.made

    def _work(self) -> None:
        while (job := self._next(ends=True)) is not None:
            self._do(job)

    def _next(self, ends: bool = False) -> _Job | None:
        """The job that waits longest. ends: a thread that finds none is no longer working."""
        with self.lock:
            if self.waiting:
                return self.waiting.popleft()
            self.working -= ends
            if ends and not self.working:
                self._switch_as_usual()
            return None

    def _do(self, job: _Job) -> None:
        try:
            job.made = self.make(job.text)
        except Exception:  # `take` tries again, in the thread of whoever asked
            pass
        finally:
            job.done.set()
