"""What probes cost a fit: updates in short blocks with and without them, and all that it does beside its updates."""

from __future__ import annotations

import contextlib
import importlib
import io
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import chainrule as cr
from benchmarks.workloads import EPOCH_ROWS, Workload
from chainrule import nn, optim
from chainrule.training.fit import _Trainer
from chainrule.training.probing import ProbeRate, rate_of

LONG, SHORT = 10**6, 10
"""Epochs of a run whose step is compiled with probes, and of one that is over before that would be worth it."""

COUNTED = 100
"""Epochs in which the updates that are measured are counted."""

FITS = 4
"""In which blocks are timed, each for a share of the time: where arrays come to lie is drawn anew for each."""

RESAMPLED = 2000


@dataclass(frozen=True)
class Kind:
    """A way of measuring. epochs: of the run that is planned, from which the rate of samples is reckoned."""

    name: str
    probes: str | None
    epochs: int = LONG

    def share(self, rate: ProbeRate, updates: int) -> float:
        """Of the updates, those that are measured. updates: of an epoch."""
        epochs = min(self.epochs, COUNTED)
        ends = range(updates - 1, updates * epochs, updates)
        last, final = set(ends), ends[-1] if epochs == self.epochs else None
        return sum(rate.due(i, i in last, i == final) for i in range(updates * epochs)) / (updates * epochs)

    def rate(self, net: nn.Module, x: np.ndarray, updates: int) -> ProbeRate:
        """How often such a fit measures. updates: of an epoch."""
        return rate_of(self.probes, net, x, self.epochs, updates)


WITHOUT = Kind("none", None)

CONTROL = Kind("none, again", None)
"""Differs in nothing, so what it seems to cost is by how much the figures can be wrong."""

SAMPLED, BRIEF, EVERY = Kind("sampled", "sampled"), Kind("sampled, short run", "sampled", SHORT), Kind("every", "every")

KINDS = (CONTROL, SAMPLED, BRIEF, EVERY)

BESIDE_EACH_OTHER = {(WITHOUT, CONTROL, SAMPLED, EVERY): 24, (WITHOUT, BRIEF): 96}
"""Kinds that one fit compares, and updates in a block: so few that the machine is the same for neighbours. In a short
run NumPy measures, and what machine code suffers from that for a while belongs to the block, and to no other."""


@dataclass
class Timed:
    """What was asked of a fit, and what was found: seconds."""

    kinds: tuple[Kind, ...]
    until: float
    """On the clock of ``perf_counter``."""
    blocks: list[dict[Kind, float]] = field(default_factory=list)
    """Of a block of each kind, by round."""
    first: float = 0.0
    """Of the first updates, what has to be compiled for them included."""
    updates: int = 0
    """After those; inside: of them all; whole: from the first of them to the last."""
    inside: float = 0.0
    whole: float = 0.0


class _InBlocks(_Trainer):
    """A fit whose updates come in blocks, a round of which has one of every kind in an order drawn anew.

    Before the block that counts comes one that does not, so that what its step needs is in the caches as it is in a fit
    that goes on in that way.
    """

    timed: Timed
    kind, counts = WITHOUT, False

    def train(self, *given: Any) -> Any:
        x, _ = self.source.sample()
        batch, updates = x[: self.plan.batch_size], self.updates_an_epoch()
        self.rates = {kind: kind.rate(self.net, batch, updates) for kind in self.timed.kinds}
        self.size = BESIDE_EACH_OTHER[self.timed.kinds]
        self.order = self._orders()
        self.kind = next(self.order)
        return super().train(*given)

    def _orders(self) -> Iterator[Kind]:
        draw = random.Random(0)
        while True:
            self.round: dict[Kind, float] = {}
            yield from draw.sample(self.timed.kinds, len(self.timed.kinds))
            self.timed.blocks.append(self.round)

    def _count(self, first: int, most: int) -> int:
        return super()._count(first, self.size)

    def _measures(self, count: int) -> list[bool]:
        rate = self.rates[self.kind]
        self.step.compiles_probes = rate.compiled
        if rate.all:
            return [True] * count
        # Of those that sample, one, with enough behind it for what it does to the caches.
        return [bool(rate.every) and self.counts and i == self.size // 4 for i in range(count)]

    def _updates(self, data: Any, chosen: np.ndarray, *given: Any) -> None:
        began = time.perf_counter()
        super()._updates(data, chosen, *given)
        taken = time.perf_counter() - began
        if chosen.shape != (self.size, self.plan.batch_size):  # the end of an epoch
            return
        if self.counts:
            self.round[self.kind] = taken
            self.kind = next(self.order)
        self.counts = not self.counts


class _AsItIs(_Trainer):
    """A fit as it is, of which is timed what is an update and what is not."""

    timed: Timed
    began: float | None = None

    def train(self, *given: Any) -> Any:
        x, _ = self.source.sample()
        self.rate = self.timed.kinds[0].rate(self.net, x[: self.plan.batch_size], self.updates_an_epoch())
        self.step.compiles_probes = self.rate.compiled
        return super().train(*given)

    def _updates(self, data: Any, chosen: np.ndarray, *given: Any) -> None:
        began = time.perf_counter()
        super()._updates(data, chosen, *given)
        ended = time.perf_counter()
        if self.began is None:  # the first compiles
            self.began, self.timed.first = ended, ended - began
            return
        self.timed.updates += len(chosen)
        self.timed.inside += ended - began
        self.timed.whole = ended - self.began


def overheads(workload: Workload, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """A row for each kind: the share of a fit's time that its probes take, and of which parts.

    An update takes longer for what it sums up and what is read from its tables: blocks of updates in one fit, of which
    each that measures is compared with one that does not a few hundredths of a second from it. All else that a fit does
    (taking up what was measured, record, rules that watch, progress) is what lies between its updates: fits as they
    are, ``rounds`` of each kind in turns, each of ``seconds``.
    """
    data = workload.batch(EPOCH_ROWS)
    inside: dict[Kind, list[np.ndarray]] = {}
    taken: list[float] = []
    for kinds, size in BESIDE_EACH_OTHER.items():
        for _ in range(FITS):
            blocks = _fit(workload, data, _InBlocks, kinds, 2 * seconds * rounds / FITS).blocks
            taken += [block[WITHOUT] / size for block in blocks]
            for kind in kinds:
                ratios = np.array([block[kind] / block[WITHOUT] for block in blocks])
                inside.setdefault(kind, []).append(size * (ratios - 1))
    update = statistics.median(taken)
    beside, once = _beside_updates(workload, data, seconds, rounds)
    return [_row(workload, kind, update, inside[kind], (beside[kind] - beside[WITHOUT]) / update,
                 float(np.median(once[kind] - once[WITHOUT]))) for kind in KINDS]  # fmt: skip


def _beside_updates(
    workload: Workload, data: tuple[np.ndarray, np.ndarray], seconds: float, rounds: int
) -> tuple[dict[Kind, np.ndarray], dict[Kind, np.ndarray]]:
    """Seconds an update that fits spend between their updates; seconds until their first ones are made. [rounds]"""
    order = random.Random(0)
    beside: dict[Kind, list[float]] = {kind: [] for kind in (WITHOUT, *KINDS)}
    once: dict[Kind, list[float]] = {kind: [] for kind in beside}
    for _ in range(rounds):
        for kind in order.sample(list(beside), len(beside)):
            found = _fit(workload, data, _AsItIs, (kind,), seconds)
            beside[kind].append((found.whole - found.inside) / found.updates)
            once[kind].append(found.first)
    return {k: np.array(v) for k, v in beside.items()}, {k: np.array(v) for k, v in once.items()}


def _row(
    workload: Workload, kind: Kind, update: float, extra: list[np.ndarray], between: np.ndarray, once: float
) -> dict[str, Any]:
    """extra: by how many updates a block took longer, for each fit. between, once: more than without probes."""
    network, x = _network(workload), workload.batch()[0]
    updates = -(-EPOCH_ROWS // workload.rows)
    rate = kind.rate(network, x, updates)
    share = kind.share(rate, updates)
    size = next(size for kinds, size in BESIDE_EACH_OTHER.items() if kind in kinds)
    inside = [blocks * (share if rate.every > 1 else 1 / size) for blocks in extra]
    low, high = _interval(lambda draw: _median(list(map(draw, inside))) + float(draw(between).mean()))
    return {
        "workload": workload.name,
        "probes": kind.name,
        "share": share,
        "update": update,
        "blocks": sum(map(len, inside)),
        "inside": _median(inside),
        "fits": [_median([blocks]) for blocks in inside],
        "between": float(between.mean()),
        "overhead": _median(inside) + float(between.mean()),
        "low": low,
        "high": high,
        "once": once,
    }


def _median(ratios: list[np.ndarray]) -> float:
    return float(np.median(np.concatenate(ratios)))


def _interval(estimate: Callable[[Callable[[np.ndarray], np.ndarray]], float]) -> tuple[float, float]:
    """Between which the estimate lies in 95 % of resamples."""
    made = np.random.default_rng(0)
    found = [estimate(lambda a: made.choice(a, len(a))) for _ in range(RESAMPLED)]
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def _network(workload: Workload) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in zip(workload.widths, workload.widths[1:], strict=False):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _fit(
    workload: Workload,
    data: tuple[np.ndarray, np.ndarray],
    trainer: type[_Trainer],
    kinds: tuple[Kind, ...],
    seconds: float,
) -> Timed:
    """A fit in a directory that ends with the first epoch after ``seconds``.

    As it is, it shows its progress, though to nobody, since only then do its rules watch.
    """
    timed = Timed(kinds, time.perf_counter() + seconds)
    module: Any = importlib.import_module("chainrule.training.fit")
    module._Trainer = type("Trainer", (trainer,), {"timed": timed})
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            cr.fit(_network(workload), data, loss="cross_entropy", optimizer=optim.Adam(1e-3), epochs=LONG,
                   batch_size=workload.rows, seed=0, progress=trainer is _AsItIs, probes=kinds[0].probes, keep_rows=0,
                   callbacks=[lambda *_: time.perf_counter() > timed.until], run_dir=Path(folder, "run"))  # fmt: skip
    finally:
        module._Trainer = _Trainer
    return timed
