"""What `cr.watch` costs a training loop of PyTorch: the same steps with and without it, in turns."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr

STEPS, BATCHES = 800, 100
"""Of a loop, as many as a person lets run to see whether it learns; and of an epoch."""

LONG = 100
"""Steps from one that is measured to the next in a long run."""

RESAMPLED = 1000

Made = tuple[Any, tuple[int, ...], int]
"""(a network, the shape of a row, rows in a batch)"""


def _mlp() -> Made:
    from torch import nn

    layers = [nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)]
    return nn.Sequential(*layers), (784,), 128


def _convolutional() -> Made:
    from torch import nn

    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
              nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 7 * 7, 10)]  # fmt: skip
    return nn.Sequential(*layers), (1, 28, 28), 32


NETWORKS: dict[str, Callable[[], Made]] = {
    "784-256-128-10, 128 rows": _mlp,
    "conv 8, conv 16, 784-10, 32 rows": _convolutional,
}


def costs(seconds: float, rounds: int) -> list[dict[str, Any]]:
    """A row for each network: the share of the time of `STEPS` steps that watching them takes.

    Each round trains the network twice from its beginning, in an order drawn anew: watched and not. Every step is
    compared with that of the same number in the same round, as the machine is the same for neighbours. Those that are
    measured have the same numbers in every round, so the median of the rounds leaves out only what else a machine does.
    """
    order, rows = random.Random(0), []
    for name, make in NETWORKS.items():
        measured = _trained(make, watched=True)[1]  # and what is imported and compiled once is so now
        taken: dict[bool, list[np.ndarray]] = {True: [], False: []}
        until = time.perf_counter() + seconds * 2
        while len(taken[True]) < rounds or time.perf_counter() < until:
            first = order.random() < 0.5
            for watched in (first, not first):
                taken[watched].append(_trained(make, watched)[0])
        found = _compared(np.array(taken[True]), np.array(taken[False]), measured)
        rows.append({"network": name, "rounds": len(taken[True]), "measured": len(measured), **found})
    return rows


def _compared(watched: np.ndarray, plain: np.ndarray, measured: list[int]) -> dict[str, float]:
    """watched, plain: seconds. [rounds, steps]"""
    random, n = np.random.default_rng(0), len(watched)
    draws = random.integers(0, n, (RESAMPLED, n))
    low, high = np.quantile([_overhead(watched[draw], plain[draw]) for draw in draws], (0.025, 0.975))
    step, extra = float(np.median(plain)), np.median(watched - plain, axis=0)
    each, other = float(np.median(extra[measured])), float(np.median(np.delete(extra, measured)))
    return {
        "step": step,
        "each": each,
        "other": other,
        "overhead": _overhead(watched, plain),
        "low": float(low),
        "high": float(high),
        "long": (other + each / LONG) / step,
    }


def _overhead(watched: np.ndarray, plain: np.ndarray) -> float:
    """Of the steps together."""
    return float(np.median(watched - plain, axis=0).sum() / np.median(plain, axis=0).sum())


def _trained(make: Callable[[], Made], watched: bool) -> tuple[np.ndarray, list[int]]:
    """(seconds of each step, the numbers of those that were measured)"""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model, shape, rows = make()
    data, labels = torch.randn(BATCHES * rows, *shape), torch.randint(0, 10, (BATCHES * rows,))
    batches = list(zip(data.split(rows), labels.split(rows), strict=True))
    optimizer, criterion = torch.optim.Adam(model.parameters(), lr=1e-3), nn.CrossEntropyLoss()
    taken = np.zeros(STEPS)
    began = time.perf_counter()
    watch = cr.watch(model, optimizer, loss=criterion).__enter__() if watched else None
    for i in range(STEPS):
        x, y = batches[i % BATCHES]
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
        ended = time.perf_counter()
        taken[i], began = ended - began, ended
    if watch is None:
        return taken, []
    watch.stop()
    return taken, sorted({m.step for m in watch.observer.measurements})
