"""Layers: the modules of a PyTorch model that hold parameters, and what is known of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

DENSE = ("Linear", "Conv1d", "Conv2d", "Conv3d")
"""Layers whose gradient is input activation times error, so that it is taken apart into factors."""

# Gain of an activation function that keeps the size of the signal, He et al. 2015 and PyTorch's calculate_gain.
GAINS = {"relu": math.sqrt(2), "leaky_relu": math.sqrt(2), "gelu": math.sqrt(2), "silu": math.sqrt(2), "tanh": 5 / 3}


@dataclass(frozen=True, eq=False)
class Layer:
    """One module that holds parameters of its own. parameters: (name without the layer, parameter)."""

    name: str
    module: Any
    parameters: tuple[tuple[str, Any], ...]

    @property
    def kind(self) -> str:
        """Its class as PyTorch names it; of a subclass of Linear or a convolution, the name of that."""
        return next((c.__name__ for c in type(self.module).__mro__ if c.__name__ in DENSE), type(self.module).__name__)

    @property
    def dense(self) -> bool:
        """Whether its gradient can be taken apart: a Linear or a convolution without groups."""
        return self.kind in DENSE and getattr(self.module, "groups", 1) == 1 and self.weight is not None

    @property
    def weight(self) -> Any:
        """The parameter that stands for the layer: `weight`, or its largest matrix."""
        named = dict(self.parameters)
        if "weight" in named:
            return named["weight"]
        matrices = [p for _, p in self.parameters if p.dim() > 1] or [p for _, p in self.parameters]
        return max(matrices, key=lambda p: p.numel(), default=None)

    @property
    def weight_name(self) -> str:
        """Name of that parameter in the layer."""
        return next((n for n, p in self.parameters if p is self.weight), "weight")

    def full(self, parameter: str) -> str:
        """Name of a parameter in `state_dict`."""
        return f"{self.name}.{parameter}" if self.name else parameter


def layers_of(model: Any) -> tuple[Layer, ...]:
    """Every module with parameters of its own, each once, in the order in which the model defines them."""
    from torch.nn.parameter import is_lazy

    found = []
    for name, module in model.named_modules():
        own = tuple((n, p) for n, p in module.named_parameters(recurse=False) if not is_lazy(p))
        if own:
            found.append(Layer(name.replace("_orig_mod.", ""), module, own))
    return tuple(found)


def hidden_reason(model: Any) -> str | None:
    """Why nothing can be seen inside the model's layers, or None: compiled and scripted code runs outside Python."""
    import torch

    for module in model.modules():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            return (
                "the model is compiled by torch.compile, so what passes inside it cannot be seen: loss, gradients, "
                "updates and the training loop are. To see its layers too, watch the model before it is compiled"
            )
        if isinstance(module, torch.jit.ScriptModule):
            return (
                "the model is scripted by torch.jit, so what passes inside it cannot be seen: loss, gradients, "
                "updates and the training loop are. To see its layers too, watch the Python model"
            )
    return None


def follows_mode(module: Any) -> bool:
    """Whether the module acts differently in training and in evaluation mode."""
    import torch

    if isinstance(module, torch.nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, torch.nn.modules.batchnorm._NormBase):
        frozen = module.affine and not any(p.requires_grad for p in module.parameters())
        return bool(module.track_running_stats) and not frozen  # a frozen one is kept as it was on purpose
    if isinstance(module, torch.nn.RNNBase | torch.nn.MultiheadAttention):
        return float(module.dropout) > 0
    return False


def fan_in(layer: Layer) -> int | None:
    """Numbers that one output depends on."""
    weight = layer.weight
    return int(weight[0].numel()) if layer.kind in DENSE and weight is not None else None


def outputs_of(layer: Layer) -> int | None:
    """Units or channels."""
    module = layer.module
    for name in ("out_features", "out_channels", "hidden_size", "embedding_dim", "num_features", "embed_dim"):
        if isinstance(getattr(module, name, None), int):
            return int(getattr(module, name))
    return None


def fitting_std(layer: Layer, activation: str | None) -> float | None:
    """Standard deviation of weights that keeps the size of the signal: gain / sqrt(fan-in)."""
    inputs = fan_in(layer)
    return None if not inputs else GAINS.get(activation or "", 1.0) / math.sqrt(inputs)
