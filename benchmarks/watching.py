"""What `cr.watch` costs a training loop of PyTorch: the same steps with and without it, in turns."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr

STEPS = 800
"""Of a loop, as many as a person lets run to see whether it learns."""

ROWS, BATCHES = 128, 100
"""Of a batch; in an epoch."""

RESAMPLED = 1000


def _mlp() -> tuple[Any, tuple[int, ...]]:
    from torch import nn

    layers = [nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)]
    return nn.Sequential(*layers), (784,)


def _convolutional() -> tuple[Any, tuple[int, ...]]:
    from torch import nn

    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
              nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 7 * 7, 10)]  # fmt: skip
    return nn.Sequential(*layers), (1, 28, 28)


NETWORKS: dict[str, Callable[[], tuple[Any, tuple[int, ...]]]] = {
    "784-256-128-10": _mlp,
    "conv 8, conv 16, 784-10": _convolutional,
}
"""Each makes a network, and tells the shape of one of its rows."""


def costs(seconds: float, rounds: int) -> list[dict[str, Any]]:
    """A row for each network: the share of the time of `STEPS` steps that watching them takes.

    Each round trains the network twice from its beginning, in an order drawn anew: watched and not. Every step is
    compared with the steps of the same number, since those that are measured have the same numbers in each round; so
    what else goes on in a machine at times, which the median of the rounds leaves out, hides nothing.
    """
    order, rows = random.Random(0), []
    for name, make in NETWORKS.items():
        taken: dict[bool, list[np.ndarray]] = {True: [], False: []}
        until = time.perf_counter() + seconds * 2
        while len(taken[True]) < rounds or time.perf_counter() < until:
            first = order.random() < 0.5
            for watched in (first, not first):
                taken[watched].append(_trained(make, watched))
        rows.append({"network": name, "rounds": len(taken[True]),
                     **_compared(np.array(taken[True][1:]), np.array(taken[False][1:]))})  # fmt: skip
    return rows


def _compared(watched: np.ndarray, plain: np.ndarray) -> dict[str, Any]:
    """watched, plain: seconds. [rounds, steps]"""
    random, n = np.random.default_rng(0), len(watched)
    found = [_overhead(*(a[random.integers(0, n, n)] for a in (watched, plain))) for _ in range(RESAMPLED)]
    low, high = np.quantile(found, (0.025, 0.975))
    return {
        "step": float(np.median(plain)),
        "overhead": _overhead(watched, plain),
        "low": float(low),
        "high": float(high),
    }


def _overhead(watched: np.ndarray, plain: np.ndarray) -> float:
    """Of the steps together."""
    return float(np.median(watched, axis=0).sum() / np.median(plain, axis=0).sum() - 1)


def _trained(make: Callable[[], tuple[Any, tuple[int, ...]]], watched: bool) -> np.ndarray:
    """Seconds of each step."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model, shape = make()
    data, labels = torch.randn(BATCHES * ROWS, *shape), torch.randint(0, 10, (BATCHES * ROWS,))
    batches = list(zip(data.split(ROWS), labels.split(ROWS), strict=True))
    optimizer, criterion = torch.optim.Adam(model.parameters(), lr=1e-3), nn.CrossEntropyLoss()
    taken = np.zeros(STEPS)
    watch = cr.watch(model, optimizer, loss=criterion) if watched else None
    began = time.perf_counter()
    if watch is not None:
        watch.__enter__()
    for i in range(STEPS):
        x, y = batches[i % BATCHES]
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
        ended = time.perf_counter()
        taken[i], began = ended - began, ended
    if watch is not None:
        watch.stop()
    return taken
