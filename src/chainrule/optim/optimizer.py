"""What every optimizer is: numbers fixed at construction, a first state, and one pure update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError
from chainrule.graph import Tensor, tensor


class Optimizer(ABC):
    """How gradients change parameters. It holds hyper-parameters and no state, so one serves any number of networks.

    All arrays are flat vectors of one shape: every parameter of a network laid end to end. What changes from step to
    step without depending on them (learning rate, bias corrections) is a scalar worked out on the host, so that a
    traced update serves every step and every learning-rate schedule.
    """

    lr: float

    def __new__(cls, *args: Any, **keywords: Any) -> Optimizer:
        # Before __init__, which would call a list of parameters a bad learning rate.
        if args and _looks_like_parameters(args[0]):
            raise ArgumentError(_without_parameters(cls, args[1:], keywords))
        if {"params", "parameters"} & keywords.keys():
            raise ArgumentError(_without_parameters(cls, args, keywords))
        return super().__new__(cls)

    @property
    @abstractmethod
    def slots(self) -> tuple[str, ...]:
        """Names of the state arrays, as PyTorch's ``optimizer.state`` names them; they depend on the options."""

    @property
    @abstractmethod
    def letters(self) -> dict[str, str]:
        """The letter that ``formula`` uses for each slot."""

    @abstractmethod
    def formula(self, step: int, lr: float) -> tuple[str, ...]:
        """The update in symbols: assignments of Python expressions, in order; the last one gives ``w``.

        w is the weight, g its gradient, and a letter of ``letters`` the memory. step and lr stand in it as numbers.
        """

    def initial(self, parameter: np.ndarray) -> dict[str, np.ndarray]:
        """The state before the first step: for each slot an array like ``parameter``, here zeros."""
        return {slot: np.zeros_like(parameter) for slot in self.slots}

    @abstractmethod
    def scalars(self, step: int, lr: float) -> dict[str, float]:
        """The numbers of one step, in float64, under names that do not depend on the step.

        step: counts the updates that were made, this one included, so it begins at 1.
        lr:   the learning rate that the learning-rate schedule gives for this step.
        """

    @abstractmethod
    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The parameter and the state after one step.

        gradient: of the loss by the parameter, of its shape and dtype.
        state:    an array for each slot.
        scalars:  0-d tensors of the parameter's dtype, with the values of ``scalars(step, lr)``.
        """

    def stepped(
        self,
        parameter: np.ndarray,
        gradient: np.ndarray,
        state: Mapping[str, np.ndarray] | None = None,
        step: int = 1,
        lr: float | None = None,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """One step on NumPy arrays: the same formulas, run at once.

        state: what the step before returned; None before the first.
        lr:    the learning rate of this step; None for the optimizer's own.
        """
        before = self.initial(parameter) if state is None else state
        numbers = self.scalars(step, self.lr if lr is None else lr)
        scalars = {name: tensor(np.asarray(x, parameter.dtype)) for name, x in numbers.items()}
        moved, after = self.update(
            tensor(parameter), tensor(gradient), {slot: tensor(x) for slot, x in before.items()}, scalars
        )
        return moved.numpy(), {slot: x.numpy() for slot, x in after.items()}


def _looks_like_parameters(value: Any) -> bool:
    if isinstance(value, str):
        return False
    return hasattr(value, "__iter__") or hasattr(value, "parameters") or callable(value)


def _without_parameters(cls: Any, args: tuple, keywords: dict[str, Any]) -> str:
    """The message for ``Adam(net.parameters(), lr=0.1)``: the line that was meant."""
    positional = [field.name for field in fields(cls) if not field.kw_only]
    known = {field.name for field in fields(cls)}
    rest = dict(zip(positional, args, strict=False)) | {k: v for k, v in keywords.items() if k in known}
    meant = ", ".join(f"{name}={value!r}" for name, value in ({"lr": cls.lr} | rest).items())
    return (
        f"{cls.__name__} takes no parameters: training gives it those of the network. "
        f"Write optim.{cls.__name__}({meant})"
    )
