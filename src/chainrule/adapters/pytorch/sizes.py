"""Sizes: the numbers of `record.quantities` measured on PyTorch tensors, where they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

SAFE = (1e-12, 1e15)
"""Root mean squares for which the squares may be added up in float32 as they are."""


def rms(x: Any) -> float:
    """Root mean square, without overflow or underflow of the squares; NaN or inf as found; 0 if empty."""
    import torch

    if not x.numel():
        return 0.0
    if not x.is_floating_point():
        x = x.float()
    if x.element_size() >= 4:
        plain = float(torch.linalg.vector_norm(x)) / math.sqrt(x.numel())
        if SAFE[0] < plain < SAFE[1]:  # no square that counts has left what float32 holds
            return plain
    largest = float(x.abs().amax())
    if largest == 0 or not math.isfinite(largest):
        return largest
    wide = x.float() if x.element_size() < 4 else x
    return largest * float((wide / largest).norm()) / math.sqrt(x.numel())


def bad_share(*tensors: Any) -> float:
    """Share of entries that are NaN or infinite."""
    import torch

    if all(math.isfinite(float(t.sum())) for t in tensors if t.numel()):
        return 0.0
    total = sum(t.numel() for t in tensors)
    return sum(int((~torch.isfinite(t)).sum()) for t in tensors) / max(total, 1)


def slope(name: str | None, z: Any) -> Any:
    """Derivative at z of the activation function, or None for one that does not act on each element alone."""
    import torch

    formulas: dict[str, Callable[[Any], Any]] = {
        "relu": lambda z: (z > 0).to(z.dtype),
        "relu6": lambda z: ((z > 0) & (z < 6)).to(z.dtype),
        "leaky_relu": lambda z: torch.where(z > 0, 1.0, 0.01),
        "sigmoid": lambda z: torch.sigmoid(z) * torch.sigmoid(-z),
        "tanh": lambda z: 1 / torch.cosh(z.clamp(-40, 40)) ** 2,
        "elu": lambda z: torch.exp(z.clamp(max=0)),
        "gelu": lambda z: 0.5 * torch.erfc(-z / math.sqrt(2)) + z * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi),
        "silu": lambda z: torch.sigmoid(z) * (1 + z * torch.sigmoid(-z)),
        "softplus": torch.sigmoid,
    }
    if name not in formulas:
        return None
    return formulas[name](z.float() if z.element_size() < 4 else z)


def padded(a: Any, module: Any) -> Any:
    """What a convolution reads: its input with the border that the module adds, of whatever mode."""
    import torch

    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    border = module._reversed_padding_repeated_twice
    return torch.nn.functional.pad(a, border, mode) if any(border) else a


def patch_squares(a: Any, module: Any) -> tuple[float, int]:
    """(sum of squares over all patches that a convolution reads from `a`, how many numbers those are)."""
    import torch

    # Each number counts as often as a patch reads its place, whatever its row and channel.
    squares = padded(a, module).float().square().sum((0, 1)).double()[None, None]
    ones = torch.ones(1, 1, *module.kernel_size, dtype=squares.dtype, device=squares.device)
    convolve = getattr(torch.nn.functional, f"conv{len(module.kernel_size)}d")
    sums = convolve(squares, ones, None, module.stride, 0, module.dilation)
    return float(sums.sum()), len(a) * sums.numel() * int(module.weight[0].numel())
