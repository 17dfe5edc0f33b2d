"""Contenders side by side: a process each, timed in turns, so that a disturbance hits them all."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.worker import THREADS

ROOT = Path(__file__).resolve().parent.parent
SETTLE = 0.25
"""Seconds between two contenders: thread pools spin for up to 0.2 s after their work."""
STEERING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Variables that choose a BLAS kernel: unset for all, so that each gets the one for this machine."""
BYTECODE = "PYTHONDONTWRITEBYTECODE"
"""Unset as well: an installation has the reading of Python's source behind it."""
COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "CHAINRULE_NUM_THREADS")


def environment(threads: int, caches: Path | None = None) -> dict[str, str]:
    """Of a worker; ``caches`` is where compiled code is kept between processes, if anywhere but the default."""
    kept = {k: v for k, v in os.environ.items() if k not in (*STEERING, BYTECODE)}
    kept |= {name: str(threads) for name in (*COUNTS, THREADS)}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "src"), kept.get("PYTHONPATH")]))
    if caches is not None:
        kept |= {
            "XDG_CACHE_HOME": str(caches),
            "TORCHINDUCTOR_CACHE_DIR": str(caches / "torch"),
            "JAX_COMPILATION_CACHE_DIR": str(caches / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    return kept


class WorkerFailed(Exception):
    """A worker ended before it answered; the message holds the end of what it wrote."""


class Worker:
    """A process that holds one contender."""

    def __init__(
        self, name: str, workload: str, kind: str, rows: int, threads: int, caches: Path | None = None
    ) -> None:
        self.name = name
        command = [sys.executable, "-m", "benchmarks.worker", name, workload, kind, str(rows)]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(threads, caches),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.ready = self._answer()

    def run(self, n: int) -> dict[str, Any]:
        """n steps: their seconds, and the peak memory after them."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self.process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        _, errors = self.process.communicate()
        raise WorkerFailed(f"{self.name}: {errors.strip()[-600:] or 'ended without a word'}")


@dataclass(frozen=True)
class Timing:
    """One contender on one workload: seconds a step in each round."""

    contender: str
    workload: str
    threads: int
    rounds: tuple[float, ...]
    ready: dict[str, Any] = field(repr=False)
    peak_memory: int | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def least(self) -> float:
        return min(self.rounds)


def side_by_side(
    names: Sequence[str], workload: str, kind: str, rows: int, threads: int, seconds: float, rounds: int
) -> tuple[list[Timing], dict[str, str]]:
    """(a timing for each contender, what went wrong with the others); about ``seconds`` of work for each."""
    workers, failures = _started(names, workload, kind, rows, threads)
    try:
        counts = {w.name: _count(w, seconds / rounds) for w in workers}
        found: dict[str, list[float]] = {w.name: [] for w in workers}
        memory: dict[str, Any] = {}
        for _ in range(rounds):
            for worker in workers:
                time.sleep(SETTLE)
                n = counts[worker.name]
                if n > 1:
                    worker.run(max(1, n // 10))  # wakes threads, fills caches
                answer = worker.run(n)
                found[worker.name].append(answer["seconds"] / n)
                memory[worker.name] = answer["peak_memory"]
    finally:
        for worker in workers:
            worker.close()
    timings = [Timing(w.name, workload, threads, tuple(found[w.name]), w.ready, memory[w.name]) for w in workers]
    return timings, failures


def _started(
    names: Sequence[str], workload: str, kind: str, rows: int, threads: int
) -> tuple[list[Worker], dict[str, str]]:
    workers, failures = [], {}
    for name in names:
        try:
            workers.append(Worker(name, workload, kind, rows, threads))
        except WorkerFailed as failure:
            failures[name] = str(failure)
    return workers, failures


def _count(worker: Worker, seconds: float) -> int:
    """Steps that take about ``seconds``."""
    n = 1
    while True:
        taken = worker.run(n)["seconds"]
        if taken > seconds / 4:
            return max(1, round(n * seconds / taken))
        n *= 4
