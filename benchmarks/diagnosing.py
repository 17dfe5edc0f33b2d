"""What the doctor takes: `cr.diagnose` before training, and the examination of a long run from its record.

Run as a program it does one of them in a process of its own and prints the seconds as JSON.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import processors
from benchmarks.rounds import ROOT, environment

ROWS, WIDTHS = 60_000, (784, 256, 128, 10)
"""Of what is diagnosed: as many rows as MNIST has."""

DEEP, EPOCHS = (64, *(64,) * 12, 10), 125
"""Of the run that is examined: with probes in each of its 4,000 updates."""

FRESH = 3
"""Processes for each figure, of which the least counts."""


def doctor_times() -> list[dict[str, Any]]:
    """A row for each: seconds in a new process, its imports included."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder, "run"))
        _seconds("train", run, None)
        _seconds("diagnose", run, None)
        for name, caches in (("empty", True), ("filled", False)):
            found = []
            for i in range(FRESH):
                found.append(_seconds("diagnose", run, Path(folder, str(i)) if caches else None)["first"])
            what = f"diagnose {'-'.join(map(str, WIDTHS))}, {ROWS:,} rows, {name} cache"
            rows.append({"what": what, "seconds": min(found), "all": found})
        found = [_seconds("examine", run, None) for _ in range(FRESH)]
        size = f"{found[0]['numbers']:,} measurements, {found[0]['steps']:,} updates, {len(DEEP) - 1} layers"
        for which, what in (("first", f"examine a run of {size}"), ("again", "the same again")):
            times = [f[which] for f in found]
            rows.append({"what": what, "seconds": min(times), "all": times})
    return rows


def _seconds(what: str, run: str, caches: Path | None) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.diagnosing", what, run]
    # Modules are compiled once, as those of an installed package are.
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(Path(run).parent / "modules")}
    held = environment(processors(), caches) | compiled
    done = subprocess.run(command, cwd=ROOT, env=held, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _network(widths: tuple[int, ...]) -> Any:
    from chainrule import nn

    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _rows(count: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that a network can learn to tell apart, and their classes."""
    random = np.random.default_rng(0)
    x = random.standard_normal((count, width), dtype=np.float32)
    return x, (x @ random.standard_normal((width, classes), dtype=np.float32)).argmax(axis=1)


def _train(run: str) -> dict[str, Any]:
    import chainrule as cr

    cr.fit(_network(DEEP), _rows(2048, DEEP[0], DEEP[-1]), loss="cross_entropy", epochs=EPOCHS, batch_size=64, seed=0,
           validation=0.1, progress=False, probes="every", run_dir=run)  # fmt: skip
    return {}


def _diagnose(_: str) -> dict[str, Any]:
    rows = _rows(ROWS, WIDTHS[0], WIDTHS[-1])
    began = time.perf_counter()
    import chainrule as cr

    cr.diagnose(_network(WIDTHS), rows, loss="cross_entropy", optimizer=cr.optim.Adam(1e-3))
    return {"first": time.perf_counter() - began}


def _examine(path: str) -> dict[str, Any]:
    import chainrule as cr

    run = cr.Run.load(path)
    times = []
    for _ in range(2):
        began = time.perf_counter()
        run.examine()
        times.append(time.perf_counter() - began)
    numbers = sum(len(found) for found in run.measurements.values())
    return {"first": times[0], "again": times[1], "numbers": numbers, "steps": run.step}


if __name__ == "__main__":
    print(json.dumps({"train": _train, "diagnose": _diagnose, "examine": _examine}[sys.argv[1]](sys.argv[2])))
