"""AdaGrad: a learning rate for each weight that falls with the gradients it has seen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from chainrule.graph import Tensor
from chainrule.ops import sqrt
from chainrule.optim.arguments import LearningRate, NonNegative, Positive, declared
from chainrule.optim.optimizer import Optimizer


@declared
class Adagrad(Optimizer):
    """AdaGrad: each weight's step is divided by the root of the sum of its squared gradients so far.

    ::

        g = dL/dw + weight_decay w
        s = s + g²
        w = w - lr / (1 + (t - 1) lr_decay) * g / (√s + eps)        at step t = 1, 2, ...

    lr:           learning rate; the first step moves each weight by about this much.
    lr_decay:     how fast the learning rate falls on top of that: to half at step 1 + 1 / lr_decay.
    weight_decay: adds the gradient of (weight_decay / 2) Σ w².
    initial_accumulator_value: s before the first step; above 0 it tames the first steps.
    eps:          keeps a weight that has never had a gradient from dividing 0 by 0.

    Source: Duchi, Hazan & Singer 2011 (JMLR 12), figure 1, with a diagonal matrix. eps and lr_decay as in PyTorch.

    >>> import numpy as np
    >>> Adagrad(lr=0.1).stepped(np.array([1.0, 1.0]), np.array([2.0, 0.01]))
    (array([0.9, 0.9]), {'sum': array([4.e+00, 1.e-04])})
    """

    lr: LearningRate = 1e-2
    lr_decay: NonNegative = 0.0
    weight_decay: NonNegative = 0.0
    initial_accumulator_value: NonNegative = 0.0
    eps: Positive = 1e-10

    @property
    def slots(self) -> tuple[str, ...]:
        return ("sum",)

    @property
    def letters(self) -> dict[str, str]:
        return {"sum": "s"}

    def formula(self, step: int, lr: float) -> tuple[str, ...]:
        decay = (f"g = g + {self.weight_decay:g} * w",) if self.weight_decay else ()
        rate = f"{lr:g} / (1 + {step - 1} * {self.lr_decay:g})" if self.lr_decay else f"{lr:g}"
        return (*decay, "s = s + g ** 2", f"w = w - {rate} * g / (sqrt(s) + {self.eps:g})")

    def initial(self, parameter: np.ndarray) -> dict[str, np.ndarray]:
        return {"sum": np.full_like(parameter, self.initial_accumulator_value)}

    def scalars(self, step: int, lr: float) -> dict[str, float]:
        return {"lr": lr / (1.0 + (step - 1) * self.lr_decay)}

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        squares = state["sum"] + gradient * gradient
        return parameter - scalars["lr"] * (gradient / (sqrt(squares) + self.eps)), {"sum": squares}
