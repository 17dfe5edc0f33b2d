"""First weights: how they are drawn, each a pure function of seed, stream and shape, and why that size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from chainrule.errors import ArgumentError
from chainrule.graph import no_grad
from chainrule.ops import key, normal, uniform

GAINS = {
    "linear": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3.0, "relu": math.sqrt(2.0), "selu": 0.75,
}  # fmt: skip
"""Factor by which weights are enlarged so that an activation keeps the variance level, as torch's calculate_gain."""


def gain(nonlinearity: str, negative_slope: float = 0.01) -> float:
    """The factor for a nonlinearity; "leaky_relu" takes its slope."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + negative_slope**2))
    if nonlinearity not in GAINS:
        raise ArgumentError(f"no gain is known for {nonlinearity!r}: use one of {', '.join([*GAINS, 'leaky_relu'])}")
    return GAINS[nonlinearity]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many inputs one output reads and how many outputs one input feeds: weights are [out, in, *kernel]."""
    if len(shape) < 2:
        raise ArgumentError(f"an initialiser that counts inputs and outputs needs a weight of two axes, got {shape}")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


@dataclass(frozen=True)
class Initialiser:
    """How first values are drawn. ``draw`` is pure: the same seed, stream and shape give the same values."""

    def draw(self, shape: tuple[int, ...], seed: int, stream: int) -> np.ndarray:
        """float32 values of ``shape``."""
        raise NotImplementedError

    def describe(self, shape: tuple[int, ...]) -> str:
        """What is drawn for ``shape``, with its numbers and the reason."""
        raise NotImplementedError


def _uniform(shape: tuple[int, ...], bound: float, seed: int, stream: int) -> np.ndarray:
    with no_grad():
        return uniform(shape, -bound, bound, key=key(seed), stream=stream).numpy()


def _normal(shape: tuple[int, ...], std: float, seed: int, stream: int) -> np.ndarray:
    with no_grad():
        return normal(shape, 0.0, std, key=key(seed), stream=stream).numpy()


@dataclass(frozen=True)
class Constant(Initialiser):
    """Every value the same."""

    value: float = 0.0

    def draw(self, shape: tuple[int, ...], seed: int, stream: int) -> np.ndarray:
        return np.full(shape, self.value, np.float32)

    def describe(self, shape: tuple[int, ...]) -> str:
        return f"all {self.value:g}"


def Zeros() -> Constant:
    """Every value 0."""
    return Constant(0.0)


def Ones() -> Constant:
    """Every value 1."""
    return Constant(1.0)


@dataclass(frozen=True)
class Uniform(Initialiser):
    """Evenly between ``low`` and ``high``."""

    low: float = 0.0
    high: float = 1.0

    def draw(self, shape: tuple[int, ...], seed: int, stream: int) -> np.ndarray:
        with no_grad():
            return uniform(shape, self.low, self.high, key=key(seed), stream=stream).numpy()

    def describe(self, shape: tuple[int, ...]) -> str:
        return f"uniform in [{self.low:g}, {self.high:g})"


@dataclass(frozen=True)
class Normal(Initialiser):
    """Normal with the given mean and standard deviation."""

    mean: float = 0.0
    std: float = 1.0

    def draw(self, shape: tuple[int, ...], seed: int, stream: int) -> np.ndarray:
        return self.mean + _normal(shape, self.std, seed, stream)

    def describe(self, shape: tuple[int, ...]) -> str:
        return f"normal, mean {self.mean:g}, deviation {self.std:g}"


@dataclass(frozen=True)
class TruncatedNormal(Initialiser):
    """Normal, cut to [a, b] by drawing the quantile: no value outside, no draw repeated."""

    mean: float = 0.0
    std: float = 1.0
    a: float = -2.0
    b: float = 2.0

    def __post_init__(self) -> None:
        if not (self.std > 0 and self.a < self.b):
            raise ArgumentError(f"TruncatedNormal: needs std > 0 and a < b, got {self}")

    def draw(self, shape: tuple[int, ...], seed: int, stream: int) -> np.ndarray:
        with no_grad():
            u = uniform(shape, key=key(seed), stream=stream, dtype="float64").numpy()
        low, high = (_normal_distribution((x - self.mean) / self.std) for x in (self.a, self.b))
        values = self.mean + self.std * _normal_quantile(low + u * (high - low))
        return np.clip(values, self.a, self.b).astype(np.float32)

    def describe(self, shape: tuple[int, ...]) -> str:
        return f"normal, mean {self.mean:g}, deviation {self.std:g}, cut to [{self.a:g}, {self.b:g}]"


def _normal_distribution(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _normal_quantile(p: np.ndarray) -> np.ndarray:
    """The standard normal quantile of each entry."""
    from statistics import NormalDist

    inverse = NormalDist().inv_cdf
    flat = np.clip(p.reshape(-1), 1e-300, 1 - 1e-16)
    return np.array([inverse(float(q)) for q in flat]).reshape(p.shape)


@dataclass(frozen=True)
class Xavier(Initialiser):
    """Variance gain² · 2 / (inputs + outputs): level across layers in both directions.

    Glorot & Bengio 2010, equation 16 (uniform) and 12 (normal).
    """

    gain: float = 1.0
    distribution: str = "uniform"
    reason: str = ""

    def __post_init__(self) -> None:
        _check_distribution("Xavier", self.distribution)

    def draw(self, shape: tuple[int, ...], seed: int, stream: int) -> np.ndarray:
        std = self.gain * math.sqrt(2.0 / sum(fans(shape)))
        return _drawn(self.distribution, shape, std, seed, stream)

    def describe(self, shape: tuple[int, ...]) -> str:
        std = self.gain * math.sqrt(2.0 / sum(fans(shape)))
        return _spread(f"xavier {self.distribution}", self.distribution, std, self.reason)


@dataclass(frozen=True)
class Kaiming(Initialiser):
    """Variance gain² / inputs ("fan_in") or / outputs ("fan_out"): level through the nonlinearity.

    He, Zhang, Ren & Sun 2015, equation 10. nonlinearity: "relu", "leaky_relu" with slope ``a``, "linear", ...
    """

    nonlinearity: str = "relu"
    a: float = 0.0
    mode: str = "fan_in"
    distribution: str = "uniform"
    reason: str = ""

    def __post_init__(self) -> None:
        gain(self.nonlinearity, self.a)
        _check_distribution("Kaiming", self.distribution)
        if self.mode not in ("fan_in", "fan_out"):
            raise ArgumentError(f"Kaiming: mode is 'fan_in' or 'fan_out', got {self.mode!r}")

    def deviation(self, shape: tuple[int, ...]) -> float:
        return gain(self.nonlinearity, self.a) / math.sqrt(max(fans(shape)[self.mode == "fan_out"], 1))

    def draw(self, shape: tuple[int, ...], seed: int, stream: int) -> np.ndarray:
        return _drawn(self.distribution, shape, self.deviation(shape), seed, stream)

    def describe(self, shape: tuple[int, ...]) -> str:
        return _spread(f"kaiming {self.distribution}", self.distribution, self.deviation(shape), self.reason)


@dataclass(frozen=True)
class LeCun(Initialiser):
    """Variance 1 / inputs. LeCun, Bottou, Orr & Müller 1998, section 4.6; what SELU needs (Klambauer et al. 2017)."""

    distribution: str = "uniform"
    reason: str = ""

    def __post_init__(self) -> None:
        _check_distribution("LeCun", self.distribution)

    def draw(self, shape: tuple[int, ...], seed: int, stream: int) -> np.ndarray:
        return _drawn(self.distribution, shape, math.sqrt(1.0 / max(fans(shape)[0], 1)), seed, stream)

    def describe(self, shape: tuple[int, ...]) -> str:
        return _spread(
            f"lecun {self.distribution}", self.distribution, math.sqrt(1.0 / max(fans(shape)[0], 1)), self.reason
        )


@dataclass(frozen=True)
class TorchBias(Initialiser):
    """Uniform within ±1/√inputs of the layer's weight: PyTorch's default for biases."""

    inputs: int

    def draw(self, shape: tuple[int, ...], seed: int, stream: int) -> np.ndarray:
        return _uniform(shape, 1 / math.sqrt(max(self.inputs, 1)), seed, stream)

    def describe(self, shape: tuple[int, ...]) -> str:
        return f"uniform ±{1 / math.sqrt(max(self.inputs, 1)):.3g}: PyTorch's default, 1/√{self.inputs}"


@dataclass(frozen=True)
class Orthogonal(Initialiser):
    """A random matrix with orthogonal rows or columns, times ``gain`` (Saxe, McClelland & Ganguli 2014)."""

    gain: float = 1.0

    def draw(self, shape: tuple[int, ...], seed: int, stream: int) -> np.ndarray:
        fans(shape)
        rows, columns = shape[0], math.prod(shape[1:])
        flat = _normal((max(rows, columns), min(rows, columns)), 1.0, seed, stream).astype(np.float64)
        q, r = np.linalg.qr(flat)
        q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # so that every orthogonal matrix is equally likely
        return (self.gain * (q if rows >= columns else q.T)).reshape(shape).astype(np.float32)

    def describe(self, shape: tuple[int, ...]) -> str:
        return f"orthogonal, gain {self.gain:g}"


def _drawn(distribution: str, shape: tuple[int, ...], std: float, seed: int, stream: int) -> np.ndarray:
    if distribution == "normal":
        return _normal(shape, std, seed, stream)
    return _uniform(shape, math.sqrt(3.0) * std, seed, stream)


def _check_distribution(name: str, distribution: str) -> None:
    if distribution not in ("uniform", "normal"):
        raise ArgumentError(f"{name}: distribution is 'uniform' or 'normal', got {distribution!r}")


def _spread(name: str, distribution: str, std: float, reason: str) -> str:
    size = f"±{math.sqrt(3.0) * std:.3g}" if distribution == "uniform" else f"deviation {std:.3g}"
    return f"{name} {size}{': ' + reason if reason else ''}"


INITIALISERS: dict[str, type[Initialiser]] = {
    kind.__name__: kind for kind in (Constant, Uniform, Normal, TruncatedNormal, Xavier, Kaiming, LeCun, Orthogonal)
}
"""Every initialiser of this package, by name."""


def torch_weight() -> Kaiming:
    """PyTorch's default for Linear: Kaiming with slope √5, which is uniform within ±1/√inputs."""
    return Kaiming("leaky_relu", math.sqrt(5.0), reason="PyTorch's default, which is ±1/√inputs")


def by_activation(activation: str) -> Initialiser:
    """What ``init="auto"`` stands for in front of an activation."""
    if activation in ("ReLU", "LeakyReLU", "PReLU", "ELU", "GELU", "SiLU", "Mish", "Softplus", "Hardswish"):
        return Kaiming("relu", reason=f"{activation} follows, which lets through about half of the variance")
    if activation == "SELU":
        return LeCun(reason="SELU follows, which normalises itself at variance 1/inputs")
    if activation in ("", "Softmax", "LogSoftmax"):
        return Xavier(reason="no activation follows")
    return Xavier(reason=f"{activation} follows, which is near its linear part at this size")
