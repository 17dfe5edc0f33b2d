"""Activation layers, under PyTorch's names, arguments and defaults."""

from __future__ import annotations

from typing import Any, ClassVar

from chainrule import ops
from chainrule.errors import ArgumentError
from chainrule.graph import Tensor
from chainrule.nn.initialisers import Constant
from chainrule.nn.layers import positive
from chainrule.nn.module import Module, Parameter


class Activation(Module):
    """A layer without parameters that applies one operation."""

    defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__()
        given = dict(zip(self.defaults, values, strict=False)) | named
        unknown = named.keys() - self.defaults.keys()
        if unknown or len(values) > len(self.defaults):
            wanted = ", ".join(f"{k}={v}" for k, v in self.defaults.items()) or "no arguments"
            raise ArgumentError(f"{type(self).__name__} takes {wanted}, got {values or ''}{named or ''}")
        for name, default in self.defaults.items():
            setattr(self, name, given.get(name, default))

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.defaults}


def activation(name: str, operation: Any, **defaults: Any) -> type[Activation]:
    """Declare the layer ``name`` that applies ``operation`` with its options as keywords."""

    def forward(self: Activation, x: Tensor) -> Tensor:
        return operation(x, **self.options())

    formula = getattr(operation, "formula", None) or (operation.__doc__ or "").splitlines()[0]
    body = {"forward": forward, "defaults": defaults, "__doc__": f"{formula}.", "__module__": __name__}
    return type(name, (Activation,), body)


Sigmoid = activation("Sigmoid", ops.sigmoid)
Tanh = activation("Tanh", ops.tanh)
ReLU = activation("ReLU", ops.relu)
LeakyReLU = activation("LeakyReLU", ops.leaky_relu, negative_slope=0.01)
ELU = activation("ELU", ops.elu, alpha=1.0)
SELU = activation("SELU", ops.selu)
GELU = activation("GELU", ops.gelu, approximate="none")
SiLU = activation("SiLU", ops.silu)
Mish = activation("Mish", ops.mish)
Softplus = activation("Softplus", ops.softplus, beta=1.0)
Softsign = activation("Softsign", ops.softsign)
Hardtanh = activation("Hardtanh", ops.hardtanh, min_val=-1.0, max_val=1.0)
Hardsigmoid = activation("Hardsigmoid", ops.hardsigmoid)
Hardswish = activation("Hardswish", ops.hardswish)


class Softmax(Activation):
    """y = e^x / Σ e^x along ``dim``, the last axis by default.

    Not before cross_entropy, which contains it: the error would pass through softmax twice and shrink.
    """

    defaults: ClassVar[dict[str, Any]] = {"dim": -1}

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(x, self.dim)


class LogSoftmax(Activation):
    """y = x - ln Σ e^x along ``dim``, the last axis by default."""

    defaults: ClassVar[dict[str, Any]] = {"dim": -1}

    def forward(self, x: Tensor) -> Tensor:
        return ops.log_softmax(x, self.dim)


class PReLU(Module):
    """y = x where x > 0, else w x, with learned slopes w: one, or one a channel (He et al. 2015)."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        super().__init__()
        self.num_parameters, self.init = positive("PReLU", "num_parameters", num_parameters), init
        self.weight = Parameter((self.num_parameters,), Constant(init))

    def forward(self, x: Tensor) -> Tensor:
        return ops.prelu(x, self.weight)

    def options(self) -> dict[str, Any]:
        return {"num_parameters": self.num_parameters, "init": self.init}


ACTIVATIONS: dict[str, type[Module]] = {
    "sigmoid": Sigmoid, "tanh": Tanh, "relu": ReLU, "leaky_relu": LeakyReLU, "prelu": PReLU, "elu": ELU, "selu": SELU,
    "gelu": GELU, "silu": SiLU, "mish": Mish, "softplus": Softplus, "softsign": Softsign, "hardtanh": Hardtanh,
    "hardsigmoid": Hardsigmoid, "hardswish": Hardswish,
}  # fmt: skip
"""Hidden-layer activations by the names that the command line takes."""
