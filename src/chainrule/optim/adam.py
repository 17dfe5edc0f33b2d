"""Adam: momentum divided by the recent size of the gradient, both corrected for their start at zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from chainrule.graph import Tensor
from chainrule.ops import maximum, sqrt
from chainrule.optim.arguments import Flag, LearningRate, NonNegative, Number, Numbers, Positive, declared
from chainrule.optim.optimizer import Optimizer

Betas = Annotated[tuple[float, float], Numbers(Number(at_least=0, below=1), length=2)]


@declared
class Adam(Optimizer):
    """Adam: each weight moves by its mean recent gradient over the root mean square of it.

    ::

        g = dL/dw + weight_decay w
        m = β1 m + (1 - β1) g
        v = β2 v + (1 - β2) g²
        w = w - lr / (1 - β1^t) * m / (√v / √(1 - β2^t) + eps)      at step t = 1, 2, ...

    With amsgrad the largest v so far stands under the root.

    lr:           learning rate: about the largest change of a weight in one step, whatever the gradient's scale.
    betas:        β1 and β2, the shares of m and v that a step keeps: 0.9 remembers about 10 steps, 0.999 about 1000.
    eps:          keeps a weight whose gradients are all 0 from dividing 0 by 0; gradients far below it stay small.
    weight_decay: adds the gradient of (weight_decay / 2) Σ w², which v then divides too; AdamW decays without that.
    amsgrad:      never let the divisor fall (Reddi et al. 2018, algorithm 2); the largest is taken before the bias
                  correction, as in PyTorch.

    Source: Kingma & Ba 2015 (arXiv:1412.6980), algorithm 1. m and v start at 0; 1 - β^t undoes that bias.

    >>> import numpy as np
    >>> Adam(lr=0.1).stepped(np.array([1.0, 1.0]), np.array([2.0, -0.01]))[0].round(6)
    array([0.9, 1.1])
    """

    lr: LearningRate = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0
    amsgrad: Flag = False

    @property
    def slots(self) -> tuple[str, ...]:
        return moment_slots(self.amsgrad)

    @property
    def letters(self) -> dict[str, str]:
        return moment_letters(self.amsgrad)

    def formula(self, step: int, lr: float) -> tuple[str, ...]:
        decay = (f"g = g + {self.weight_decay:g} * w",) if self.weight_decay else ()
        return (*decay, *moment_formula(step, lr, self.betas, self.eps, self.amsgrad))

    def scalars(self, step: int, lr: float) -> dict[str, float]:
        return bias_corrections(step, lr, self.betas, self.eps)

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        change, after = moment_change(gradient, state, scalars, self.betas)
        return parameter - change, after


def moment_slots(amsgrad: bool) -> tuple[str, ...]:
    """State of Adam and AdamW, under PyTorch's names."""
    return ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) * amsgrad))


def moment_letters(amsgrad: bool) -> dict[str, str]:
    """The letters of Adam and AdamW: m and v as in Kingma & Ba 2015, u for the largest v."""
    return {"exp_avg": "m", "exp_avg_sq": "v"} | ({"max_exp_avg_sq": "u"} if amsgrad else {})


def moment_formula(step: int, lr: float, betas: tuple[float, float], eps: float, amsgrad: bool) -> tuple[str, ...]:
    """What Adam and AdamW do with a gradient, in symbols."""
    mean, square = betas
    return (
        f"m = {mean:g} * m + {1 - mean:g} * g",
        f"v = {square:g} * v + {1 - square:g} * g ** 2",
        *(("u = maximum(u, v)",) * amsgrad),
        f"w = w - {lr:g} / (1 - {mean:g} ** {step}) * m / "
        f"(sqrt({'u' if amsgrad else 'v'}) / sqrt(1 - {square:g} ** {step}) + {eps:g})",
    )


def bias_corrections(step: int, lr: float, betas: tuple[float, float], eps: float) -> dict[str, float]:
    """lr √(1 - β2^t) / (1 - β1^t), and eps √(1 - β2^t).

    Kingma & Ba 2015, end of section 2: with both an element needs no division but the one by its own √v.
    """
    second = math.sqrt(1.0 - betas[1] ** step)
    return {"step_size": lr * second / (1.0 - betas[0] ** step), "eps": eps * second}


def moment_change(
    gradient: Tensor,
    state: Mapping[str, Tensor],
    scalars: Mapping[str, Tensor],
    betas: tuple[float, float],
) -> tuple[Tensor, dict[str, Tensor]]:
    """What a step takes away from the parameter, and the state after it."""
    mean = betas[0] * state["exp_avg"] + (1.0 - betas[0]) * gradient
    squares = betas[1] * state["exp_avg_sq"] + (1.0 - betas[1]) * (gradient * gradient)
    after, divisor = {"exp_avg": mean, "exp_avg_sq": squares}, squares
    if "max_exp_avg_sq" in state:
        after["max_exp_avg_sq"] = divisor = maximum(state["max_exp_avg_sq"], squares)
    return scalars["step_size"] * (mean / (sqrt(divisor) + scalars["eps"])), after
