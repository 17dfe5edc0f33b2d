"""Gradient clipping, by norm and by value."""

from __future__ import annotations

from typing import Annotated

from chainrule.graph import Tensor
from chainrule.ops import clip, minimum, sqrt, sum
from chainrule.optim.arguments import Number, declared

SMALL = 1e-6
"""Added to the norm so that a gradient of 0 gives no 0 / 0; PyTorch's number."""

Limit = Annotated[float | None, Number(above=0, optional=True)]


@declared
class Clip:
    """Keep gradients from being too large: each entry by itself, then the norm of all. Clip() leaves them as they are.

    norm:  the largest Euclidean norm that the gradient of all parameters together may have. Keeps its direction.
    value: the largest absolute value that an entry may have. Bends its direction.

    >>> from chainrule.graph import tensor
    >>> Clip(norm=5.0).clipped(tensor([30.0, 40.0]))
    (tensor([3., 4.]), tensor(50.))
    """

    norm: Limit = None
    value: Limit = None

    def formula(self) -> tuple[str, ...]:
        """What it does to a gradient g, in symbols; norm(d) is the Euclidean norm of all gradients together."""
        limits = (f"g = clip(g, -{self.value:g}, {self.value:g})",) if self.value is not None else ()
        if self.norm is None:
            return limits
        return (*limits, f"g = g * minimum(1, {self.norm:g} / (norm(d) + {SMALL:g}))")

    def clipped(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The clipped gradient, and the norm that it had before. gradient: a flat vector."""
        before = euclidean_norm(gradient)
        if self.value is not None:
            gradient = clip_by_value(gradient, self.value)
        if self.norm is not None:
            gradient, _ = clip_by_norm(gradient, self.norm)
        return gradient, before


def euclidean_norm(gradient: Tensor) -> Tensor:
    """√(Σ g²), 0-d. Infinite if a square overflows: in float32 from entries of 1.8e19 on."""
    return sqrt(sum(gradient * gradient))


def clip_by_norm(gradient: Tensor, max_norm: float) -> tuple[Tensor, Tensor]:
    """g min(1, max_norm / (|g| + 1e-6)), and |g|, the norm before clipping.

    gradient: a flat vector of all parameters' gradients, as the norm is that of all together.
    An infinite |g| makes finite entries 0, so whoever guards against gradients that are not finite must look at |g|.
    Sources: Pascanu et al. 2013 (arXiv:1211.5063), algorithm 1; the constant as in PyTorch's ``clip_grad_norm_``.

    >>> from chainrule.graph import tensor
    >>> clip_by_norm(tensor([30.0, 40.0]), 5.0)
    (tensor([3., 4.]), tensor(50.))
    """
    norm = euclidean_norm(gradient)
    return gradient * minimum(max_norm / (norm + SMALL), 1.0), norm


def clip_by_value(gradient: Tensor, limit: float) -> Tensor:
    """Each entry, but at least -limit and at most limit, as PyTorch's ``clip_grad_value_``.

    >>> from chainrule.graph import tensor
    >>> clip_by_value(tensor([-3.0, 0.5, 2.0]), 1.0)
    tensor([-1. ,  0.5,  1. ])
    """
    return clip(gradient, min=-limit, max=limit)
