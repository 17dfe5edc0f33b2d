"""Backpropagation you can see through: train neural networks, see the backward pass, mend what stalls."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from chainrule import data, nn, optim
    from chainrule.autodiff import check_gradients, grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
    from chainrule.backends.native.runtime import set_threads, threads
    from chainrule.compiler import compile
    from chainrule.graph import Tensor, constant, no_grad, tensor
    from chainrule.ops import (
        binary_cross_entropy,
        binary_cross_entropy_with_logits,
        checkpoint,
        cross_entropy,
        elementwise,
        huber,
        mae,
        manual_seed,
        mse,
        primitive,
        scan,
        stop_gradient,
        where,
    )
    from chainrule.see import activations, gradients
    from chainrule.training import Callback, EarlyStopping, Run, fit, step

# Where each public name lives. Names are loaded when they are first used, so that ``import chainrule`` is fast.
_HOMES = {
    "chainrule.backends.native.runtime": "set_threads threads",
    "chainrule.autodiff": "check_gradients grad hessian hvp jacobian jvp value_and_grad vjp",
    "chainrule.compiler": "compile",
    "chainrule.graph": "Tensor constant no_grad tensor",
    "chainrule.ops": "binary_cross_entropy binary_cross_entropy_with_logits checkpoint cross_entropy elementwise huber "
    "mae manual_seed mse primitive scan stop_gradient where",
    "chainrule.see": "activations gradients",
    "chainrule.training": "Callback EarlyStopping Run fit step",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}
_MODULES = ("autodiff", "compiler", "data", "errors", "graph", "nn", "ops", "optim", "record", "see", "training")

__all__ = [
    *_HOME,
    "data",
    "nn",
    "ops",
    "optim",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f"chainrule.{name}")
    raise AttributeError(f"module 'chainrule' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
