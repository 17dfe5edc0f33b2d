"""Seeing: the backward pass of a network as numbers and words."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chainrule.see.explain import Explanation, explain, explain_trace
    from chainrule.see.flow import Flow, flow, flow_trace
    from chainrule.see.gradients import Gradients, activations, gradients

__all__ = [
    "Explanation",
    "Flow",
    "Gradients",
    "activations",
    "explain",
    "explain_trace",
    "flow",
    "flow_trace",
    "gradients",
]

# Loaded with the first name that needs them: a trace is explained without networks and compilers.
HOMES = {
    "explain": ("Explanation", "explain", "explain_trace"),
    "flow": ("Flow", "flow", "flow_trace"),
    "gradients": ("Gradients", "activations", "gradients"),
}


def __getattr__(name: str) -> Any:
    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"chainrule.see.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
