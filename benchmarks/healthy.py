"""Healthy runs of the doctor's benchmark: trainings that work, and such that came to their end, noise among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks import rows as of
from benchmarks.faulty import Program
from benchmarks.networks import HE, Last, dense, images
from chainrule import data, nn, optim

CE, MSE, BCE = "cross_entropy", "mse", "binary_cross_entropy_with_logits"
ADAM, SGD = optim.Adam, optim.SGD


def _standard(rows: of.Rows) -> of.Rows:
    x, y = rows
    y = (y - y.mean()) / y.std() if y.dtype.kind == "f" and y.max() > 1 else y
    return of.standardised(x).astype(np.float32), y


def _drawn(name: str, rows: int = 600) -> Callable[[], of.Rows]:
    return lambda: of.typed(*getattr(data.generated, name)(rows, seed=7))


def _digits() -> of.Rows:
    return of.digits()


def _mnist() -> of.Rows:
    x, y = of.mnist()
    return x / 255, y


def _wine() -> of.Rows:
    return _standard(of.wine())


def _cancer() -> of.Rows:
    return _standard(of.cancer())


def _cancer_answers() -> of.Rows:
    x, y = _cancer()
    return x, of.column(y)


def _diabetes() -> of.Rows:
    return _standard(of.diabetes())


def _moon_answers() -> of.Rows:
    x, y = _drawn("moons")()
    return x, of.column(y)


def _flat_mnist() -> of.Rows:
    x, y = _mnist()
    return x.reshape(len(x), -1), y


def _sequences() -> of.Rows:
    """Which half of a noisy sequence of 12 numbers is the larger."""
    random = np.random.default_rng(3)
    x = random.normal(size=(600, 12, 1))
    return of.typed(x, (x[:, :6].mean(axis=(1, 2)) > x[:, 6:].mean(axis=(1, 2))).astype(np.int64))


def _normed(*widths: int, norm: type = nn.BatchNorm1d, function: type = nn.ReLU) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        layers: list[nn.Module] = []
        for a, b in pairwise(widths[:-1]):
            layers += [nn.Linear(a, b), norm(b), function()]
        return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))

    return build


def _residual(inputs: int, width: int, blocks: int, outputs: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        inner = [nn.Residual(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)))
                 for _ in range(blocks)]  # fmt: skip
        return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), *inner, nn.Linear(width, outputs))

    return build


def _run(
    name: str, net: Any, rows: Any, loss: Any, optimizer: Any, epochs: int, batch: int = 32, **options: Any
) -> Program:
    return Program(f"healthy {name}", net, rows, loss, optimizer, batch, epochs, kind="healthy", options=options)


HEALTHY: tuple[Program, ...] = (
    _run("digits 64-64-10 relu adam", dense([64, 64, 10], "relu", "auto"), _digits, CE, ADAM(1e-3), 15),
    _run("digits 64-128-128-10 relu sgd", dense([64, 128, 128, 10], "relu", "auto"), _digits, CE, SGD(0.1), 15),
    _run("digits tanh momentum", dense([64, 48, 10], "tanh", "auto"), _digits, CE, SGD(0.05, momentum=0.9), 12),
    _run("digits sigmoid adam", dense([64, 64, 10], "sigmoid", "auto"), _digits, CE, ADAM(5e-3), 15),
    _run("digits gelu adamw", dense([64, 96, 10], "gelu", "auto"), _digits, CE, optim.AdamW(2e-3), 12),
    _run("digits silu rmsprop", dense([64, 64, 64, 10], "silu", "auto"), _digits, CE, optim.RMSprop(1e-3), 12),
    _run("digits 8 relu layers", dense([64, *[64] * 8, 10], "relu", HE), _digits, CE, ADAM(1e-3), 15),
    _run("digits 20 leaky layers", dense([64, *[48] * 20, 10], "leaky_relu", HE), _digits, CE, ADAM(5e-4), 15),
    _run("digits linear", dense([64, 10], ["linear"], "auto"), _digits, CE, ADAM(5e-3), 20),
    _run("digits torch init", dense([64, 64, 64, 10], "relu", "torch"), _digits, CE, ADAM(1e-3), 15, 64),
    _run("digits glorot keras", dense([64, 100, 10], "relu"), _digits, CE, ADAM(1e-3), 10),
    _run("digits norm dropout", _normed(64, 64, 64, 10), _digits, CE, ADAM(1e-3), 10),
    _run("digits layernorm", _normed(64, 64, 64, 10, norm=nn.LayerNorm), _digits, CE, ADAM(1e-3), 10),
    _run("digits dropout", dense([64, 128, 10], "relu", "auto", 0.5), _digits, CE, ADAM(2e-3), 15),
    _run("digits residual", _residual(64, 48, 5, 10), _digits, CE, ADAM(1e-3), 10),
    _run("digits adagrad", dense([64, 64, 10], "relu", "auto"), _digits, CE, optim.Adagrad(0.05), 12),
    _run("digits raw 0..16", dense([64, 64, 10], "relu", "auto"), lambda: (of.digits()[0] * 16, of.digits()[1]), CE,
         ADAM(1e-3), 12),
    _run("digits l2", dense([64, 64, 10], "relu", "auto"), _digits, CE, ADAM(1e-3), 15, l2=1e-4),
    _run("digits cosine", dense([64, 64, 10], "relu", "auto"), _digits, CE, SGD(0.2, momentum=0.9), 15,
         learning_rate_schedule=optim.CosineAnnealingLR(15 * 45)),
    _run("digits clipped", dense([64, 64, 10], "relu", "auto"), _digits, CE, SGD(0.2), 15, clip_norm=1.0),
    _run("digits selu", dense([64, *[32] * 6, 10], "selu", nn.LeCun()), _digits, CE, ADAM(1e-3), 12),
    _run("digits one-hot sigmoid mse", dense([64, 64, 10], ["relu", "sigmoid"]), lambda: (of.digits()[0],
         of.one_hot(of.digits()[1])), MSE, ADAM(2e-3), 15),
    _run("mnist dense", dense([784, 128, 10], "relu", "auto"), _flat_mnist, CE, ADAM(1e-3), 8),
    _run("mnist convolution", images(1, 28, [(8, 3), (16, 3)], [64, 10], "relu", init=HE), _mnist, CE, ADAM(1e-3), 4),
    _run("wine 13-32-3", dense([13, 32, 3], "relu", "auto"), _wine, CE, ADAM(5e-3), 40, 16),
    _run("wine tanh sgd", dense([13, 16, 3], "tanh", "auto"), _wine, CE, SGD(0.1), 40, 16),
    _run("iris 4-16-3", dense([4, 16, 3], "relu", "auto"), lambda: _standard(of.iris()), CE, ADAM(1e-2), 60, 16),
    _run("cancer logits", dense([30, 32, 1], "relu", "auto"), _cancer_answers, BCE, ADAM(2e-3), 20),
    _run("cancer sigmoid", dense([30, 16, 16, 1], ["relu", "relu", "sigmoid"], "auto"), _cancer_answers,
         "binary_cross_entropy", ADAM(2e-3), 25),
    _run("cancer two outputs", dense([30, 24, 2], "tanh", "auto"), _cancer, CE, SGD(0.1, momentum=0.9), 20),
    _run("diabetes", dense([10, 64, 64, 1], "relu", HE), _diabetes, MSE, ADAM(1e-3), 80),
    _run("diabetes huber", dense([10, 32, 1], "tanh", "auto"), _diabetes, "huber", ADAM(3e-3), 60),
    _run("diabetes linear", dense([10, 1], ["linear"], "auto"), _diabetes, MSE, SGD(0.02), 80),
    _run("surface", dense([4, 32, 32, 1], "relu", "auto"), _drawn("regression"), MSE, ADAM(3e-3), 60),
    _run("surface tanh mae", dense([4, 48, 1], "tanh", "auto"), _drawn("regression"), "mae", ADAM(5e-3), 80),
    _run("circles", dense([2, 16, 16, 2], "relu", "auto"), _drawn("circles"), CE, ADAM(1e-2), 40),
    _run("circles narrow tanh", dense([2, 8, 8, 2], "tanh", "auto"), _drawn("circles"), CE, ADAM(1e-2), 60),
    _run("moons answers", dense([2, 16, 16, 1], "relu", "auto"), _moon_answers, BCE, ADAM(1e-2), 40),
    _run("spirals", dense([2, 48, 48, 2], "relu", "auto"), _drawn("spirals", 800), CE, ADAM(1e-2), 80),
    _run("blobs", dense([2, 8, 4], "relu", "auto"), _drawn("blobs"), CE, ADAM(1e-2), 30),
    _run("sequences", lambda: nn.Sequential(Last(1, 24), nn.Linear(24, 2)), _sequences, CE, ADAM(5e-3), 15),
)  # fmt: skip
"""Each with every seed is one of the benchmark's healthy runs."""


def _noise(rows: int, columns: int) -> Callable[[], of.Rows]:
    random = np.random.default_rng(5)
    return lambda: of.typed(random.normal(size=(rows, columns)), random.normal(size=rows))


def _noise_labels(rows: int, columns: int, classes: int) -> Callable[[], of.Rows]:
    random = np.random.default_rng(6)
    return lambda: of.typed(random.normal(size=(rows, columns)), random.integers(0, classes, rows))


def _noise_answers() -> of.Rows:
    random = np.random.default_rng(8)
    return of.typed(random.normal(size=(2000, 5)), of.column(random.integers(0, 2, 2000)))


def _half_noise() -> of.Rows:
    random = np.random.default_rng(9)
    x = random.normal(size=(1500, 3))
    return of.typed(x, x @ [0.6, -0.4, 0.2] + random.normal(size=1500))


def _done(
    name: str, widths: Sequence[int], function: str, rows: Any, loss: Any, optimizer: Any, epochs: int
) -> Program:
    return Program(f"converged {name}", dense(widths, function, "auto"), rows, loss, optimizer, 32, epochs,
                   kind="converged")  # fmt: skip


CONVERGED: tuple[Program, ...] = (
    _done("noise, linear", [4, 1], "relu", _noise(1000, 4), MSE, SGD(0.02), 60),
    _done("noise, 8 units", [4, 8, 1], "relu", _noise(1000, 4), MSE, SGD(0.02), 120),
    _done("noise, 8 tanh, adam", [4, 8, 1], "tanh", _noise(1000, 4), MSE, ADAM(1e-3), 120),
    _done("noise, 2 layers", [3, 6, 6, 1], "tanh", _noise(1500, 3), MSE, ADAM(1e-3), 120),
    _done("noise mae", [4, 6, 1], "relu", _noise(1200, 4), "mae", ADAM(1e-3), 100),
    _done("two noise labels", [3, 4, 2], "relu", _noise_labels(2000, 3, 2), CE, ADAM(2e-3), 100),
    _done("three noise labels", [2, 6, 3], "tanh", _noise_labels(2000, 2, 3), CE, ADAM(2e-3), 100),
    _done("noise labels, linear", [6, 4], "relu", _noise_labels(2000, 6, 4), CE, SGD(0.05), 60),
    _done("noise answers", [5, 4, 1], "relu", _noise_answers, BCE, ADAM(2e-3), 80),
    _done("half noise, linear", [3, 1], "relu", _half_noise, MSE, SGD(0.02), 60),
    _done("half noise, 8 units", [3, 8, 1], "tanh", _half_noise, MSE, ADAM(2e-3), 120),
    _done("digits", [64, 64, 10], "relu", _digits, CE, ADAM(2e-3), 50),
    _done("digits linear", [64, 10], "relu", _digits, CE, ADAM(1e-2), 80),
    _done("wine", [13, 16, 3], "relu", _wine, CE, ADAM(1e-2), 80),
    _done("moons", [2, 32, 32, 2], "relu", _drawn("moons"), CE, ADAM(1e-2), 150),
    _done("blobs", [2, 16, 4], "tanh", _drawn("blobs"), CE, ADAM(1e-2), 80),
    _done("diabetes linear", [10, 1], "relu", _diabetes, MSE, SGD(0.01), 200),
    _done("cancer", [30, 16, 2], "relu", _cancer, CE, ADAM(5e-3), 60),
)
"""Each must be called finished, with every seed."""
