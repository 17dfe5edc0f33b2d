"""The measurements: each takes the choice that was made on the command line, and gives figures and a table of them."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.machine import peak, processors
from benchmarks.rounds import ROOT, Timing, Worker, WorkerFailed, environment, side_by_side
from benchmarks.table import duration, table
from benchmarks.workloads import Workload

FRESH = 5
"""Processes that a first call or an import is the median of."""


@dataclass(frozen=True)
class Choice:
    """What to measure."""

    workloads: tuple[Workload, ...]
    contenders: tuple[Contender, ...]
    seconds: float
    """Of work for each contender on each workload."""
    rounds: int
    rows: int
    """Of an epoch."""


@dataclass(frozen=True)
class Figures:
    """Results: ``rows`` for machines, ``text`` for people, ``failures`` of contenders that could not run."""

    rows: list[dict[str, Any]]
    text: str
    failures: dict[str, str]


def steps(choice: Choice) -> Figures:
    """Seconds of a whole training step, and its share of what the machine's BLAS reaches in one large product."""
    return _steps(choice, (processors(),))


def scaling(choice: Choice) -> Figures:
    """The same with one thread and with two."""
    return _steps(choice, tuple(n for n in (1, 2) if n <= processors()))


def _steps(choice: Choice, threads: tuple[int, ...]) -> Figures:
    rows: list[dict[str, Any]] = []
    texts: list[str] = []
    failures: dict[str, str] = {}
    for count in threads:
        best = peak(count)
        rate = best["operations_per_second"] / 1e9
        texts.append(f"{count} thread(s); a large matrix product reaches {rate:.0f} GFLOP/s: {', '.join(best['blas'])}")
        for workload in choice.workloads:
            names = [c.name for c in _steppers(choice, workload)]
            timings, failed = side_by_side(
                names, workload.name, "steps", workload.rows, count, choice.seconds, choice.rounds
            )
            failures |= failed
            found = [_step_row(t, workload, best) for t in timings]
            rows += [{**row, "ratios": _ratios(row, found)} for row in found]
            texts.append(_compared(f"{workload.name} {'-'.join(_short(workload))}, {workload.rows} rows", found))
    return Figures(rows, "\n\n".join(texts), failures)


def _short(workload: Workload) -> list[str]:
    widths = list(map(str, workload.widths))
    return widths if len(widths) < 8 else [widths[0], f"({widths[1]} x {len(widths) - 2})", widths[-1]]


def _step_row(timing: Timing, workload: Workload, best: dict[str, Any]) -> dict[str, Any]:
    share = workload.operations / timing.median / best["operations_per_second"]
    return {**_row(timing), "share_of_peak": share, "peak": best}


def _row(timing: Timing) -> dict[str, Any]:
    return {
        "workload": timing.workload,
        "contender": timing.contender,
        "threads": timing.threads,
        "median": timing.median,
        "min": timing.least,
        "rounds": timing.rounds,
        "first": timing.ready["first"],
        "versions": timing.ready["versions"],
        "blas": timing.ready["blas"],
    }


def _ratios(row: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, float]:
    """How many times as long each other contender takes."""
    return {other["contender"]: other["median"] / row["median"] for other in found if other is not row}


def _compared(title: str, found: list[dict[str, Any]]) -> str:
    """A table with, for each contender, how many times as long each peer takes."""
    peers = [row["contender"] for row in found if not row["contender"].startswith("chainrule")]
    lines = []
    for row in found:
        ratios = _ratios(row, found)
        share = f"{100 * row['share_of_peak']:.1f} %" if "share_of_peak" in row else "-"
        times = [f"{ratios[p]:.2f}" if p in ratios else "1" for p in peers]
        lines.append([row["contender"], duration(row["median"]), duration(row["min"]), share, *times])
    return table([title, "median", "min", "of peak", *(f"x {p}" for p in peers)], lines)


def epoch(choice: Choice) -> Figures:
    """Seconds of an epoch of shuffled mini-batches with a validation at its end."""
    rows, texts, failures = [], [], {}
    for workload in choice.workloads:
        names = [c.name for c in choice.contenders if c.takes(workload)]
        timings, failed = side_by_side(
            names, workload.name, "epoch", choice.rows, processors(), choice.seconds, choice.rounds
        )
        failures |= failed
        found = [_row(t) for t in timings]
        rows += [{**row, "ratios": _ratios(row, found)} for row in found]
        texts.append(_compared(f"{workload.name}, epoch of {choice.rows} rows", found))
    return Figures(rows, "\n\n".join(texts), failures)


def compile(choice: Choice) -> Figures:
    """Seconds of the first call in a new process (empty cache, filled cache), and of a second batch size."""
    rows, failures = _each(choice, _first_calls)
    lines = [
        [f"{r['workload']} {r['contender']}", *(duration(r[k]) for k in ("cold", "warm", "second_batch_size", "step"))]
        for r in rows
    ]
    header = ["first call", "empty cache", "filled cache", "second batch size", "later step"]
    return Figures(rows, table(header, lines), failures)


def _each(choice: Choice, measured: Callable[[Contender, Workload], dict]) -> tuple[list[dict], dict[str, str]]:
    """(what ``measured`` finds for each contender and workload, what went wrong with the others)."""
    rows: list[dict] = []
    failures: dict[str, str] = {}
    for workload in choice.workloads:
        for contender in _steppers(choice, workload):
            try:
                found = measured(contender, workload)
            except WorkerFailed as failure:
                failures[contender.name] = str(failure)
                continue
            rows.append({"workload": workload.name, "contender": contender.name, **found})
    return rows, failures


def _steppers(choice: Choice, workload: Workload) -> list[Contender]:
    """Those that take this workload, each way of taking a single step once."""
    return [c for c in choice.contenders if c.takes(workload) and c.option != "scan"]


def _first_calls(contender: Contender, workload: Workload) -> dict[str, float]:
    cold, warm, second, later = [], [], [], []
    for _ in range(FRESH):
        with tempfile.TemporaryDirectory() as caches:
            for found in (cold, warm):
                worker = Worker(contender.name, workload.name, "compile", workload.rows, processors(), Path(caches))
                found.append(worker.ready["first"])
                if found is cold:
                    second.append(worker.ready["second_batch_size"])
                    later.append(worker.run(3)["seconds"] / 3)
                worker.close()
    named = {"cold": cold, "warm": warm, "second_batch_size": second, "step": later}
    return {name: statistics.median(found) for name, found in named.items()}


def importing(choice: Choice) -> Figures:
    """Wall seconds of ``import X`` in a new process, less those of an empty one."""
    modules = ["chainrule", *dict.fromkeys(c.needs[0] for c in choice.contenders if c.needs)]
    taken: dict[str, list[float]] = {name: [] for name in ("", *modules)}
    for _ in range(FRESH + 1):
        for name, found in taken.items():
            found.append(_seconds_of(f"import {name}" if name else "pass"))
    # The first round reads files that the later ones find in memory.
    medians = {name: statistics.median(found[1:]) for name, found in taken.items()}
    rows = [{"module": n or "(nothing)", "seconds": s, "added": s - medians[""]} for n, s in medians.items()]
    lines = [[r["module"], duration(r["seconds"]), duration(max(r["added"], 0.0))] for r in rows]
    return Figures(rows, table(["import", "process", "added"], lines), {})


def _seconds_of(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment(processors()))
    return time.perf_counter() - began


def memory(choice: Choice) -> Figures:
    """Peak resident memory of a process that trains."""
    rows, failures = _each(choice, _peak_memory)
    sizes = [f"{r['bytes'] / 2**20:.0f} MiB" if r["bytes"] else "-" for r in rows]
    shown = [[f"{r['workload']} {r['contender']}", size] for r, size in zip(rows, sizes, strict=True)]
    return Figures(rows, table(["peak resident memory", ""], shown), failures)


def _peak_memory(contender: Contender, workload: Workload) -> dict[str, int | None]:
    worker = Worker(contender.name, workload.name, "steps", workload.rows, processors())
    try:
        return {"bytes": worker.run(10)["peak_memory"]}
    finally:
        worker.close()


def probes(choice: Choice) -> Figures:
    """What probes cost ``fit``, sampled and in every update: blocks of updates, and all that lies between updates."""
    from benchmarks.probing import overheads

    rows = [found for workload in choice.workloads for found in overheads(workload, choice.seconds, choice.rounds)]
    shares = ("inside", "between", "overhead")
    lines = [[f"{r['workload']} {r['probes']}", f"{100 * r['share']:.2f} %", duration(r["update"]), str(r["blocks"]),
              *(f"{100 * r[share]:+.2f} %" for share in shares), f"{100 * r['low']:+.2f} to {100 * r['high']:+.2f} %",
              duration(max(r["once"], 0.0))]
             for r in rows]  # fmt: skip
    header = ["probes", "measured", "update without", "pairs", "in updates", "between", "overhead", "95 % interval"]
    return Figures(rows, table([*header, "once"], lines), {})


def watch(choice: Choice) -> Figures:
    """What ``cr.watch`` costs a loop of PyTorch: blocks of steps that it sees beside blocks that it does not."""
    if find_spec("torch") is None:
        return Figures([], "", {"watch": "needs PyTorch: pip install -e '.[peers]'"})
    from benchmarks.watching import STEPS, costs

    rows = costs(choice.seconds, choice.rounds)
    lines = [[r["network"], str(r["rounds"]), duration(r["step"]), f"{r['measured']} of {STEPS}", duration(r["each"]),
              duration(max(r["later"], 0.0)), f"{100 * r['overhead']:+.1f} %",
              f"{100 * r['low']:+.1f} to {100 * r['high']:+.1f} %", f"{100 * r['long']:+.1f} %"]
             for r in rows]  # fmt: skip
    header = [
        "watch",
        "rounds",
        "step",
        "measured",
        "each adds",
        "others later",
        "overhead",
        "95 % interval",
        "long run",
    ]
    return Figures(rows, table(header, lines), {})


def diagnosis(choice: Choice) -> Figures:
    """Seconds of the doctor: before training on 60,000 rows, and on the record of a long run."""
    from benchmarks.diagnosing import doctor_times

    rows = doctor_times()
    return Figures(rows, table(["the doctor", "least"], [[r["what"], duration(r["seconds"])] for r in rows]), {})


MEASURES: dict[str, Callable[[Choice], Figures]] = {
    "steps": steps,
    "epoch": epoch,
    "compile": compile,
    "import": importing,
    "memory": memory,
    "scaling": scaling,
    "probes": probes,
    "watch": watch,
    "diagnosis": diagnosis,
}
