"""RMSprop: each step divided by the recent size of the gradient."""

from __future__ import annotations

from collections.abc import Mapping

from chainrule.graph import Tensor
from chainrule.ops import maximum, sqrt
from chainrule.optim.arguments import Decay, Flag, LearningRate, NonNegative, Positive, Share, declared
from chainrule.optim.optimizer import Optimizer


@declared
class RMSprop(Optimizer):
    """RMSprop: each weight's step is divided by the root mean square of its recent gradients.

    ::

        g = dL/dw + weight_decay w
        v = alpha v + (1 - alpha) g²
        m = alpha m + (1 - alpha) g                  with centered
        u = g / (√v + eps)                           or g / (√(v - m²) + eps) with centered
        b = momentum b + u                           with momentum
        w = w - lr u                                 or w - lr b with momentum

    lr:           learning rate: change of a weight whose gradient is as large as it usually is.
    alpha:        share of the running average that a step keeps: 0.99 remembers about 100 steps.
    eps:          keeps a weight whose gradients are all 0 from dividing 0 by 0.
    weight_decay: adds the gradient of (weight_decay / 2) Σ w².
    momentum:     share of the velocity b that a step keeps; 0 to 1.
    centered:     divide by the standard deviation of the gradient instead. Rounding can make v - m² negative when
                  the gradient hardly changes; it then counts as 0, where PyTorch gets NaN.

    Sources: Tieleman & Hinton 2012, lecture 6e; Graves 2013 (arXiv:1308.0850), eqs. 38 to 41 (centered, momentum).
    eps is added outside the root, as in PyTorch; Graves adds it inside.

    >>> import numpy as np
    >>> RMSprop(lr=0.1, alpha=0.75).stepped(np.array([1.0, 1.0]), np.array([2.0, -4.0]))
    (array([0.8, 1.2]), {'square_avg': array([1., 4.])})
    """

    lr: LearningRate = 1e-2
    alpha: Decay = 0.99
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0
    momentum: Share = 0.0
    centered: Flag = False

    @property
    def slots(self) -> tuple[str, ...]:
        return ("square_avg", *(("momentum_buffer",) * (self.momentum > 0)), *(("grad_avg",) * self.centered))

    @property
    def letters(self) -> dict[str, str]:
        named = {"square_avg": "v", "momentum_buffer": "b", "grad_avg": "m"}
        return {slot: named[slot] for slot in self.slots}

    def formula(self, step: int, lr: float) -> tuple[str, ...]:
        rest = f"{1 - self.alpha:g}"
        return (
            *((f"g = g + {self.weight_decay:g} * w",) if self.weight_decay else ()),
            f"v = {self.alpha:g} * v + {rest} * g ** 2",
            *((f"m = {self.alpha:g} * m + {rest} * g",) if self.centered else ()),
            f"u = g / (sqrt({'maximum(v - m ** 2, 0)' if self.centered else 'v'}) + {self.eps:g})",
            *((f"b = {self.momentum:g} * b + u",) if self.momentum else ()),
            f"w = w - {lr:g} * {'b' if self.momentum else 'u'}",
        )

    def scalars(self, step: int, lr: float) -> dict[str, float]:
        return {"lr": lr}

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        squares = self.alpha * state["square_avg"] + (1.0 - self.alpha) * (gradient * gradient)
        after, spread = {"square_avg": squares}, squares
        if self.centered:
            after["grad_avg"] = mean = self.alpha * state["grad_avg"] + (1.0 - self.alpha) * gradient
            spread = maximum(squares - mean * mean, 0.0)
        direction = gradient / (sqrt(spread) + self.eps)
        if self.momentum:
            after["momentum_buffer"] = direction = self.momentum * state["momentum_buffer"] + direction
        return parameter - scalars["lr"] * direction, after
