"""Small networks with one planted fault each, and healthy ones, over data sets, widths and seeds."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule import data, nn, optim


@dataclass(frozen=True)
class Program:
    """A training: `expected` names the rules of which one must be the first finding; none for a healthy one."""

    name: str
    net: Callable[[], nn.Module]
    rows: tuple[np.ndarray, np.ndarray]
    loss: Any
    optimizer: Any
    epochs: int = 10
    batch_size: int = 32
    options: dict[str, Any] = field(default_factory=dict)
    expected: tuple[str, ...] = ()


def digits(scale: float = 1.0, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    (x, y), _ = data.load("digits")
    return (x * scale + shift).astype(np.float32), y


def generated(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    made = {"circles": data.generated.circles, "moons": data.generated.moons, "blobs": data.generated.blobs}
    x, y = made[name](400, seed=seed)
    return x.astype(np.float32), y


def numbers(seed: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    x, y = data.generated.regression(400, seed=seed)
    y = (y - y.mean()) / y.std()
    return x.astype(np.float32), (scale * y).astype(np.float32)


def mlp(*widths: int, f: type = nn.ReLU, init: Any = "auto", last: tuple = ()) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(itertools.pairwise(widths)):
            layers.append(nn.Linear(a, b, init=init))
            if i < len(widths) - 2:
                layers.append(f())
        return nn.Sequential(*layers, *(layer() for layer in last))

    return build


def healthy(seeds: int = 2) -> list[Program]:
    """Healthy trainings: every architecture on every data set it fits, by seed."""
    found = []
    for seed in range(seeds):
        options = {"seed": seed}
        x, y = digits()
        ce, adam = "cross_entropy", optim.Adam
        found += [
            Program("digits relu", mlp(64, 64, 10), (x, y), ce, adam(1e-3), options=options),
            Program("digits deep relu", mlp(64, 64, 64, 64, 10), (x, y), ce, adam(1e-3), options=options),
            Program(
                "digits tanh sgd", mlp(64, 48, 10, f=nn.Tanh), (x, y), ce, optim.SGD(0.1, momentum=0.9), options=options
            ),
            Program("digits sigmoid", mlp(64, 64, 10, f=nn.Sigmoid), (x, y), ce, adam(5e-3), options=options),
            Program("digits raw 0..16", mlp(64, 64, 10), (x * 16, y), ce, adam(1e-3), options=options),
            Program("digits gelu adamw", mlp(64, 96, 10, f=nn.GELU), (x, y), ce, optim.AdamW(2e-3), options=options),
            Program("digits long", mlp(64, 32, 10), (x, y), ce, adam(2e-3), 40, options=options),
            Program("digits linear", mlp(64, 10), (x, y), ce, adam(5e-3), 20, options=options),
            Program("digits torch init", mlp(64, 64, 64, 10, init="torch"), (x, y), ce, adam(1e-3), options=options),
            Program(
                "digits sgd clip", mlp(64, 64, 10), (x, y), ce, optim.SGD(0.1), options=options | {"clip_norm": 1.0}
            ),
            Program(
                "digits bn",
                lambda: nn.Sequential(
                    nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10)
                ),
                (x, y),
                ce,
                adam(1e-3),
                options=options,
            ),
            Program("circles", mlp(2, 16, 16, 2), generated("circles", seed), ce, adam(1e-2), 30, options=options),
            Program(
                "circles tanh narrow",
                mlp(2, 8, 8, 2, f=nn.Tanh),
                generated("circles", seed),
                ce,
                adam(1e-2),
                60,
                options=options,
            ),
            Program(
                "narrow tanh, slow",
                mlp(2, *[5 + seed % 3] * (9 + seed), 1, f=nn.Tanh, init=nn.Kaiming(), last=(nn.Sigmoid,)),
                near_circles(seed),
                "binary_cross_entropy",
                adam(1e-3),
                250,
                128,
                options=options,
            ),
            Program("moons", mlp(2, 16, 16, 2), generated("moons", seed), ce, adam(1e-2), 30, options=options),
            Program("blobs", mlp(2, 8, 4), generated("blobs", seed), ce, adam(1e-2), 30, options=options),
            Program("regression", mlp(4, 32, 32, 1), numbers(seed), "mse", adam(3e-3), 40, options=options),
            Program(
                "regression huber", mlp(4, 32, 1, f=nn.Tanh), numbers(seed), "huber", adam(1e-2), 40, options=options
            ),
            Program("regression linear", mlp(4, 1), numbers(seed), "mse", adam(1e-2), 60, options=options),
            Program(
                "binary",
                mlp(2, 16, 16, 1),
                generated("moons", seed),
                "binary_cross_entropy_with_logits",
                adam(1e-2),
                30,
                options=options,
            ),
            Program(
                "binary sigmoid",
                mlp(2, 16, 1, last=(nn.Sigmoid,)),
                generated("moons", seed),
                "binary_cross_entropy",
                adam(1e-2),
                40,
                options=options,
            ),
            Program("noise targets", mlp(4, 8, 1), noise(seed), "mse", optim.SGD(0.05), 150, options=options),
            Program("noise labels", mlp(3, 4, 2), noise_labels(seed), ce, adam(1e-2), 100, options=options),
        ]
    return found


def near_circles(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two circles of nearly one size, so that they overlap: a deep narrow network finds them late, or within a run."""
    x, y = data.generated.circles(700, noise=0.1, seed=seed)
    x *= np.where(y == 1, 1.6, 1.0)[:, None]  # of radius 0.8 instead of 0.5
    return x.astype(np.float32), y[:, None].astype(np.float32)


def noise(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(1000, 4)).astype(np.float32), random.normal(size=(1000, 1)).astype(np.float32)


def noise_labels(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(2000, 3)).astype(np.float32), random.integers(0, 2, 2000)


def soft_cross_entropy(prediction: Any, target: Any) -> Any:
    """Cross-entropy as a user writes it."""
    from chainrule import ops

    return ops.cross_entropy(prediction, target)


class Exponential(nn.Module):
    """exp, as a layer."""

    def forward(self, x: Any) -> Any:
        from chainrule import ops

        return ops.exp(x)


def climbing(prediction: Any, target: Any) -> Any:
    """The mean squared error with the sign of its derivatives turned."""
    from chainrule import ops

    loss = ops.mse(prediction, target)
    return 2 * ops.stop_gradient(loss) - loss


def log_of_shares(prediction: Any, target: Any) -> Any:
    """Cross-entropy of outputs over their sum, written out."""
    from chainrule import ops

    shares = prediction / ops.sum(prediction, -1, keepdims=True)
    return -ops.mean(ops.sum(target * ops.log(ops.clip(shares, 1e-7, 1.0)), -1))


def sick(seed: int = 0, width: int = 64) -> list[Program]:
    """One planted fault each."""
    x, y = digits()
    ce, adam = "cross_entropy", optim.Adam
    options = {"seed": seed}
    shuffled = np.random.default_rng(seed).permutation(y)
    order = np.argsort(y, kind="stable")
    nx, ny = numbers(seed)
    cx, cy = generated("circles", seed)
    xor = (np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), np.array([[0], [1], [1], [0]], np.float32))

    def program(
        name: str, net: Any, rows: Any, loss: Any, optimizer: Any, *expected: str, epochs: int = 10, **more: Any
    ) -> Program:
        return Program(name, net, rows, loss, optimizer, epochs, more.pop("batch_size", 32), options | more, expected)

    w = width
    return [
        program(
            "ten sigmoid layers", mlp(64, *[w] * 10, 10, f=nn.Sigmoid), (x, y), ce, adam(1e-3), "vanishing-gradient"
        ),
        program(
            "eight sigmoid layers, circles",
            mlp(2, *[8] * 8, 2, f=nn.Sigmoid),
            (cx, cy),
            ce,
            adam(1e-3),
            "vanishing-gradient",
            epochs=40,
        ),
        program(
            "eight sigmoid layers, torch init",
            mlp(64, *[w] * 8, 10, f=nn.Sigmoid, init="torch"),
            (x, y),
            ce,
            optim.SGD(0.1),
            "vanishing-gradient",
        ),
        program(
            "constant init",
            mlp(64, w, w, 10, init=nn.Constant(0.01)),
            (x, y),
            ce,
            optim.SGD(0.1),
            "symmetric-initialisation",
        ),
        program("zero init", mlp(64, w, 10, init=nn.Constant(0.0)), (x, y), ce, adam(1e-3), "symmetric-initialisation"),
        program(
            "tiny init",
            mlp(64, *[w] * 6, 10, init=nn.Normal(0.0, 0.005)),
            (x, y),
            ce,
            adam(1e-3),
            "small-initialisation",
        ),
        program(
            "huge init",
            mlp(64, w, w, 10, f=nn.Sigmoid, init=nn.Normal(0.0, 5.0)),
            (x, y),
            ce,
            optim.SGD(0.1),
            "large-initialisation",
            "saturated",
        ),
        program(
            "softmax twice", mlp(64, w, 10, last=(nn.Softmax,)), (x, y), soft_cross_entropy, adam(1e-3), "softmax-twice"
        ),
        program(
            "relu output, cross-entropy", mlp(64, w, 10, last=(nn.ReLU,)), (x, y), ce, optim.SGD(0.01), "bounded-logits"
        ),
        program(
            "unscaled 0..4080", mlp(64, w, 10, f=nn.Sigmoid), (x * 4080, y), ce, optim.SGD(0.1), "input-scale-large"
        ),
        program("unscaled, relu sgd", mlp(64, w, 10), (x * 255, y), ce, optim.SGD(0.1), "input-scale-large"),
        program("divided twice", mlp(4, w, 1), (nx / 500, ny), "mse", adam(1e-3), "input-scale-small"),
        program("uncentred", mlp(64, w, 10), (x + 60, y), ce, optim.SGD(0.1), "input-scale-large", "input-uncentred"),
        program("lr too high", mlp(64, w, 10), (x, y), ce, adam(1.0), "learning-rate-too-high"),
        program(
            "sgd lr too high",
            mlp(64, w, w, 10),
            (x, y),
            ce,
            optim.SGD(8.0),
            "learning-rate-too-high",
            "diverging",
            "not-finite",
            on_nan="skip",
        ),
        program("lr too low", mlp(64, w, 10), (x, y), ce, adam(1e-6), "learning-rate-too-low"),
        program("sgd lr too low", mlp(64, w, 10), (x, y), ce, optim.SGD(1e-5), "learning-rate-too-low"),
        program("dead relu", mlp(64, w, w, 10, init=nn.Uniform(-0.5, -0.1)), (x, y), ce, adam(1e-3), "dead-layer"),
        program(
            "sigmoid for numbers", mlp(4, w, 1, last=(nn.Sigmoid,)), (nx, ny), "mse", adam(1e-2), "targets-out-of-range"
        ),
        program("relu for numbers", mlp(4, w, 1, last=(nn.ReLU,)), (nx, ny), "mse", adam(1e-2), "targets-out-of-range"),
        program(
            "softmax of one",
            mlp(4, w, 1, last=(nn.Softmax,)),
            (nx, (ny > 0).astype(np.float32)),
            "mse",
            adam(1e-3),
            "softmax-of-one",
        ),
        program("targets in the thousands", mlp(4, w, 1), (nx, ny * 1000 + 5000), "mse", adam(1e-3), "target-scale"),
        program("shuffled labels", mlp(64, w, 10), (x, shuffled), ce, adam(1e-4), "uninformative-labels"),
        program(
            "sorted rows", mlp(64, w, 10), (x[order], y[order]), ce, optim.SGD(0.5), "rows-not-shuffled", shuffle=False
        ),
        program("decay too strong", mlp(4, w, 1), (nx, ny), "mse", adam(1e-3), "decay-too-strong", l2=0.3, epochs=40),
        program(
            "xor with mae",
            mlp(2, 4, 1, f=nn.Sigmoid, last=(nn.Sigmoid,)),
            xor,
            "mae",
            optim.SGD(0.05),
            "cancelling-samples",
            "learning-rate-too-low",
            "stalled-loss",
            epochs=500,
            batch_size=4,
        ),
        program(
            "schedule ended",
            mlp(64, w, 10),
            (x, y),
            ce,
            optim.SGD(0.01),
            "schedule-near-zero",
            learning_rate_schedule=optim.StepLR(1, 0.001),
        ),
        program(
            "bn of two",
            lambda: nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10)),
            (x[:200], y[:200]),
            ce,
            adam(1e-3),
            "batch-too-small-for-norm",
            batch_size=2,
        ),
        program(
            "stacked exponentials",
            mlp(2, w // 8, w // 8, 2, f=Exponential),
            (cx * 2, cy),
            ce,
            adam(1e-3),
            "exploding-activation",
            on_nan="skip",
        ),
        program("sign turned", mlp(4, w, w, 1), (nx, ny), climbing, adam(1e-3), "climbing-loss", epochs=20),
        program(
            "relu for yes and no",
            mlp(4, w, 1, last=(nn.ReLU,)),
            (nx, (ny > 0.3).astype(np.float32)),
            "mse",
            optim.SGD(0.01),
            "relu-for-labels",
            epochs=5,
        ),
        program(
            "classes one by one",
            mlp(64, w, 10, last=(nn.Sigmoid,)),
            (x, np.eye(10, dtype=np.float32)[y]),
            "binary_cross_entropy",
            adam(1e-3),
            "binary-loss-for-classes",
            epochs=3,
        ),
        program(
            "log of linear outputs",
            mlp(64, w, 10),
            (x, np.eye(10, dtype=np.float32)[y]),
            log_of_shares,
            adam(1e-3),
            "probability-loss-on-logits",
            epochs=3,
        ),
        program(
            "shares of one column",
            mlp(4, w, 1, last=(nn.Sigmoid,)),
            (nx, (ny > 0).astype(np.float32)),
            log_of_shares,
            adam(1e-3),
            "cross-entropy-of-one",
            epochs=3,
        ),
        program(
            "deep sigmoids on wide inputs",
            mlp(2, *[w // 8] * 10, 2, f=nn.Sigmoid),
            (cx * 10, cy),
            ce,
            adam(1e-3),
            "vanishing-gradient",
            epochs=20,
        ),
        program("clipped away", mlp(64, w, 10), (x, y), ce, optim.SGD(0.1), "clipping-binds", clip_norm=1e-4),
    ]
