"""Objective: the user's loss as a function of (prediction, target), from their criterion or from the autograd graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FUNCTIONS = {
    "mse": "mse_loss", "mae": "l1_loss", "huber": "huber_loss", "smooth_l1": "smooth_l1_loss", "nll": "nll_loss",
    "cross_entropy": "cross_entropy", "binary_cross_entropy": "binary_cross_entropy",
    "binary_cross_entropy_with_logits": "binary_cross_entropy_with_logits", "kl_div": "kl_div",
    "soft_margin": "soft_margin_loss", "multi_margin": "multi_margin_loss",
}  # fmt: skip
"""Functions of torch.nn.functional by the name of the loss."""


def objective(criterion: Any, name: str | None) -> Callable[[Any, Any], Any] | None:
    """The loss to try with: the criterion if there is one, PyTorch's own by its name, or None for one of the user's."""
    import torch

    if callable(criterion):
        return criterion
    if name == "probability_cross_entropy":
        return lambda p, y: torch.nn.functional.nll_loss(torch.log(p), y)
    function = FUNCTIONS.get(name or "")
    return None if function is None else getattr(torch.nn.functional, function)
