"""Networks of every kind of layer, and random ones, for the tests of what is seen of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn, ops

ROWS = 6
RANDOM = np.random.default_rng(4)


class Own(nn.Module):
    """Operations straight on parameters: a product, a bias, a scale, a table of places, a strange use."""

    def __init__(self) -> None:
        super().__init__()
        normal = nn.Normal(std=0.7)
        self.w, self.b = nn.Parameter((4, 5), normal), nn.Parameter((5,), normal)
        self.scale, self.places = nn.Parameter((5,), normal), nn.Parameter((7, 5), normal)
        self.odd, self.less = nn.Parameter((5,), normal), nn.Parameter((5,), normal)

    def forward(self, x):
        h = x @ self.w + self.b
        h = ops.tanh(h * self.scale) + ops.gather(self.places, np.array([2])) - self.less
        return ops.sin(h * ops.exp(self.odd))


class Shared(nn.Module):
    """One layer used three times, and one weight of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.tied = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.tied.weight = self.first.weight

    def forward(self, x):
        h = ops.tanh(self.first(x))
        for _ in range(3):
            h = ops.tanh(self.again(h))
        return self.tied(h)


class Recurrent(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.cells, self.out = nn.LSTM(3, 4, batch_first=batch_first), nn.Linear(4, 2)
        self.batch_first = batch_first

    def forward(self, x):
        y, _ = self.cells(x if self.batch_first else x.permute_dims((1, 0, 2)))
        return self.out(y[:, -1] if self.batch_first else y[-1])


class Attending(nn.Module):
    """An embedding, a norm, one block of attention with two heads, a residual link."""

    def __init__(self) -> None:
        super().__init__()
        self.symbols, self.norm = nn.Embedding(5, 4), nn.LayerNorm(4)
        self.mix, self.join, self.out = nn.Linear(4, 12), nn.Linear(4, 4), nn.Linear(4, 5)

    def forward(self, x):
        rows, time = x.shape
        h = self.symbols(x)
        parts = self.mix(self.norm(h)).reshape(rows, time, 3, 2, 2)
        q, k, v = (parts[:, :, i].permute_dims((0, 2, 1, 3)) for i in range(3))
        y = ops.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.join(y.permute_dims((0, 2, 1, 3)).reshape(rows, time, 4))
        return self.out(h)[:, -1]


def _images(*layers: nn.Module, flat: int) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 2))


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=(ROWS, *shape))


KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any], int]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), nn.Sigmoid()), lambda: normal(4), 3),
    "positions": (lambda: nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Flatten(), nn.Linear(15, 2)),
                  lambda: normal(3, 4), 2),
    "convolution": (lambda: _images(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                                    nn.Conv2d(4, 6, (2, 1), stride=2, groups=2), nn.Tanh(), flat=6),
                    lambda: normal(2, 6, 5), 2),
    "layer norm": (lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 2)),
                   lambda: normal(4), 2),
    "batch norm, evaluating": (lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)).eval(),
                               lambda: normal(4), 2),
    "prelu": (lambda: nn.Sequential(nn.Linear(4, 5), nn.PReLU(), nn.Linear(5, 2)), lambda: normal(4), 2),
    "own": (Own, lambda: normal(4), 5),
    "shared": (Shared, lambda: normal(4), 4),
    "lstm": (lambda: Recurrent(False), lambda: normal(5, 3), 2),
    "lstm, batch first": (lambda: Recurrent(True), lambda: normal(5, 3), 2),
    "attention": (Attending, lambda: RANDOM.integers(0, 5, (ROWS, 4)), 5),
    "residual": (lambda: nn.Sequential(nn.Linear(4, 4), nn.Residual(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)),
                                       nn.ReLU(), nn.Linear(4, 3)), lambda: normal(4), 3),
    "dropout": (lambda: nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Dropout(0.4), nn.Linear(9, 2)),
                lambda: normal(4), 2),
    "batch norm of channels": (lambda: _images(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
                                               nn.Conv2d(4, 3, 2, bias=False), nn.BatchNorm2d(3), nn.Tanh(), flat=18),
                               lambda: normal(2, 6, 5), 2),
    "batch norm": (lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)),
                   lambda: normal(4), 2),
}  # fmt: skip
"""(network, its inputs, how many outputs) by kind."""

MIXING = ("dropout", "batch norm", "batch norm of channels")
"""Where a sample alone is not what it is in the batch."""


def of_kind(kind: str, dtype: str = "float64") -> tuple[nn.Module, str, np.ndarray, np.ndarray]:
    """(network, loss, x, y)"""
    make, inputs, outputs = KINDS[kind]
    net, x = make().to(dtype).initialise(3), inputs()
    x = x.astype(dtype) if x.dtype.kind == "f" else x
    if "batch norm" in kind:
        for _, buffer in net.named_buffers():
            if buffer.spec.floating and buffer.ndim:
                buffer.fill(np.abs(RANDOM.normal(size=buffer.shape)) + 0.5)
    return net, "mse", x, RANDOM.normal(size=(ROWS, outputs)).astype(dtype)


def random_network(seed: int, dtype: str) -> tuple[nn.Module, str, np.ndarray, np.ndarray]:
    """A stack of linear layers, norms, activations, dropout and residual links, with a loss that fits."""
    draw = np.random.default_rng(seed)
    width, rows = int(draw.integers(1, 7)), int(draw.integers(1, 9))
    layers: list[nn.Module] = []
    first = width
    for _ in range(int(draw.integers(1, 5))):
        out = int(draw.integers(1, 7))
        layers.append(nn.Linear(width, out, bias=bool(draw.integers(4))))
        if draw.integers(4) == 0:
            layers.append(nn.LayerNorm(out))
        if draw.integers(5) == 0 and rows > 1:
            layers.append(nn.BatchNorm1d(out))
        activation = [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.GELU, nn.LeakyReLU, None, nn.SiLU][int(draw.integers(7))]
        if activation is not None:
            layers.append(activation())
        if draw.integers(5) == 0:
            layers.append(nn.Residual(nn.Linear(out, out), nn.Tanh()))
        if draw.integers(6) == 0:
            layers.append(nn.Dropout(0.3))
        width = out
    loss = ["mse", "mae", "huber", "cross_entropy", "binary_cross_entropy_with_logits"][int(draw.integers(5))]
    y: np.ndarray = draw.normal(size=(rows, width)).astype(dtype)
    if loss == "cross_entropy":
        y = draw.integers(0, width, rows)
    if loss.startswith("binary"):
        y = draw.integers(0, 2, (rows, width)).astype(dtype)
    net = nn.Sequential(*layers).to(dtype).initialise(seed)
    return net, loss, draw.normal(size=(rows, first)).astype(dtype), y


def gradients_of_the_step(net: nn.Module, loss: str, x: np.ndarray, y: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """The gradients with which one compiled step of training moved the weights, and what the pinned run says of it."""
    from chainrule.see.pinned import pinned
    from chainrule.training.head import loss_named
    from chainrule.training.options import StepOptions
    from chainrule.training.step import TrainingStep

    function = loss_named(loss)[1]
    trace = pinned(net, function, x, y, seed=seed)
    step = TrainingStep(lambda x, y: function(net(x), y), net, cr.optim.SGD(0.1), StepOptions(), None, seed)
    step((x, y), 0.0)
    state = step.state
    used = {n: v.copy() for n, v in zip(state.names, state.views(state.gradient), strict=True)}
    return {"trace": trace, "used": used}
