"""For a rule a sick training and its healthy twin, by seed, width and data set."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from faulty import Exponential, Program, digits, generated, log_of_shares, mlp, noise, numbers

from chainrule import nn, ops, optim

CE, ADAM, SGD = "cross_entropy", optim.Adam, optim.SGD
TURNS = ((0, 48), (1, 24), (2, 96))
"""Seed and width; the seed chooses the data set as well."""


@dataclass(frozen=True)
class Twins:
    """Two trainings that differ in the fault. before: both are looked at before training, by `cr.diagnose`. noted: the
    sick one learns all the same, so that its fault is only noted."""

    sick: Program
    healthy: Program
    before: bool = False
    noted: bool = False


def classes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits, four blobs or two moons."""
    return digits() if seed % 3 == 0 else generated("blobs" if seed % 3 == 1 else "moons", seed)


def teller(seed: int, width: int, depth: int = 1, **more: Any) -> Callable[[], nn.Module]:
    """A network for those."""
    inputs, outputs = ((64, 10), (2, 4), (2, 2))[seed % 3]
    return mlp(inputs, *[width] * depth, outputs, **more)


def telling(seed: int, width: int) -> Program:
    """A training that learns them."""
    return Program("classes", teller(seed, width), classes(seed), CE, ADAM(5e-3), 30, options={"seed": seed})


def fitting(seed: int, width: int) -> Program:
    """A training that learns numbers."""
    rows = numbers(seed)
    return Program("numbers", mlp(4, width, 1), rows, "mse", ADAM(5e-3), 40, options={"seed": seed})


def columns(program: Program, change: Callable[[np.ndarray], np.ndarray]) -> Program:
    """The same with other inputs, and a network of their width."""
    x, y = program.rows
    x = change(x.copy()).astype(np.float32)
    return replace(program, rows=(x, y), net=mlp(x.shape[1], 32, 1))


def targets(program: Program, change: Callable[[np.ndarray], np.ndarray]) -> Program:
    x, y = program.rows
    return replace(program, rows=(x, change(y.copy())))


def uneven(seed: int, width: int) -> Twins:
    def one_in_thousands(x: np.ndarray) -> np.ndarray:
        x[:, seed] *= 5000
        return x

    return Twins(columns(fitting(seed, width), one_in_thousands), fitting(seed, width))


def constant(seed: int, width: int) -> Twins:
    def among(count: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: np.concatenate([x, np.full((len(x), count), 0.5 * seed)], axis=1)

    healthy = columns(fitting(seed, width), among(2))
    return Twins(columns(fitting(seed, width), lambda x: among(40 + width)(x[::-1, :1])), healthy)


def duplicated(seed: int, width: int) -> Twins:
    healthy = fitting(seed, width)
    return Twins(columns(healthy, lambda x: np.concatenate([x, x[:, seed : seed + 1]], axis=1)), healthy)


def ill_conditioned(seed: int, width: int) -> Twins:
    healthy = fitting(seed, width)
    shaken = np.random.default_rng(seed).normal(size=(400, 1)) * 1e-4
    return Twins(columns(healthy, lambda x: np.concatenate([x, x[:, seed : seed + 1] + shaken], axis=1)), healthy)


def imbalanced(seed: int, width: int) -> Twins:
    x = np.random.default_rng(seed).normal(size=(2000, 4)).astype(np.float32)

    def program(limit: float) -> Program:
        rows = x, (x[:, seed] > limit).astype(np.int64)
        return Program("rare", mlp(4, width, 2), rows, CE, SGD(0.02), 4, options={"seed": seed})

    return Twins(program(2.2), replace(program(0.0), epochs=30))


def one_target(seed: int, width: int) -> Twins:
    healthy = fitting(seed, width) if seed else telling(seed, width)
    return Twins(targets(healthy, lambda y: np.full_like(y, 3)), healthy)


def conflicting(seed: int, width: int) -> Twins:
    random = np.random.default_rng(seed)
    x = random.integers(0, 3, (600, 3)).astype(np.float32) - 1
    rule = (x.sum(axis=1) > 0).astype(np.int64)

    def program(y: np.ndarray) -> Program:
        return Program("few values", mlp(3, width, 2), (x, y), CE, ADAM(1e-2), 40, options={"seed": seed})

    return Twins(program(random.integers(0, 2, 600)), program(rule))


def indistinct(seed: int, width: int) -> Twins:
    healthy = telling(seed % 2, width)  # two moons have no third class
    _, y = healthy.rows
    random = np.random.default_rng(seed)
    mixed = random.permutation(np.unique(y))[: 2 + seed]

    def drawn(y: np.ndarray) -> np.ndarray:
        where = np.isin(y, mixed)
        y[where] = random.choice(mixed, where.sum())
        return y

    return Twins(targets(healthy, drawn), healthy)


def dead_units(seed: int, width: int) -> Twins:
    healthy = replace(fitting(seed, width), net=mlp(4, width, width, 1))
    return Twins(replace(healthy, optimizer=ADAM(0.5)), healthy)


def exploding(seed: int, width: int) -> Twins:
    def program(times: float) -> Program:
        init = nn.Normal(0.0, times * (2 / width) ** 0.5)
        return replace(telling(seed, width), net=teller(seed, width, 6, init=init), optimizer=ADAM(1e-3))

    return Twins(program(5.0), replace(program(1.0), net=teller(seed, width, 6)))


def saturated(seed: int, width: int) -> Twins:
    def program(init: Any) -> Program:
        net = teller(seed, width, 8, f=nn.Tanh, init=init)
        return replace(telling(seed, width), net=net, optimizer=SGD(0.1))

    return Twins(program(nn.Normal(0.0, 4.0)), program("auto"))


def tiny_activation(seed: int, width: int) -> Twins:
    def program(init: Any) -> Program:
        return replace(telling(seed, width), net=teller(seed, width, 4, init=init), optimizer=ADAM(1e-3))

    return Twins(replace(program(nn.Normal(0.0, 0.003)), epochs=5), program("auto"))


def zero_gradient(seed: int, width: int) -> Twins:
    healthy = fitting(seed, width)
    off = mlp(4, width, 1, init=nn.Uniform(-0.5, -0.1), last=(nn.ReLU,))
    return Twins(targets(replace(healthy, net=off), np.abs), healthy)


def not_finite(seed: int, width: int) -> Twins:
    x, y = generated("circles", seed)
    options = {"seed": seed}

    def program(f: type) -> Program:
        return Program("grows twice", mlp(2, *[width] * 3, 2, f=f), (10 * x, y), CE, ADAM(1e-2), 40, options=options)

    return Twins(program(Exponential), program(nn.Tanh), before=True)


def diverging(seed: int, width: int) -> Twins:
    """Steps a little above 2 / curvature, which for one linear layer is that of the inputs."""
    healthy = replace(fitting(seed, width), optimizer=SGD(0.05), net=mlp(4, 1))
    return Twins(replace(healthy, optimizer=SGD(1.2 + 0.2 * seed), epochs=3), healthy)


def predicted(seed: int, width: int) -> Twins:
    narrow = replace(telling(seed, width), net=teller(seed, 3, 10 + width // 24))
    return Twins(narrow, replace(narrow, net=teller(seed, width, 2)), before=True)


def oscillating(seed: int, width: int) -> Twins:
    healthy = fitting(seed, width)
    return Twins(replace(healthy, optimizer=SGD(0.4)), healthy)


def stalled(seed: int, width: int) -> Twins:
    healthy = telling(seed, width)
    return Twins(replace(healthy, optimizer=SGD(1e-6)), healthy)


def too_few(seed: int, width: int) -> Twins:
    healthy = telling(seed, width)
    if seed == 2:  # two moons are divided by a line at once, and then nothing moves for a while
        healthy = replace(healthy, rows=generated("circles", seed))
    return Twins(replace(healthy, optimizer=ADAM(1e-3), epochs=3 if seed else 1), healthy)


def epsilon(seed: int, width: int) -> Twins:
    healthy = telling(seed, width)
    return Twins(replace(healthy, optimizer=ADAM(5e-3, eps=10.0 ** -(15 + seed))), healthy)


def several_labels(seed: int, width: int) -> Twins:
    random = np.random.default_rng(seed)
    x = random.normal(size=(500, 5)).astype(np.float32)
    y = (x @ random.normal(size=(5, 3 + seed)) > 0).astype(np.float32)

    def program(loss: str, *last: type) -> Program:
        net = mlp(5, width, 3 + seed, last=last)
        return Program("several labels", net, (x, y), loss, ADAM(5e-3), 40, options={"seed": seed})

    return Twins(program("mse", nn.Softmax), program("binary_cross_entropy_with_logits"))


def squares(prediction: Any, target: Any) -> Any:
    """The mean squared error as a user writes it."""
    return ops.mean(ops.square(prediction - target))


def broadcast(seed: int, width: int) -> Twins:
    healthy = replace(fitting(seed, width), loss=squares)
    return Twins(replace(healthy, net=mlp(4, width, 3 + seed)), healthy)


def initial_loss(seed: int, width: int) -> Twins:
    healthy = telling(seed, width)
    wild = teller(seed, width, init=nn.Normal(0.0, 6.0))
    return Twins(replace(healthy, net=wild, optimizer=SGD(1e-4), epochs=2), healthy)


def classes_as_numbers(seed: int, width: int) -> Twins:
    sick = targets(telling(seed % 2, width), lambda y: y.astype(np.float32)[:, None])
    inputs = sick.rows[0].shape[1]
    return Twins(replace(sick, net=mlp(inputs, width, 1), loss="mse"), fitting(seed, width))


def overfitting(seed: int, width: int) -> Twins:
    random = np.random.default_rng(seed)
    x = random.normal(size=(160, 12)).astype(np.float32)
    y = (x[:, :2].sum(axis=1, keepdims=True) + random.normal(size=(160, 1))).astype(np.float32)
    options = {"seed": seed, "validation": 0.3}
    healthy = Program("few rows", mlp(12, 1), (x, y), "mse", SGD(0.02), 80, options=options)
    return Twins(replace(healthy, net=mlp(12, width, width, 1), optimizer=ADAM(5e-3), epochs=150), healthy)


def overfit_fails(seed: int, width: int) -> Twins:
    healthy = telling(seed, width)
    return Twins(replace(healthy, net=teller(seed, width, init=nn.Zeros())), healthy)


def nothing(seed: int, width: int) -> Twins:
    sick = Program("noise", mlp(4, 3 + seed, 1), noise(seed), "mse", SGD(0.05), 100, options={"seed": seed})
    return Twins(sick, fitting(seed, width))


class Partly(nn.Module):
    """A network of which one layer is left out of forward(), or is not trained."""

    def __init__(self, net: nn.Module, unused: bool, frozen: bool) -> None:
        super().__init__()
        self.net = net
        self.spare = nn.Linear(3, 3) if unused else None
        if frozen:
            next(net.children()).requires_grad_(False)

    def forward(self, x: Any) -> Any:
        return self.net(x)


def partly(program: Program, unused: bool = False, frozen: bool = False) -> Program:
    return replace(program, net=lambda: Partly(program.net(), unused, frozen))


def unreachable(seed: int, width: int) -> Twins:
    return Twins(partly(telling(seed, width), unused=True), telling(seed, width))


def frozen(seed: int, width: int) -> Twins:
    return Twins(partly(telling(seed, width), frozen=True), telling(seed, width), noted=True)


def rate_too_high_at_the_end(seed: int, width: int) -> Twins:
    random = np.random.default_rng(seed)
    x = random.normal(size=(300, 10)).astype(np.float32)
    y = np.sin(x[:, :1] * x[:, 1:2]) + x[:, 2:3] + 0.7 * random.normal(size=(300, 1))
    rows = x, (y / y.std()).astype(np.float32)
    healthy = Program("noisy", mlp(10, width, width, 1), rows, "mse", ADAM(1e-3), 80, options={"seed": seed})
    return Twins(replace(healthy, optimizer=ADAM(0.2)), healthy)


def rate_too_low_for_the_rest(seed: int, width: int) -> Twins:
    x = np.linspace(0, 1, 9000, dtype=np.float32)[:, None]
    y = (x ** (4 + seed) + x**3 - x).astype(np.float32)
    net = mlp(1, 4 * width, width, 1, init=nn.Xavier())
    healthy = Program("curve", net, (x, y), "mse", ADAM(3e-3), 15, 50, options={"seed": seed})
    return Twins(replace(healthy, optimizer=SGD(0.01)), healthy)


def wrong_rows(seed: int, width: int) -> Twins:
    healthy = telling(seed, 8 * width)  # wide enough to learn the rows by heart
    random = np.random.default_rng(seed)
    return Twins(targets(replace(healthy, epochs=5), random.permutation), healthy)


def one_column(seed: int, width: int) -> Twins:
    x, y = numbers(seed)
    yes = (y > 0).astype(np.float32)
    sick = Program("one column", mlp(4, width, 1, last=(nn.Sigmoid,)), (x, yes), log_of_shares, ADAM(1e-3), 5)
    return Twins(sick, replace(sick, loss="binary_cross_entropy", optimizer=ADAM(1e-2), epochs=40))


TWINS: dict[str, Callable[[int, int], Twins]] = {
    "input-scale-uneven": uneven,
    "constant-columns": constant,
    "duplicated-columns": duplicated,
    "ill-conditioned-inputs": ill_conditioned,
    "imbalanced-classes": imbalanced,
    "one-target": one_target,
    "uninformative-labels": wrong_rows,
    "conflicting-rows": conflicting,
    "indistinct-classes": indistinct,
    "dead-units": dead_units,
    "exploding-gradient": exploding,
    "saturated": saturated,
    "tiny-activation": tiny_activation,
    "zero-gradient": zero_gradient,
    "not-finite": not_finite,
    "predicted-fault": predicted,
    "learning-rate-too-high": rate_too_high_at_the_end,
    "learning-rate-too-low": rate_too_low_for_the_rest,
    "oscillating-loss": oscillating,
    "diverging": diverging,
    "stalled-loss": stalled,
    "update-too-small": stalled,
    "too-few-steps": too_few,
    "adam-epsilon": epsilon,
    "cross-entropy-of-one": one_column,
    "softmax-for-several-labels": several_labels,
    "shapes-broadcast": broadcast,
    "initial-loss-high": initial_loss,
    "classes-as-numbers": classes_as_numbers,
    "overfitting": overfitting,
    "overfit-fails": overfit_fails,
    "nothing-to-learn": nothing,
    "frozen-parameters": frozen,
    "unreachable-parameters": unreachable,
}
"""By the name of the rule that must speak of the sick one, among its findings or their symptoms."""
