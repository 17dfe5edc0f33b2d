"""Layers with parameters or modes: each a few lines of forward pass, and no derivative."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from chainrule.errors import ArgumentError, ShapeError
from chainrule.graph import Tensor, write
from chainrule.nn.initialisers import Initialiser, Ones, TorchBias, Zeros, by_activation, torch_weight
from chainrule.nn.module import Buffer, Module, Parameter
from chainrule.ops import batch_norm, dropout_mask, flatten, layer_norm, linear, reshape, sqrt, stop_gradient
from chainrule.ops.random import present_key


def positive(layer: str, name: str, value: Any) -> int:
    """A size as an int; ArgumentError unless it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ArgumentError(f"{layer}: {name} must be a whole number of at least 1, got {value!r}")
    return int(value)


class Identity(Module):
    """y = x, of any shape."""

    def settle(self, following: str) -> str:
        return following

    def forward(self, x: Tensor) -> Tensor:
        return x


class Linear(Module):
    """y = x Wᵀ + b.   x: [..., in_features] -> y: [..., out_features]; weight [out, in], bias [out].

    init: "auto" (Kaiming or Xavier by the activation that follows; bias 0), "torch" (PyTorch's own), or an initialiser
    for the weight. What follows is looked up through dropout, normalisation, Flatten and nested Sequentials; in a
    module of your own, it is the next activation among the attributes in the order in which they were set.

    >>> from chainrule import nn
    >>> layer = nn.Linear(2, 1, init=nn.Constant(0.5))
    >>> layer
    Linear(in_features=2, out_features=1, bias=True)    # weight: all 0.5; bias: all 0
    3 parameters
    >>> layer([[1.0, 3.0], [2.0, 0.0]]).tolist()
    [[2.0], [1.0]]
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, init: str | Initialiser = "auto"
    ) -> None:
        super().__init__()
        self.in_features = positive("Linear", "in_features", in_features)
        self.out_features = positive("Linear", "out_features", out_features)
        if init not in ("auto", "torch") and not isinstance(init, Initialiser):
            raise ArgumentError(f"Linear: init is 'auto', 'torch' or an initialiser of chainrule.nn, got {init!r}")
        self.init = init
        chosen = torch_weight() if init == "torch" else by_activation("") if init == "auto" else init
        self.weight = Parameter((self.out_features, self.in_features), chosen)  # type: ignore[arg-type]
        first = TorchBias(self.in_features) if init == "torch" else Zeros()
        self.bias = Parameter((self.out_features,), first) if bias else None

    def settle(self, following: str) -> str:
        if self.init == "auto":
            self.weight.initialiser = by_activation(following)
        return ""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)

    def options(self) -> dict[str, Any]:
        return {"in_features": self.in_features, "out_features": self.out_features, "bias": self.bias is not None}


class Dropout(Module):
    """y = x m / (1 - p), m being 0 with probability ``p``, else 1; in evaluation mode y = x.   y has x's shape.

    Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov 2014. The draws are numbered by step, row and feature, so
    that a run can be replayed from any step.

    >>> from chainrule import nn, ops
    >>> ops.manual_seed(0)
    >>> drop = nn.Dropout(0.5)
    >>> drop([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]).tolist()
    [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0], [2.0, 0.0, 2.0]]
    >>> drop.eval()([[1.0, 1.0]]).tolist()
    [[1.0, 1.0]]
    """

    draws = True

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 1:
            raise ArgumentError(f"Dropout: p is a probability between 0 and 1, got {p!r}")
        self.p = float(p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return x * dropout_mask(x, self.p, present_key(), self.next_stream())

    def settle(self, following: str) -> str:
        return following

    def options(self) -> dict[str, Any]:
        return {"p": self.p}


class Flatten(Module):
    """y = x with the axes ``start_dim`` to ``end_dim`` made one, by default [rows, ...] -> [rows, features]."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        return flatten(x, self.start_dim, self.end_dim)

    def settle(self, following: str) -> str:
        return following

    def options(self) -> dict[str, Any]:
        return {"start_dim": self.start_dim, "end_dim": self.end_dim}


class BatchNorm(Module):
    """Mean and variance of each feature over the batch and all places, for the shapes that a layer below takes."""

    RANKS: ClassVar[tuple[int, ...]]
    """How many axes x may have."""
    SHAPES: ClassVar[str]
    """The same for a person; {n} stands for the number of features."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        n = self.num_features = positive(type(self).__name__, "num_features", num_features)
        self.eps, self.momentum, self.affine, self.track_running_stats = eps, momentum, affine, track_running_stats
        self.weight = Parameter((n,), Ones()) if affine else None
        self.bias = Parameter((n,), Zeros()) if affine else None
        if track_running_stats:
            self.running_mean, self.running_var = Buffer((n,), Zeros()), Buffer((n,), Ones())
            self.num_batches_tracked = Buffer((), Zeros(), "int64")

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim not in self.RANKS or x.shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}: expected {self.SHAPES.format(n=self.num_features)}, got {x.spec}: "
                "set num_features to the width of what the layer receives"
            )
        weight = np.ones(self.num_features, x.dtype) if self.weight is None else self.weight
        bias = np.zeros(self.num_features, x.dtype) if self.bias is None else self.bias
        if not self.training and self.track_running_stats:
            wide = (1, self.num_features) + (1,) * (x.ndim - 2)
            scale = weight / sqrt(self.running_var + self.eps)
            return x * reshape(scale, wide) + reshape(bias - self.running_mean * scale, wide)
        values_per_feature = x.size // self.num_features
        if values_per_feature == 1 or (self.training and values_per_feature == 0):
            raise ShapeError(
                f"{type(self).__name__}: a batch of one value a feature has no variance to train with: use a larger "
                "batch_size, drop_last=True, or LayerNorm"
            )
        y, mean, variance = batch_norm(x, weight, bias, eps=self.eps)
        if self.training and self.track_running_stats:
            self._track(stop_gradient(mean), stop_gradient(variance) * (values_per_feature / (values_per_feature - 1)))
        return y

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        write(self.num_batches_tracked, self.num_batches_tracked + 1)
        # The count as a float of the statistics' width: integers divide as float32.
        count = self.num_batches_tracked.astype(self.running_mean.dtype)
        share = 1.0 / count if self.momentum is None else self.momentum
        for running, now in ((self.running_mean, mean), (self.running_var, variance)):
            write(running, (running * (1 - share) + now * share).astype(running.dtype))

    def settle(self, following: str) -> str:
        return following

    def options(self) -> dict[str, Any]:
        return {
            "num_features": self.num_features, "eps": self.eps, "momentum": self.momentum, "affine": self.affine,
            "track_running_stats": self.track_running_stats,
        }  # fmt: skip


class BatchNorm1d(BatchNorm):
    """y = (x - mean) / √(var + eps) · w + b, mean and variance of each feature over the batch (Ioffe & Szegedy 2015).

    x: [rows, features] or [rows, features, length] -> y: the same shape; w and b: [features]. In evaluation the running
    mean and variance are used; they move by ``momentum`` (None: the plain average over all batches), the variance with
    n - 1, as PyTorch. A batch of one value a feature has no variance: ShapeError.

    >>> from chainrule import nn
    >>> norm = nn.BatchNorm1d(2)
    >>> norm([[1.0, 10.0], [3.0, 30.0]]).numpy().round(3).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    >>> norm.running_mean.numpy(), norm.running_var.numpy()
    (array([0.2, 2. ], dtype=float32), array([ 1.1, 20.9], dtype=float32))
    >>> norm.eval()([[0.2, 2.0]]).tolist()
    [[0.0, 0.0]]
    """

    RANKS = (2, 3)
    SHAPES = "[rows, {n}] or [rows, {n}, length]"


class BatchNorm2d(BatchNorm):
    """y = (x - mean) / √(var + eps) · w + b, mean and variance of each channel over the images and their places.

    x: [rows, channels, height, width] -> y: the same shape; w and b: [channels] (Ioffe & Szegedy 2015, section 3.2).
    The rest is that of BatchNorm1d.

    >>> import numpy as np
    >>> from chainrule import nn
    >>> norm = nn.BatchNorm2d(2)
    >>> y = norm(np.array([[[[1.0, 3.0]], [[10.0, 30.0]]]]))
    >>> y.shape, y.numpy().round(3).tolist()
    ((1, 2, 1, 2), [[[[-1.0, 1.0]], [[-1.0, 1.0]]]])
    >>> norm.running_mean.numpy(), norm.running_var.numpy()
    (array([0.2, 2. ], dtype=float32), array([ 1.1, 20.9], dtype=float32))
    """

    RANKS = (4,)
    SHAPES = "[rows, {n}, height, width]"


class LayerNorm(Module):
    """y = (x - mean) / √(var + eps) · w + b, mean and variance of each row over its last axes.

    x: [..., *normalized_shape] -> y: the same shape; w and b: ``normalized_shape`` (Ba, Kiros & Hinton 2016, equation
    4). A row does not depend on the others, so training and evaluation are the same.
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)
        self.normalized_shape = tuple(positive("LayerNorm", "normalized_shape", n) for n in shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = Parameter(self.normalized_shape, Ones()) if elementwise_affine else None
        self.bias = Parameter(self.normalized_shape, Zeros()) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        weight = np.ones(self.normalized_shape, x.dtype) if self.weight is None else self.weight
        bias = np.zeros(self.normalized_shape, x.dtype) if self.bias is None else self.bias
        return layer_norm(x, weight, bias, eps=self.eps)

    def settle(self, following: str) -> str:
        return following

    def options(self) -> dict[str, Any]:
        return {
            "normalized_shape": self.normalized_shape, "eps": self.eps, "elementwise_affine": self.elementwise_affine,
            "bias": self.bias is not None,
        }  # fmt: skip
