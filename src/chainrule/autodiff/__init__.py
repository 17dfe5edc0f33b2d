"""Derivatives of functions: the doors to the backward pass, and the check of it by numbers."""

from chainrule.autodiff.check import GradientCheck, check_gradients
from chainrule.autodiff.gradients import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from chainrule.autodiff.structure import leaves, rebuilt

__all__ = [
    "GradientCheck",
    "check_gradients",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "leaves",
    "rebuilt",
    "value_and_grad",
    "vjp",
]
