"""AdamW: Adam with a weight decay that its divisor leaves alone."""

from __future__ import annotations

from collections.abc import Mapping

from chainrule.graph import Tensor
from chainrule.optim.adam import Betas, bias_corrections, moment_change, moment_formula, moment_letters, moment_slots
from chainrule.optim.arguments import Flag, LearningRate, NonNegative, Positive, declared
from chainrule.optim.optimizer import Optimizer


@declared
class AdamW(Optimizer):
    """Adam with decoupled weight decay: every weight shrinks by the same share, however large its gradients are.

    ::

        w = w - lr weight_decay w
        m = β1 m + (1 - β1) dL/dw
        v = β2 v + (1 - β2) (dL/dw)²
        w = w - lr / (1 - β1^t) * m / (√v / √(1 - β2^t) + eps)      at step t = 1, 2, ...

    lr, betas, eps, amsgrad: as in Adam.
    weight_decay: share of a weight that a step takes away, per unit of learning rate.

    Source: Loshchilov & Hutter 2019 (arXiv:1711.05101), algorithm 2, with the decay multiplied by lr as in PyTorch.

    >>> import numpy as np
    >>> AdamW(lr=0.1, weight_decay=0.5).stepped(np.array([1.0, 1.0]), np.array([2.0, 0.0]))[0].round(6)
    array([0.85, 0.95])
    """

    lr: LearningRate = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 1e-2
    amsgrad: Flag = False

    @property
    def slots(self) -> tuple[str, ...]:
        return moment_slots(self.amsgrad)

    @property
    def letters(self) -> dict[str, str]:
        return moment_letters(self.amsgrad)

    def formula(self, step: int, lr: float) -> tuple[str, ...]:
        decay = (f"w = w - {lr:g} * {self.weight_decay:g} * w",) if self.weight_decay else ()
        return (*decay, *moment_formula(step, lr, self.betas, self.eps, self.amsgrad))

    def scalars(self, step: int, lr: float) -> dict[str, float]:
        return {**bias_corrections(step, lr, self.betas, self.eps), "decay": lr * self.weight_decay}

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        # Not parameter * (1 - decay): in float32, 1 - 1e-5 has lost the third digit of the decay.
        decayed = parameter - scalars["decay"] * parameter
        change, after = moment_change(gradient, state, scalars, self.betas)
        return decayed - change, after
