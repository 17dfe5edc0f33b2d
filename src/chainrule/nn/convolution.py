"""Layers for images, [rows, channels, height, width]: convolution and pooling."""

from __future__ import annotations

import math
from typing import Any

from chainrule.errors import ArgumentError
from chainrule.graph import Tensor
from chainrule.nn.initialisers import Initialiser, TorchBias, Zeros, by_activation, torch_weight
from chainrule.nn.layers import positive
from chainrule.nn.module import Module, Parameter
from chainrule.ops import avg_pool2d, conv2d, max_pool2d
from chainrule.ops.convolution import margins, pair


class Conv2d(Module):
    """y[n, o, i, j] = Σ w[o, c, k, l] x[n, c, i s + k d, j s' + l d'] + b[o]: one small weight for all places.

    x: [rows, in_channels, h, w] -> y: [rows, out_channels, h', w'], h' = ⌊(h + 2 padding - dilation (kernel - 1) - 1) /
    stride⌋ + 1; weight [out, in / groups, *kernel], bias [out]. Sizes are numbers or pairs (down, across); padding may
    be "same" or "valid" too. groups: channels are cut into that many parts, each with its own weights. init: as in
    Linear; the inputs of an output are the channels of its group times the kernel.

    >>> import numpy as np
    >>> from chainrule import nn
    >>> edges = nn.Conv2d(1, 1, (1, 2), init=nn.Constant(1.0))
    >>> edges(np.array([[[[1.0, 2.0, 4.0]]]])).tolist()
    [[[[3.0, 6.0]]]]
    >>> nn.Conv2d(3, 8, 3, padding="same")(np.zeros((2, 3, 5, 7))).shape
    (2, 8, 5, 7)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        init: str | Initialiser = "auto",
    ) -> None:
        super().__init__()
        self.in_channels = positive("Conv2d", "in_channels", in_channels)
        self.out_channels = positive("Conv2d", "out_channels", out_channels)
        self.groups = positive("Conv2d", "groups", groups)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ArgumentError(
                f"Conv2d: {in_channels} in_channels and {out_channels} out_channels do not divide into {groups} groups"
            )
        self.kernel_size = pair("Conv2d", "kernel_size", kernel_size, 1)
        self.stride, self.dilation = pair("Conv2d", "stride", stride, 1), pair("Conv2d", "dilation", dilation, 1)
        margins(padding, self.kernel_size, self.stride, self.dilation)
        self.padding = padding if isinstance(padding, str) else pair("Conv2d", "padding", padding, 0)
        if init not in ("auto", "torch") and not isinstance(init, Initialiser):
            raise ArgumentError(f"Conv2d: init is 'auto', 'torch' or an initialiser of chainrule.nn, got {init!r}")
        self.init = init
        chosen = torch_weight() if init == "torch" else by_activation("") if init == "auto" else init
        inputs = self.in_channels // self.groups
        self.weight = Parameter((self.out_channels, inputs, *self.kernel_size), chosen)  # type: ignore[arg-type]
        first = TorchBias(inputs * math.prod(self.kernel_size)) if init == "torch" else Zeros()
        self.bias = Parameter((self.out_channels,), first) if bias else None

    def settle(self, following: str) -> str:
        if self.init == "auto":
            self.weight.initialiser = by_activation(following)
        return ""

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def options(self) -> dict[str, Any]:
        return {
            "in_channels": self.in_channels, "out_channels": self.out_channels, "kernel_size": self.kernel_size,
            "stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups,
            "bias": self.bias is not None,
        }  # fmt: skip


class Pooling(Module):
    """One number for each window of an image."""

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = pair(name, "kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else pair(name, "stride", stride, 1)
        self.padding = pair(name, "padding", padding, 0)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ArgumentError(
                f"{name}: padding {self.padding} is more than half of the window {self.kernel_size}: use less padding"
            )

    def settle(self, following: str) -> str:
        return following

    def options(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size, "stride": self.stride, "padding": self.padding}


class MaxPool2d(Pooling):
    """y[…, i, j] = the largest x of window i, j. Windows are ``stride`` apart, by default side by side.

    x: [..., h, w] -> y: [..., h', w'], h' = ⌊(h + 2 padding - kernel) / stride⌋ + 1. Padding never wins. Of equal
    elements the first gets the error.

    >>> import numpy as np
    >>> from chainrule import nn
    >>> nn.MaxPool2d(2)(np.array([[[[1.0, 2.0, 5.0, 6.0], [3.0, 4.0, 7.0, 8.0]]]])).tolist()
    [[[[4.0, 8.0]]]]
    """

    def forward(self, x: Tensor) -> Tensor:
        return max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(Pooling):
    """y[…, i, j] = the mean of window i, j of x, zeros of the padding counted. Shapes as in MaxPool2d.

    >>> import numpy as np
    >>> from chainrule import nn
    >>> nn.AvgPool2d(2)(np.array([[[[1.0, 2.0, 5.0, 6.0], [3.0, 4.0, 7.0, 8.0]]]])).tolist()
    [[[[2.5, 6.5]]]]
    """

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool2d(x, self.kernel_size, self.stride, self.padding)
