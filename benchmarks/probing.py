"""What probes cost a fit: several fits take turns, an epoch each, with and without."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workloads import Workload

UPDATES = 64
"""Of a turn: short, so that a disturbance hits few turns, and long enough for samples to be among them."""

KINDS = (None, "sampled", "every")

FITS = 3
"""Of each kind: where its arrays come to lie makes one fit a few per cent faster than another of its kind."""


class _Fit:
    """A fit in a thread of its own, which makes one epoch each time that it is asked to."""

    def __init__(self, workload: Workload, data: tuple[np.ndarray, np.ndarray], kind: str | None, folder: Path) -> None:
        self.kind, self.taken = kind, list[float]()
        self.go, self.done, self.enough = threading.Event(), threading.Event(), False
        self.failed: BaseException | None = None
        self.began = 0.0
        self.thread = threading.Thread(target=self._fit, args=(workload, data, folder), daemon=True)
        self.thread.start()
        self._await()

    def turn(self) -> None:
        """One epoch."""
        self.go.set()
        self._await()

    def end(self) -> None:
        self.enough = True
        self.go.set()
        self.thread.join()

    def _await(self) -> None:
        self.done.wait()
        self.done.clear()
        if self.failed is not None:
            raise self.failed

    def _wait(self) -> None:
        self.done.set()
        self.go.wait()
        self.go.clear()
        self.began = time.perf_counter()

    def _ended(self, run: Any, epoch: int, metrics: dict[str, float]) -> bool:
        self.taken.append(time.perf_counter() - self.began)
        self._wait()
        return self.enough

    def _fit(self, workload: Workload, data: tuple[np.ndarray, np.ndarray], folder: Path) -> None:
        import chainrule as cr
        from chainrule import nn, optim

        layers: list[nn.Module] = []
        for a, b in zip(workload.widths, workload.widths[1:], strict=False):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self._wait()
        try:
            # As many epochs as a long run has: the rate of the samples is reckoned from that.
            cr.fit(nn.Sequential(*layers[:-1]), data, loss="cross_entropy", optimizer=optim.Adam(1e-3), epochs=10**6,
                   batch_size=workload.rows, seed=0, progress=False, probes=self.kind, callbacks=[self._ended],
                   keep_rows=0, run_dir=folder)  # fmt: skip
        except BaseException as error:
            self.failed = error
        self.done.set()


def overheads(workload: Workload, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """A row for each kind of probes: seconds an update, and its share over those of the fit without.

    Each round has a turn for every fit, in an order drawn anew. All write records, as a run with a directory does.
    """
    order = random.Random(0)
    with _fits(workload) as fits:
        until = time.perf_counter() + seconds * len(KINDS)
        made = 0
        while made < rounds or time.perf_counter() < until:
            for fit in order.sample(fits, len(fits)):
                fit.turn()
            made += 1
    # The first turn compiles. [kind, fit, round]
    taken = np.array([[f.taken[1:] for f in fits if f.kind == kind] for kind in KINDS]) / UPDATES
    by_round = taken.mean(axis=1)
    return [
        {
            "workload": workload.name,
            "probes": str(kind),
            "turns": taken[i].size,
            "min": float(taken[i].min()),
            "quartile": float(np.quantile(taken[i], 0.25)),
            "median": float(np.median(taken[i])),
            "overhead": float(np.quantile(taken[i], 0.25) / np.quantile(taken[0], 0.25) - 1),
            "median_overhead": float(np.median(by_round[i] / by_round[0]) - 1),
        }
        for i, kind in enumerate(KINDS)
    ]


@contextmanager
def _fits(workload: Workload) -> Iterator[list[_Fit]]:
    """The fits, each after its first epoch."""
    data = workload.batch(workload.rows * UPDATES)
    with tempfile.TemporaryDirectory() as folder:
        fits = [_Fit(workload, data, kind, Path(folder, f"{kind}-{i}")) for i in range(FITS) for kind in KINDS]
        try:
            for fit in fits:
                fit.turn()
            yield fits
        finally:
            for fit in fits:
                fit.end()
