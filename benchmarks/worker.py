"""A process that holds one contender and does what it is told, a JSON line at a time.

Arguments: contender, workload, kind (steps, compile, epoch or peak), rows. It answers ``{"ready": ...}`` after a first
step; then each number n that it reads makes it do n steps (or epochs), timed, and answer ``{"seconds": ...}``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

THREADS = "BENCHMARK_THREADS"
BETWEEN_RESETS = 500
"""Steps on one batch. Adam's moments of a unit that died reach denormal numbers after some 800 steps (0.9^830 is
1e-38), which slows libraries that keep them; training proper does not stay on one batch."""
PEAK_SIZE = 2048


@dataclass(frozen=True)
class Job:
    """What a worker does when told."""

    run: Callable[[int], float]
    """n -> seconds of n steps, epochs or products."""
    first: Callable[[], dict[str, float]]
    """Seconds of what happens once: the first call, and the first on another batch size where that is asked for."""


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    name, workload, kind, rows = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    _keep_to_processors(int(os.environ[THREADS]))
    job = _product() if kind == "peak" else _job(name, workload, kind, rows)
    _answer(answers, {"ready": name, **job.first(), **_loaded()})
    for line in sys.stdin:
        _answer(answers, {"seconds": job.run(int(line)), "peak_memory": _peak_memory()})


def _answer(answers: TextIO, found: dict[str, Any]) -> None:
    answers.write(json.dumps(found) + "\n")
    answers.flush()


def _keep_to_processors(count: int) -> None:
    """Where the system can, so that a library's own idea of threads makes no difference."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def _job(name: str, workload_name: str, kind: str, rows: int) -> Job:
    from benchmarks.contenders import named
    from benchmarks.workloads import WORKLOADS

    contender, workload = named(name), WORKLOADS[workload_name]
    if kind == "epoch":
        epoch = contender.epoch(workload, rows)
        return Job(lambda n: _seconds(epoch, n), lambda: {"first": _seconds(epoch, 1)})
    training = contender.training(workload, rows)

    def steps(n: int) -> float:
        total = 0.0
        for start in range(0, n, BETWEEN_RESETS):
            training.reset()
            training.step()  # what a library makes once after a reset is no part of a step
            total += _seconds(training.step, min(BETWEEN_RESETS, n - start))
        return total

    def first() -> dict[str, float]:
        found = {"first": _seconds(training.step, 1)}
        if kind == "compile":
            other = contender.training(workload, max(1, rows // 2))
            training.x, training.y = other.x, other.y
            found["second_batch_size"] = _seconds(training.step, 1)
        return found

    return Job(steps, first)


def _seconds(function: Callable[[], None], n: int) -> float:
    began = time.perf_counter()
    for _ in range(n):
        function()
    return time.perf_counter() - began


def _product() -> Job:
    import numpy as np

    a = np.random.default_rng(0).standard_normal((PEAK_SIZE, PEAK_SIZE), dtype=np.float32)
    out = np.empty_like(a)

    def products(n: int) -> float:
        return _seconds(lambda: np.matmul(a, a, out=out), n)

    return Job(products, lambda: {"first": products(1)})


def _loaded() -> dict[str, Any]:
    """Versions and BLAS kernels of what this process has loaded."""
    from importlib.metadata import version

    known = {"numpy": "numpy", "torch": "torch", "jax": "jax", "sklearn": "scikit-learn", "chainrule": "chainrule"}
    versions = {}
    for module, package in known.items():
        if module in sys.modules:
            versions[package] = getattr(sys.modules[module], "__version__", None) or version(package)
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return {"versions": versions, "blas": ["unknown: threadpoolctl is not installed"]}
    blas = [
        f"{found['internal_api']} {found.get('version')} {found.get('architecture', '')} x{found['num_threads']}"
        for found in threadpool_info()
    ]
    return {"versions": versions, "blas": blas}


def _peak_memory() -> int | None:
    """Bytes of the largest resident set so far; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
