"""Networks and losses of the doctor's benchmark, as programs of other frameworks have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from chainrule import nn, ops
from chainrule.nn.activations import Activation

GLOROT = nn.Xavier()
"""What Keras draws a dense layer's weights from, whatever follows."""
HE = nn.Kaiming()
NARROW = nn.Uniform(-0.05, 0.05)
"""Keras' "uniform"."""
LEAST = 1e-7
"""What Keras cuts probabilities to before their logarithm."""


class Exponential(Activation):
    """y = exp(x)."""

    def forward(self, x: Any) -> Any:
        return ops.exp(x)


class Last(nn.Module):
    """The last step of an LSTM over [rows, time, columns]: [rows, hidden]; with `every` set, all of them."""

    def __init__(self, columns: int, hidden: int, every: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(columns, hidden, batch_first=True)
        self.every = every

    def forward(self, x: Any) -> Any:
        y, (h, _) = self.lstm(x)
        return y if self.every else h[0]


class Mean(nn.Module):
    """[rows, channels, ...] -> [rows, channels]: the mean over all positions."""

    def forward(self, x: Any) -> Any:
        return ops.mean(ops.reshape(x, (*x.shape[:2], -1)), 2)


FUNCTIONS: dict[str, Callable[[], nn.Module] | None] = {
    "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "elu": nn.ELU, "softmax": nn.Softmax, "exp": Exponential,
    "linear": None, "selu": nn.SELU, "gelu": nn.GELU, "silu": nn.SiLU, "leaky_relu": nn.LeakyReLU,
}  # fmt: skip


def dense(
    widths: Sequence[int], functions: Sequence[str] | str, init: Any = GLOROT, drop: float = 0.0, bias: bool = True
) -> Callable[[], nn.Sequential]:
    """Linear layers of these widths, each with its function behind it.

    functions: one for each layer; a word alone is that of all but the last, which has none.
    init: an initialiser for all layers, or a list of one for each. drop: behind each hidden function.
    """
    count = len(widths) - 1
    named = [functions] * (count - 1) + ["linear"] if isinstance(functions, str) else list(functions)
    drawn = list(init) if isinstance(init, list) else [init] * count

    def build() -> nn.Sequential:
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(widths)):
            layers.append(nn.Linear(a, b, init=drawn[i], bias=bias))
            function = FUNCTIONS[named[i]]
            if function is not None:
                layers.append(function())
            if drop and i < count - 1:
                layers.append(nn.Dropout(drop))
        return nn.Sequential(*layers)

    return build


def images(
    channels: int, side: int, filters: Sequence[tuple[int, int]], widths: Sequence[int], function: str,
    last: str = "linear", init: Any = GLOROT, pools: bool = True, drop: float = 0.0,
) -> Callable[[], nn.Sequential]:  # fmt: skip
    """Convolutions with their function and a 2 x 2 maximum behind each, then dense layers.

    filters: (count, size of the square) of each convolution, without padding.
    """

    def build() -> nn.Sequential:
        layers: list[nn.Module] = []
        before, across = channels, side
        for count, size in filters:
            layers.append(nn.Conv2d(before, count, size, init=init))
            across = across - size + 1
            layers += [f() for f in [FUNCTIONS[function]] if f is not None]
            if pools:
                layers.append(nn.MaxPool2d(2))
                across //= 2
            before = count
        hidden = [before * across * across, *widths]
        behind = dense(hidden, [function] * (len(widths) - 1) + [last], init, drop)()
        return nn.Sequential(*layers, nn.Flatten(), *behind)

    return build


def signals(
    length: int, filters: Sequence[tuple[int, int]], widths: Sequence[int], last: str, pool: int = 1,
    mean: bool = False, bias: bool = True,
) -> Callable[[], nn.Sequential]:  # fmt: skip
    """One-dimensional convolutions, as those of images one pixel high, with ReLU; then dense layers."""

    def build() -> nn.Sequential:
        layers: list[nn.Module] = []
        before, across = 1, length
        for count, size in filters:
            layers += [nn.Conv2d(before, count, (1, size), init=GLOROT), nn.ReLU()]
            across = across - size + 1
            if pool > 1:
                layers.append(nn.MaxPool2d((1, pool)))
                across //= pool
            before = count
        layers.append(Mean() if mean else nn.Flatten())
        behind = dense([before if mean else before * across, *widths], ["relu"] * (len(widths) - 1) + [last], bias=bias)
        return nn.Sequential(*layers, *behind())

    return build


# ------------------------------------------------------------------------------------------------ losses of one's own


def _alike(prediction: Any, target: Any) -> Any:
    """The target in the prediction's shape and type, where it has as many numbers: as Keras does unasked."""
    same = ops.reshape(target, prediction.shape) if target.size == prediction.size else target
    return ops.astype(same, prediction.dtype)


def cross_entropy_of_shares(prediction: Any, target: Any) -> Any:
    """-Σ t log q, q being a row of outputs over its sum, cut to (0, 1): Keras' categorical_crossentropy."""
    target = _alike(prediction, target)
    shares = prediction / ops.sum(prediction, -1, keepdims=True)
    return -ops.mean(ops.sum(target * ops.log(ops.clip(shares, LEAST, 1 - LEAST)), -1))


def binary_of_cut(prediction: Any, target: Any) -> Any:
    """-t log p - (1 - t) log(1 - p), p being outputs cut to (0, 1): Keras' binary_crossentropy."""
    p, target = ops.clip(prediction, LEAST, 1 - LEAST), _alike(prediction, target)
    return -ops.mean(target * ops.log(p) + (1 - target) * ops.log(1 - p))


def binary_of_outputs(prediction: Any, target: Any) -> Any:
    """The same without the cut, as written by hand."""
    target = _alike(prediction, target)
    return -ops.mean(target * ops.log(prediction) + (1 - target) * ops.log(1 - prediction))


def log_of_outputs(prediction: Any, target: Any) -> Any:
    """-Σ t log z of the outputs as they are."""
    return -ops.mean(ops.sum(target * ops.log(prediction), -1))


def cross_entropy(prediction: Any, target: Any) -> Any:
    """Softmax and cross-entropy in one, in a function of the user's own."""
    return ops.cross_entropy(prediction, target)


def half_sum_of_squares(prediction: Any, target: Any) -> Any:
    return ops.sum(ops.square(prediction - target)) / (2 * prediction.shape[0])


def sum_of_squares(prediction: Any, target: Any) -> Any:
    return ops.sum(ops.square(prediction - target))


def climbing(prediction: Any, target: Any) -> Any:
    """The mean squared error, of which every derivative has the wrong sign."""
    loss = ops.mse(prediction, target)
    return 2 * ops.stop_gradient(loss) - loss
