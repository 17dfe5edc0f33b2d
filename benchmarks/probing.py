"""What probes cost a fit: each of several fits measures in one turn and not in the next, beside fits without probes."""

from __future__ import annotations

import importlib
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import taken_by_others
from benchmarks.workloads import EPOCH_ROWS, Workload

KINDS = (None, "sampled", "every")
"""The first is the control: nothing differs between its turns."""

FITS = 2
"""Of each kind. Where its arrays come to lie makes one a few per cent faster than another, so each is compared with
itself."""

DISTURBED = 0.03
"""Pairs of turns in which other processes had more than this share of a processor do not count."""

RESAMPLED = 2000

QUARTILE = 0.25


class _Fit:
    """A fit in a thread of its own, which makes an epoch each time that it is asked to."""

    def __init__(self, workload: Workload, data: tuple[np.ndarray, np.ndarray], kind: str | None, folder: Path) -> None:
        self.kind, self.switch = kind, [True]
        self.go, self.done, self.enough = threading.Event(), threading.Event(), False
        self.failed: BaseException | None = None
        self.began = self.taken = 0.0
        self.thread = threading.Thread(target=self._fit, args=(workload, data, folder), daemon=True)
        self.thread.start()
        self._await()

    def turn(self, measures: bool) -> float:
        """Seconds of an epoch. measures: whether the probes are in use."""
        self.switch[0] = measures
        self.go.set()
        self._await()
        return self.taken

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
        run.catch_up()  # what was measured is written in the turn that it belongs to, and so more often than in a fit
        self.taken = time.perf_counter() - self.began
        self._wait()
        return self.enough

    def _fit(self, workload: Workload, data: tuple[np.ndarray, np.ndarray], folder: Path) -> None:
        import chainrule as cr
        from chainrule import nn, optim

        layers: list[nn.Module] = []
        for a, b in zip(workload.widths, workload.widths[1:], strict=False):
            layers += [nn.Linear(a, b), nn.ReLU()]
        _starting.switch = self.switch
        self._wait()
        try:
            # As many epochs as a long run has: the rate of the samples is reckoned from that.
            cr.fit(nn.Sequential(*layers[:-1]), data, loss="cross_entropy", optimizer=optim.Adam(1e-3), epochs=10**6,
                   batch_size=workload.rows, seed=0, progress=False, probes=self.kind, callbacks=[self._ended],
                   keep_rows=0, run_dir=folder)  # fmt: skip
        except BaseException as error:
            self.failed = error
        self.done.set()


_starting = threading.local()
"""switch: of the fit that this thread is about to make."""


@contextmanager
def _switched() -> Iterator[None]:
    """Fits that start meanwhile measure when they would, but only while their switch is on."""
    from chainrule.training.probing import ProbeRate

    fit: Any = importlib.import_module("chainrule.training.fit")
    rate_of = fit.rate_of

    @dataclass(frozen=True)
    class Switched(ProbeRate):
        switch: tuple[list[bool], ...] = ()

        def due(self, step: int, last: bool, final: bool) -> bool:
            return self.switch[0][0] and super().due(step, last, final)

    def rate(*given: Any) -> ProbeRate:
        made = rate_of(*given)
        return Switched(*(getattr(made, f.name) for f in fields(made)), switch=(_starting.switch,))

    fit.rate_of = rate
    try:
        yield
    finally:
        fit.rate_of = rate_of


def overheads(workload: Workload, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """A row for each kind of probes: seconds an update with and without them, and the share that they add.

    A round has two turns for every fit, with and without probes, the first of them drawn anew. All write records, as a
    run with a directory does.
    """
    order = random.Random(0)
    updates = -(-EPOCH_ROWS // workload.rows)
    with _switched(), _fits(workload) as fits:
        until = time.perf_counter() + seconds * len(KINDS)
        taken: dict[_Fit, list[tuple[float, float]]] = {fit: [] for fit in fits}
        while min(map(len, taken.values())) < rounds or time.perf_counter() < until:
            for fit in order.sample(fits, len(fits)):
                first = order.random() < 0.5
                before, others = time.perf_counter(), taken_by_others()
                pair = {measures: fit.turn(measures) for measures in (first, not first)}
                if taken_by_others() - others <= DISTURBED * (time.perf_counter() - before):
                    taken[fit].append((pair[True], pair[False]))
    rows = []
    for kind in KINDS:
        chosen = [np.array(pairs) / updates for fit, pairs in taken.items() if fit.kind == kind]
        pairs = np.concatenate(chosen)
        low, high = _interval(chosen)
        rows.append(
            {
                "workload": workload.name,
                "probes": str(kind),
                "pairs": len(pairs),
                "with": float(np.quantile(pairs[:, 0], QUARTILE)),
                "without": float(np.quantile(pairs[:, 1], QUARTILE)),
                "median": float(np.median(pairs[:, 0] / pairs[:, 1]) - 1),
                "overhead": _overhead(chosen),
                "low": low,
                "high": high,
                "turns": [c.tolist() for c in chosen],
            }
        )
    return rows


def _overhead(fits: list[np.ndarray]) -> float:
    """By how much the lower quartile of the turns with probes is above that of those without; mean over the fits.

    fits: [pairs, 2] for each. What else goes on in a machine only adds to a turn, so the lower ones tell more.
    """
    with_, without = np.mean([np.quantile(pairs, QUARTILE, axis=0) / pairs.mean() for pairs in fits], axis=0)
    return float(with_ / without - 1)


def _interval(fits: list[np.ndarray]) -> tuple[float, float]:
    """Between which the overhead lies: 95 % of resamples of the pairs of each fit."""
    random = np.random.default_rng(0)
    found = [_overhead([random.choice(pairs, len(pairs)) for pairs in fits]) for _ in range(RESAMPLED)]
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


@contextmanager
def _fits(workload: Workload) -> Iterator[list[_Fit]]:
    """The fits, each after its first epoch in either way."""
    data = workload.batch(EPOCH_ROWS)
    with tempfile.TemporaryDirectory() as folder:
        fits = [_Fit(workload, data, kind, Path(folder, f"{kind}-{i}")) for i in range(FITS) for kind in KINDS]
        try:
            for fit in fits:
                for measures in (True, False):
                    fit.turn(measures)
            yield fits
        finally:
            for fit in fits:
                fit.end()
