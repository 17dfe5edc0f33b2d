"""Generated data sets: small, of known formula, and the same for the same seed."""

import numpy as np

from chainrule.data.checks import Array, require_integer, shown
from chainrule.errors import ArgumentError

Pair = tuple[Array, Array]


def spirals(rows: int = 1000, noise: float = 0.02, seed: int = 0) -> Pair:
    """Two interleaved spirals. x: float64[rows, 2], y: int64[rows] in {0, 1}.

    t = sqrt(u), u uniform in [0, 1); angle = 3.5 pi t + pi y; x = t (cos angle, sin angle) + noise N(0, 1).
    """
    random, y = _start(rows, noise, seed, classes=2)
    t = np.sqrt(random.random(rows))
    angle = 3.5 * np.pi * t + np.pi * y
    x = t[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return x + noise * random.standard_normal((rows, 2)), y


def moons(rows: int = 1000, noise: float = 0.1, seed: int = 0) -> Pair:
    """Two half circles, each in the other's bend. x: float64[rows, 2], y: int64[rows] in {0, 1}.

    angle uniform in [0, pi); class 0: (cos, sin) - (1/2, 1/4); class 1: (1 - cos, 1/2 - sin) - (1/2, 1/4);
    plus noise N(0, 1). The shift puts the middle of the picture at the origin.
    """
    random, y = _start(rows, noise, seed, classes=2)
    angle = np.pi * random.random(rows)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1.0 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    x = np.where(y[:, None] == 0, upper, lower) - np.array([0.5, 0.25])
    return x + noise * random.standard_normal((rows, 2)), y


def circles(rows: int = 1000, noise: float = 0.05, seed: int = 0) -> Pair:
    """A circle of radius 1/2 inside one of radius 1. x: float64[rows, 2], y: int64[rows], 1 for the inner one.

    angle uniform in [0, 2 pi); x = (1 - y / 2) (cos angle, sin angle) + noise N(0, 1).
    """
    random, y = _start(rows, noise, seed, classes=2)
    angle = 2.0 * np.pi * random.random(rows)
    x = (1.0 - 0.5 * y)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return x + noise * random.standard_normal((rows, 2)), y


def blobs(rows: int = 1000, noise: float = 0.25, seed: int = 0) -> Pair:
    """Four round clouds at the corners of a square. x: float64[rows, 2], y: int64[rows] in {0, 1, 2, 3}.

    centre of class y = (cos a, sin a) with a = pi / 4 + y pi / 2; x = centre + noise N(0, 1).
    """
    random, y = _start(rows, noise, seed, classes=4)
    angle = np.pi / 4 + y * (np.pi / 2)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) + noise * random.standard_normal((rows, 2)), y


def regression(rows: int = 1000, noise: float = 0.1, seed: int = 0) -> Pair:
    """A smooth curved surface over four inputs. x: float64[rows, 4], y: float64[rows, 1].

    x uniform in [-1, 1); y = sin(pi x0) + x1 x2 + x3^2 / 2 + noise N(0, 1).
    """
    random, _ = _start(rows, noise, seed, classes=1)
    x = 2.0 * random.random((rows, 4)) - 1.0
    y = np.sin(np.pi * x[:, 0]) + x[:, 1] * x[:, 2] + 0.5 * x[:, 3] ** 2
    return x, (y + noise * random.standard_normal(rows))[:, None]


def _start(rows: int, noise: float, seed: int, classes: int) -> tuple[np.random.Generator, Array]:
    """The generator and the labels, which take turns so that classes are as even as they can be."""
    require_integer(rows, "rows", max(2, classes))
    require_integer(seed, "seed", 0)
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise < float("inf"):
        raise ArgumentError(f"noise is {shown(noise)}; it must be a finite number >= 0 (a standard deviation)")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed))), np.arange(
        rows, dtype=np.int64
    ) % classes
