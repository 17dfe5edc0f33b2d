"""Random points of a primitive's domain, for the tests and the gradient check that a declaration gives for free."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

SIZES = (0, 1, 2, 3, 5)
"""Axis lengths: empty, one, even, primes."""
SCALES = (1e-3, 1.0, 1.0, 30.0, 1e3)


class Draw:
    """A source of shapes, arrays and parameters. The same seed draws the same point.

    Every fourth array is not contiguous, or runs backwards.
    """

    def __init__(self, seed: int, empty: bool = True) -> None:
        self.random = np.random.default_rng([0xD0, seed])
        self.scale = float(self.random.choice(SCALES))
        self.empty = empty and seed % 5 == 0

    def choice(self, *options: Any) -> Any:
        return options[int(self.random.integers(len(options)))]

    def flag(self) -> bool:
        return bool(self.random.integers(2))

    def size(self, least: int = 0) -> int:
        """An axis length of at least ``least``."""
        return int(self.choice(*[s for s in SIZES if s >= max(least, 0 if self.empty else 1)]))

    def shape(self, least: int = 0, most: int = 3) -> tuple[int, ...]:
        """A shape of ``least`` to ``most`` axes, of at most 30 elements."""
        sizes = [self.size() for _ in range(int(self.random.integers(least, most + 1)))]
        while math.prod(sizes) > 30:
            sizes[int(np.argmax(sizes))] = 2 if max(sizes) > 2 else 1
        return tuple(sizes)

    def part_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that broadcasts to ``shape``."""
        kept = tuple(1 if self.random.integers(3) == 0 else n for n in shape)
        return kept[int(self.random.integers(len(kept) + 1)) :] if self.flag() else kept

    def axis(self, ndim: int) -> int:
        return int(self.random.integers(-ndim, ndim))

    def axes(self, ndim: int) -> tuple[int, ...]:
        """A subset of the axes, in order, at least one if there is one."""
        picked = [a for a in range(ndim) if self.flag()]
        return tuple(picked or range(min(ndim, 1)))

    def integers(self, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
        """int64 in [low, high)."""
        return self.random.integers(low, high, shape) if math.prod(shape) else np.zeros(shape, np.int64)

    def booleans(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.random.integers(2, size=shape).astype(bool)

    def real(
        self,
        shape: tuple[int, ...],
        low: float = -math.inf,
        high: float = math.inf,
        kinks: tuple[float, ...] = (),
        distinct: bool = False,
    ) -> np.ndarray:
        """float64 in (low, high), away from ``kinks``; of this point's scale where the domain is unbounded.

        distinct: no two elements are near each other.
        """
        if math.isinf(low) or math.isinf(high):
            x = self.random.uniform(-1, 1, shape) * self.scale
            x = np.where(x < low, low + np.abs(x), x)
            x = np.where(x > high, high - np.abs(x), x)
        else:
            x = self.random.uniform(low, high, shape)
        gap = 0.02 * min(self.scale, 1.0)
        for kink in kinks:
            x = np.where(np.abs(x - kink) < gap, kink + np.copysign(gap, x - kink) * 2, x)
        if distinct:
            order = self.random.permutation(math.prod(shape)).reshape(shape)
            return self._laid_out((order - order.size / 2 + 0.25) * (0.3 * self.scale))
        return self._laid_out(np.asarray(x, np.float64))

    def _laid_out(self, x: np.ndarray) -> np.ndarray:
        if x.ndim == 0 or self.random.integers(4):
            return x
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]))
        view = wide[..., ::2] if self.flag() else wide[..., ::-2]
        view[...] = x
        return view
