"""The crew: replays in other processes, begun anew (never forked), each seen when it is lost."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from chainrule.doctor.treat.job import Job, as_data, perform
from chainrule.doctor.treat.luggage import pack, portable
from chainrule.doctor.treat.plan import Plan
from chainrule.doctor.treat.replay import Outcome, Replays, failed, outcome_of

MOST_LOST = 3
"""Workers that may be lost before the rest is done in this process."""

WORTH = 4.0
"""Seconds of replays for which it is worth to begin processes; each takes one to two to load this package."""

GRACE = 5.0
"""Seconds beyond a job's own limit after which its worker is given up."""


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker:
    """One process and the thread that waits for its answers."""

    def __init__(
        self, folder: Path, threads: int, heard: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]]
    ) -> None:
        root = str(Path(__file__).parents[3])  # where this package is found
        paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chainrule.doctor.treat.worker", str(folder), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip
        self.heard = heard
        self.job: tuple[int, Job] | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                self.heard.put((self, json.loads(line)))
            except json.JSONDecodeError:
                break
        self.heard.put((self, None))  # its end

    def give(self, number: int, job: Job, seconds: float) -> None:
        self.job = (number, job)
        line = json.dumps({"id": number, "job": as_data(job), "seconds": min(seconds, 1e9)})
        with suppress(OSError):  # it has ended: its thread says so
            assert self.process.stdin is not None
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


class Crew:
    """Replays of one plan, in `workers` processes, or in this one where there are none.

    A network or loss of the user's own cannot be described without code, so it is replayed in this process.
    """

    def __init__(self, base: Plan, workers: int | None = None) -> None:
        self.base = base
        self.count = usable_cores() if workers is None else workers
        self.free = workers is None
        self.notes: list[str] = []
        if self.count and not portable(base):
            self.count = 0
            self.notes.append("network or loss are your own code, so replays ran in this process, one after another")
        self.workers: list[_Worker] = []
        self.heard: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]] = queue.SimpleQueue()
        self.own = Replays()
        self.lost = 0
        self.folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.end()
        self.workers = []
        if self.folder is not None:
            self.folder.cleanup()

    def here(self, job: Job, seconds: float) -> Outcome:
        """The outcome of one replay in this process, for at most so many seconds."""
        return perform(self.base, job, self.own, seconds)[0]

    def expect(self, seconds: float) -> None:
        """Of how much work there will be: where it is less than it takes to begin a process, none is begun."""
        if self.free and seconds < WORTH:
            self.count = 0

    def run(self, jobs: Sequence[Job], deadline: float) -> Iterator[tuple[Job, Outcome]]:
        """Each job with its outcome, as they end; those that have not ended at the deadline do not come.

        deadline: of `time.perf_counter`.
        """
        if self.count == 0:
            yield from self._alone(jobs, deadline)
            return
        waiting, tried, number = list(jobs), dict.fromkeys((j.key for j in jobs), 0), 0
        self._fill(min(self.count, len(waiting)))
        while waiting or any(w.job for w in self.workers):
            if self.lost > MOST_LOST:
                rest = [w.job[1] for w in self.workers if w.job] + waiting
                self._give_up()
                yield from self._alone(rest, deadline)
                return
            for worker in self.workers:
                if worker.job is None and waiting and time.perf_counter() < deadline:
                    number += 1
                    worker.give(number, waiting.pop(0), deadline - time.perf_counter())
            if not any(w.job for w in self.workers):
                return
            try:
                wait = max(deadline - time.perf_counter(), 0) + GRACE
                worker, answer = self.heard.get(timeout=min(wait, threading.TIMEOUT_MAX))
            except queue.Empty:
                self._dismiss_busy()
                return
            if worker not in self.workers:
                continue
            asked, worker.job = worker.job, None
            if answer is None:
                self._replace(worker)
                if asked is not None:
                    again = self._after_loss(asked[1], tried)
                    if again is None:
                        waiting.insert(0, asked[1])
                    else:
                        yield asked[1], again
            elif asked is not None and answer["id"] == asked[0]:
                yield asked[1], outcome_of(answer["outcome"])

    def _alone(self, jobs: Sequence[Job], deadline: float) -> Iterator[tuple[Job, Outcome]]:
        for job in jobs:
            left = deadline - time.perf_counter()
            if left <= 0:
                return
            yield job, perform(self.base, job, self.own, left)[0]

    def _fill(self, count: int) -> None:
        if self.folder is None:
            self.folder = tempfile.TemporaryDirectory(prefix="chainrule-treat-")
            pack(self.base, Path(self.folder.name))
        threads = max(1, usable_cores() // self.count)
        while len(self.workers) < count:
            self.workers.append(_Worker(Path(self.folder.name), threads, self.heard))

    def _replace(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        worker.end()
        self.lost += 1
        if self.lost <= MOST_LOST:
            self._fill(len(self.workers) + 1)

    def _after_loss(self, job: Job, tried: dict[Any, int]) -> Outcome | None:
        """None: try the job once more; else what is said of it."""
        tried[job.key] += 1
        if tried[job.key] < 2:
            return None
        return failed("two worker processes were lost over this replay")

    def _dismiss_busy(self) -> None:
        for worker in [w for w in self.workers if w.job]:
            self.workers.remove(worker)
            worker.end()

    def _give_up(self) -> None:
        for worker in self.workers:
            worker.end()
        self.workers, self.count = [], 0
        self.notes.append(f"{self.lost} worker processes were lost, so the rest was replayed in this process")
