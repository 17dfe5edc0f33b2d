"""Stochastic gradient descent, with momentum, Nesterov's look-ahead and weight decay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY

from chainrule.errors import ArgumentError
from chainrule.graph import Tensor
from chainrule.optim.arguments import Flag, LearningRate, NonNegative, Share, declared
from chainrule.optim.optimizer import Optimizer


@declared
class SGD(Optimizer):
    """Stochastic gradient descent: a step against the gradient.

    ::

        g = dL/dw + weight_decay w
        b = momentum b + (1 - dampening) g           (b = g at the first step)
        w = w - lr g                                 without momentum
        w = w - lr b                                 with momentum
        w = w - lr (g + momentum b)                  with nesterov

    lr:           learning rate: change of a weight per unit of gradient.
    momentum:     share of the velocity b that a step keeps; 0 to 1. At 0.9 a steady gradient moves 10 times as far.
    dampening:    share of the gradient that does not enter the velocity; 0 to 1.
    weight_decay: adds the gradient of (weight_decay / 2) Σ w².
    nesterov:     step from where the velocity will lead; needs momentum and no dampening.
    maximize:     climb instead of descend.

    Sources: Robbins & Monro 1951; Polyak 1964 (momentum, the heavy ball); Sutskever et al. 2013, section 2 (Nesterov).
    The learning rate multiplies the velocity as in PyTorch, not the gradient that enters it as in Sutskever et al.

    >>> import numpy as np
    >>> w, state = SGD(lr=0.1, momentum=0.9).stepped(np.array([1.0]), np.array([2.0]))
    >>> w, state
    (array([0.8]), {'momentum_buffer': array([2.])})
    >>> SGD(lr=0.1, momentum=0.9).stepped(w, np.array([2.0]), state, step=2)
    (array([0.42]), {'momentum_buffer': array([3.8])})
    """

    lr: LearningRate = 1e-3
    momentum: Share = 0.0
    dampening: Share = 0.0
    weight_decay: NonNegative = 0.0
    nesterov: Flag = False
    _: KW_ONLY
    maximize: Flag = False

    def __post_init__(self) -> None:
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ArgumentError(
                "SGD: nesterov=True must come with momentum above 0 and dampening 0, "
                f"got momentum={self.momentum} and dampening={self.dampening}"
            )

    @property
    def slots(self) -> tuple[str, ...]:
        return ("momentum_buffer",) if self.momentum else ()

    @property
    def letters(self) -> dict[str, str]:
        return {"momentum_buffer": "b"} if self.momentum else {}

    def formula(self, step: int, lr: float) -> tuple[str, ...]:
        lines = ["g = -g"] if self.maximize else []
        if self.weight_decay:
            lines.append(f"g = g + {self.weight_decay:g} * w")
        if not self.momentum:
            return (*lines, f"w = w - {lr:g} * g")
        take = self.scalars(step, lr)["take"]
        lines.append(f"b = {self.momentum:g} * b + {'g' if take == 1 else f'{take:g} * g'}")
        return (*lines, f"w = w - {lr:g} * {f'(g + {self.momentum:g} * b)' if self.nesterov else 'b'}")

    def scalars(self, step: int, lr: float) -> dict[str, float]:
        # The first velocity is the whole gradient, whatever the dampening: PyTorch starts its buffer as a copy of it.
        return {"lr": lr, "take": 1.0 if step == 1 else 1.0 - self.dampening} if self.momentum else {"lr": lr}

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.maximize:
            gradient = -gradient
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        if not self.momentum:
            return parameter - scalars["lr"] * gradient, {}
        velocity = self.momentum * state["momentum_buffer"] + scalars["take"] * gradient
        direction = gradient + self.momentum * velocity if self.nesterov else velocity
        return parameter - scalars["lr"] * direction, {"momentum_buffer": velocity}
