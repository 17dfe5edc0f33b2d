"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from benchmarks.rounds import Worker
from benchmarks.worker import PEAK_SIZE

PEAK_TRIALS = 5


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Processor, system and Python; load: how many others wanted to run during the last minute."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": _cpu(),
        "processors": processors(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": load,
    }


def _cpu() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak(threads: int) -> dict[str, Any]:
    """Operations a second of a large float32 matrix product by NumPy's BLAS, the best of a few, and its kernel."""
    worker = Worker("peak", "-", "peak", 0, threads)
    try:
        seconds = min(worker.run(2)["seconds"] / 2 for _ in range(PEAK_TRIALS))
    finally:
        worker.close()
    return {"threads": threads, "operations_per_second": 2 * PEAK_SIZE**3 / seconds, "blas": worker.ready["blas"]}


def taken_by_others() -> float:
    """Seconds of processor time that were not this process's, since some moment; where nobody tells, 0."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, interrupts, soft, stolen = map(int, file.readline().split()[1:9])
    except OSError:
        return 0.0
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK") - time.process_time()
