"""Activation layers, under PyTorch's names, arguments and defaults."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from chainrule import ops
from chainrule.errors import ArgumentError, ShapeError
from chainrule.graph import Tensor
from chainrule.nn.initialisers import Constant
from chainrule.nn.layers import positive
from chainrule.nn.module import Module, Parameter


class Activation(Module):
    """A layer without parameters that applies one operation, the same to every element or along an axis."""

    defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__()
        given = dict(zip(self.defaults, values, strict=False))
        if named.keys() - self.defaults.keys() or len(values) > len(self.defaults) or given.keys() & named.keys():
            wanted = ", ".join(f"{k}={v!r}" for k, v in self.defaults.items()) or "no arguments"
            got = ", ".join([*map(repr, values), *(f"{k}={v!r}" for k, v in named.items())])
            raise ArgumentError(f"{type(self).__name__} takes {wanted}, got {got}")
        for name, value in {**self.defaults, **given, **named}.items():
            setattr(self, name, _option(f"{type(self).__name__}: {name}", value, self.defaults[name]))

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def settle(self, following: str) -> str:
        return type(self).__name__

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.defaults}


def _option(place: str, value: Any, default: Any) -> Any:
    """``value`` as what its default is: a finite number, a whole number or a word."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if isinstance(default, float):
        if not number or not math.isfinite(value):
            raise ArgumentError(f"{place} must be a finite number, got {value!r}")
        return float(value)
    if isinstance(default, int):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
            raise ArgumentError(f"{place} must be a whole number, got {value!r}")
        return int(value)
    if value not in ("none", "tanh"):
        raise ArgumentError(f"{place} is 'none' or 'tanh', got {value!r}")
    return value


def activation(name: str, operation: Any, source: str, **defaults: Any) -> type[Activation]:
    """Declare the layer ``name`` that applies ``operation`` with its options as keywords."""

    def forward(self: Activation, x: Tensor) -> Tensor:
        return operation(x, **self.options())

    formula = getattr(operation, "formula", None) or "y = x Φ(x), or its form with tanh"
    text = f"{formula}.   x: any shape -> y: the same shape ({source})."
    body = {"forward": forward, "defaults": defaults, "__doc__": text, "__module__": __name__}
    return type(name, (Activation,), body)


Sigmoid = activation("Sigmoid", ops.sigmoid, "the logistic function, Verhulst 1838")
Tanh = activation("Tanh", ops.tanh, "LeCun, Bottou, Orr & Müller 1998, section 4.4")
ReLU = activation("ReLU", ops.relu, "Nair & Hinton 2010")
LeakyReLU = activation("LeakyReLU", ops.leaky_relu, "Maas, Hannun & Ng 2013", negative_slope=0.01)
ELU = activation("ELU", ops.elu, "Clevert, Unterthiner & Hochreiter 2016", alpha=1.0)
SELU = activation("SELU", ops.selu, "Klambauer, Unterthiner, Mayr & Hochreiter 2017")
GELU = activation("GELU", ops.gelu, "Hendrycks & Gimpel 2016", approximate="none")
SiLU = activation("SiLU", ops.silu, "Hendrycks & Gimpel 2016; Ramachandran, Zoph & Le 2017")
Mish = activation("Mish", ops.mish, "Misra 2020")
Softplus = activation("Softplus", ops.softplus, "Dugas, Bengio, Bélisle, Nadeau & Garcia 2001", beta=1.0)
Softsign = activation("Softsign", ops.softsign, "Bergstra, Desjardins, Lamblin & Bengio 2009")
Hardtanh = activation("Hardtanh", ops.hardtanh, "Collobert 2004", min_val=-1.0, max_val=1.0)
Hardsigmoid = activation("Hardsigmoid", ops.hardsigmoid, "Courbariaux, Bengio & David 2015, with PyTorch's slope 1/6")
Hardswish = activation("Hardswish", ops.hardswish, "Howard et al. 2019")


class Softmax(Activation):
    """y = e^x / Σ e^x along ``dim``, the last axis by default.

    x: any shape -> y: the same shape (Bridle 1990). Not before cross_entropy, which contains it: the error would pass
    through softmax twice and shrink.
    """

    dim: int
    defaults: ClassVar[dict[str, Any]] = {"dim": -1}

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(x, self.dim)


class LogSoftmax(Activation):
    """y = x - ln Σ e^x along ``dim``, the last axis by default: the logarithm of Softmax, without overflow.

    x: any shape -> y: the same shape.
    """

    dim: int
    defaults: ClassVar[dict[str, Any]] = {"dim": -1}

    def forward(self, x: Tensor) -> Tensor:
        return ops.log_softmax(x, self.dim)


class PReLU(Module):
    """y = x where x > 0, else w x, with learned slopes w: one, or one a channel (He, Zhang, Ren & Sun 2015).

    x: [rows, channels, ...] (any shape if there is one slope) -> y: the same shape; w: [num_parameters].

    >>> from chainrule import nn
    >>> nn.PReLU()([[-4.0, 2.0]]).tolist()
    [[-1.0, 2.0]]
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        super().__init__()
        self.num_parameters = positive("PReLU", "num_parameters", num_parameters)
        self.init = _option("PReLU: init", init, 0.25)
        self.weight = Parameter((self.num_parameters,), Constant(self.init))

    def forward(self, x: Tensor) -> Tensor:
        n = self.num_parameters
        if n > 1 and (x.ndim < 2 or x.shape[1] != n):
            raise ShapeError(f"PReLU: {n} slopes need [rows, {n}, ...], got {x.spec}: set num_parameters to 1 or to "
                             "the number of channels that the layer receives")  # fmt: skip
        return ops.prelu(x, self.weight)

    def settle(self, following: str) -> str:
        return "PReLU"

    def options(self) -> dict[str, Any]:
        return {"num_parameters": self.num_parameters, "init": self.init}


ACTIVATIONS: dict[str, type[Module]] = {
    "sigmoid": Sigmoid, "tanh": Tanh, "relu": ReLU, "leaky_relu": LeakyReLU, "prelu": PReLU, "elu": ELU, "selu": SELU,
    "gelu": GELU, "silu": SiLU, "mish": Mish, "softplus": Softplus, "softsign": Softsign, "hardtanh": Hardtanh,
    "hardsigmoid": Hardsigmoid, "hardswish": Hardswish,
}  # fmt: skip
"""Hidden-layer activations by the names that the command line takes."""
