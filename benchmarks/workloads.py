"""The networks that are timed, and their data."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Workload:
    """A classifier with ReLU between its layers: one step is forward, cross-entropy, backward and Adam(1e-3)."""

    name: str
    widths: tuple[int, ...]
    rows: int
    """In a batch."""

    @property
    def operations(self) -> int:
        """Multiplications and additions of a step's matrix products: forward, weight and input gradients."""
        products = [self.rows * a * b for a, b in pairwise(self.widths)]
        return 2 * (3 * sum(products) - products[0])  # nobody asks for the first layer's input gradient

    def batch(self, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Random inputs float32 [rows, features] and labels int64 [rows], the same on every call."""
        n, random = rows or self.rows, np.random.default_rng(0)
        x = random.standard_normal((n, self.widths[0]), dtype=np.float32)
        return x, random.integers(0, self.widths[-1], n)

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """First weights float32 [out, in] and biases [out] of each layer, the same on every call (Kaiming uniform)."""
        random = np.random.default_rng(1)
        found = []
        for a, b in pairwise(self.widths):
            bound = np.sqrt(6 / a)
            found.append((random.uniform(-bound, bound, (b, a)).astype(np.float32), np.zeros(b, np.float32)))
        return found


_ALL = (
    Workload("mlp-tiny", (2, 16, 16, 2), 32),
    Workload("mlp-small", (64, 128, 64, 10), 64),
    Workload("mlp-mnist", (784, 256, 128, 10), 128),
    Workload("mlp-large", (1024, 2048, 2048, 10), 256),
    Workload("mlp-deep", (64, *(64,) * 50, 10), 64),
)
_DEEPER = Workload("mlp-1000-layers", (64, *(64,) * 1000, 10), 64)
WORKLOADS = {workload.name: workload for workload in (*_ALL, _DEEPER)}
USUAL = tuple(workload.name for workload in _ALL)
"""What is timed unless others are named: those of 1,000 layers take minutes in some libraries."""

EPOCH_ROWS, VALIDATION_ROWS = 60_000, 10_000
"""As Fashion-MNIST has them."""


def epoch_data(workload: Workload, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and validation rows of Fashion-MNIST's sizes: random, since only their number and width cost time."""
    held = max(1, rows * VALIDATION_ROWS // EPOCH_ROWS)
    x, y = workload.batch(rows + held)
    return x[:rows], y[:rows], x[rows:], y[rows:]
