"""Seeing: the backward pass of a network as numbers and words."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chainrule.see.budget import Flow, flow, flow_trace
    from chainrule.see.explanation import Explanation, explain, explain_trace
    from chainrule.see.gradient import Gradients, activations, gradients

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
    "explanation": ("Explanation", "explain", "explain_trace"),
    "budget": ("Flow", "flow", "flow_trace"),
    "gradient": ("Gradients", "activations", "gradients"),
}


def __getattr__(name: str) -> Any:
    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"chainrule.see.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
