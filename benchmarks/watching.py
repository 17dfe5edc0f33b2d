"""What `cr.watch` costs a training loop of PyTorch: steps that it sees between steps that it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import chainrule as cr

STEPS, BATCHES = 800, 100
"""Of a loop, as many as a person lets run to see whether it learns; and of an epoch."""

LONG = 100
"""Steps from one that is measured to the next in a long run."""

BLOCK = 5
"""Steps that are watched, and then as many that are not."""

AFTER, NEIGHBOURS = 3, 50
"""Steps after one that is measured; and those that are taken together where none is."""

RESAMPLED = 200

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

    Each round watches the network from its beginning. Between blocks of watched steps stand blocks of steps with all
    hooks taken away, so that each watched step is compared with those a hundredth of a second from it. Steps that are
    measured have the same numbers in every round, so the median of the rounds leaves out only what else a machine does.
    """
    rows = []
    for name, make in NETWORKS.items():
        extra, plain = [], []
        _watched(make)  # and what is imported and compiled once is so now
        until = time.perf_counter() + seconds
        while len(extra) < rounds or time.perf_counter() < until:
            seen, unseen, measured = _watched(make)
            around = np.median(np.hstack([unseen[:-1], unseen[1:]]), axis=1, keepdims=True)
            extra.append((seen - around).ravel())
            plain.append(unseen)
        found = _costs(np.array(extra), float(np.median(plain)), measured)
        rows.append({"network": name, "rounds": len(extra), "measured": len(measured), **found})
    return rows


def _costs(extra: np.ndarray, step: float, measured: list[int]) -> dict[str, float]:
    """extra: seconds that each watched step takes more. [rounds, steps]"""
    random, n = np.random.default_rng(0), len(extra)
    found = [_usual(extra[random.integers(0, n, n)], measured).mean() / step for _ in range(RESAMPLED)]
    low, high = np.quantile(found, (0.025, 0.975))
    usual = _usual(extra, measured)
    each, later = float(np.median(usual[measured])), float(np.median(usual[STEPS // 2 :]))
    return {
        "step": step,
        "each": each,
        "later": later,
        "overhead": float(usual.mean() / step),
        "low": float(low),
        "high": float(high),
        "long": (later + each / LONG) / step,
    }


def _usual(extra: np.ndarray, measured: list[int]) -> np.ndarray:
    """The same without what else the machine did: of each step that was measured, and of the few after it, which find
    the caches changed, the median of the rounds; of all others that of their neighbours, too. [steps]"""
    usual = np.median(extra, axis=0)
    near = np.isin(np.arange(STEPS), np.add.outer(np.arange(1 + AFTER), measured))
    for first in range(0, STEPS, NEIGHBOURS):
        others = first + np.flatnonzero(~near[first : first + NEIGHBOURS])
        usual[others] = np.median(extra[:, others])
    return usual


def _watched(make: Callable[[], Made]) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """(seconds of watched steps, of those between them, numbers of the steps that were measured). [blocks, BLOCK]"""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model, shape, rows = make()
    data, labels = torch.randn(BATCHES * rows, *shape), torch.randint(0, 10, (BATCHES * rows,))
    batches = list(zip(data.split(rows), labels.split(rows), strict=True))
    optimizer, criterion = torch.optim.Adam(model.parameters(), lr=1e-3), nn.CrossEntropyLoss()

    def block(first: int) -> list[float]:
        taken = []
        for i in range(first, first + BLOCK):
            x, y = batches[i % BATCHES]
            began = time.perf_counter()
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
            taken.append(time.perf_counter() - began)
        return taken

    watch = cr.watch(model, optimizer, loss=criterion).__enter__()
    seen, unseen = [], []
    for first in range(0, STEPS, BLOCK):
        with _let_alone(watch.observer):
            unseen.append(block(first))
        seen.append(block(first))
    watch.stop()
    unseen.append(block(STEPS))
    return np.array(seen), np.array(unseen), sorted({m.step for m in watch.observer.measurements})


@contextmanager
def _let_alone(observer: Any) -> Iterator[None]:
    """Nothing of the watch is left until the block ends; its own steps are not counted."""
    import torch
    from torch.optim import optimizer

    hooks = (optimizer._global_optimizer_pre_hooks, optimizer._global_optimizer_post_hooks)
    hung, held, backward = tuple(observer._hung), [dict(h) for h in hooks], torch.autograd.backward
    observer._hang(())
    for each in hooks:
        each.clear()
    torch.autograd.backward = backward.__wrapped__
    try:
        yield
    finally:
        torch.autograd.backward = backward
        for each, before in zip(hooks, held, strict=True):
            each.update(before)
        observer._hang(hung)
