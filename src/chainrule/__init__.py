"""Backpropagation you can see through: train neural networks, see the backward pass, mend what stalls."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chainrule.version import __version__ as __version__

if TYPE_CHECKING:
    # "as" tells type checkers that a name is passed on.
    from chainrule import data as data
    from chainrule import nn as nn
    from chainrule import ops as ops
    from chainrule import optim as optim
    from chainrule.adapters import diagnose as diagnose
    from chainrule.adapters import watch as watch
    from chainrule.autodiff import check_gradients as check_gradients
    from chainrule.autodiff import grad as grad
    from chainrule.autodiff import hessian as hessian
    from chainrule.autodiff import hvp as hvp
    from chainrule.autodiff import jacobian as jacobian
    from chainrule.autodiff import jvp as jvp
    from chainrule.autodiff import value_and_grad as value_and_grad
    from chainrule.autodiff import vjp as vjp
    from chainrule.backends.native.runtime import set_threads as set_threads
    from chainrule.backends.native.runtime import threads as threads
    from chainrule.compiler import compile as compile
    from chainrule.graph import Tensor as Tensor
    from chainrule.graph import constant as constant
    from chainrule.graph import no_grad as no_grad
    from chainrule.graph import tensor as tensor
    from chainrule.ops import binary_cross_entropy as binary_cross_entropy
    from chainrule.ops import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
    from chainrule.ops import checkpoint as checkpoint
    from chainrule.ops import cross_entropy as cross_entropy
    from chainrule.ops import elementwise as elementwise
    from chainrule.ops import huber as huber
    from chainrule.ops import mae as mae
    from chainrule.ops import manual_seed as manual_seed
    from chainrule.ops import mse as mse
    from chainrule.ops import primitive as primitive
    from chainrule.ops import scan as scan
    from chainrule.ops import stop_gradient as stop_gradient
    from chainrule.ops import where as where
    from chainrule.see.budget import Flow as Flow
    from chainrule.see.budget import flow as flow
    from chainrule.see.derivation import derivation as derivation
    from chainrule.see.explanation import Explanation as Explanation
    from chainrule.see.explanation import explain as explain
    from chainrule.see.gradient import activations as activations
    from chainrule.see.gradient import gradients as gradients
    from chainrule.training import Callback as Callback
    from chainrule.training import EarlyStopping as EarlyStopping
    from chainrule.training import Run as Run
    from chainrule.training.compare import compare as compare
    from chainrule.training.fit import fit as fit
    from chainrule.training.step import step as step

# Where each public name lives. Names are loaded when they are first used, so that ``import chainrule`` is fast.
_HOMES = {
    "chainrule.backends.native.runtime": "set_threads threads",
    "chainrule.autodiff": "check_gradients grad hessian hvp jacobian jvp value_and_grad vjp",
    "chainrule.compiler": "compile",
    "chainrule.adapters": "diagnose watch",
    "chainrule.graph": "Tensor constant no_grad tensor",
    "chainrule.ops": "binary_cross_entropy binary_cross_entropy_with_logits checkpoint cross_entropy elementwise huber "
    "mae manual_seed mse primitive scan stop_gradient where",
    "chainrule.see": "Explanation Flow activations explain flow gradients",
    "chainrule.see.derivation": "derivation",
    "chainrule.training": "Callback EarlyStopping Run compare fit step",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}
_MODULES = (
    "adapters",
    "autodiff",
    "compiler",
    "data",
    "doctor",
    "errors",
    "graph",
    "nn",
    "ops",
    "optim",
    "record",
    "see",
    "training",
)

__all__ = [
    *_HOME,
    "data",
    "nn",
    "ops",
    "optim",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        import_module("chainrule.ops")  # a tensor's operators are found among the declared operations
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f"chainrule.{name}")
    raise AttributeError(f"module 'chainrule' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
