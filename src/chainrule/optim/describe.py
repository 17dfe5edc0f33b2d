"""Describe an optimizer or learning-rate schedule as plain data, and build it again from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from chainrule.errors import ArgumentError
from chainrule.optim.adagrad import Adagrad
from chainrule.optim.adam import Adam
from chainrule.optim.adamw import AdamW
from chainrule.optim.arguments import shown, unknown
from chainrule.optim.clipping import Clip
from chainrule.optim.optimizer import Optimizer
from chainrule.optim.rmsprop import RMSprop
from chainrule.optim.schedules import SCHEDULES, LearningRateSchedule
from chainrule.optim.sgd import SGD

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
}
"""Every optimizer by its name on the command line."""

BY_CLASS_NAME: dict[str, Any] = {cls.__name__: cls for cls in (*OPTIMIZERS.values(), *SCHEDULES.values(), Clip)}
"""All that a description can build. Closed: no name in a file reaches anything else."""


def describe(made: Optimizer | LearningRateSchedule | Clip) -> dict[str, Any]:
    """The class and all arguments, in numbers, booleans, strings, lists and dicts, as JSON has them.

    >>> describe(Adam(lr=0.01))["arguments"]
    {'lr': 0.01, 'betas': [0.9, 0.999], 'eps': 1e-08, 'weight_decay': 0.0, 'amsgrad': False}
    """
    arguments = {field.name: _as_data(getattr(made, field.name)) for field in fields(made)}  # type: ignore[arg-type]
    return {"name": type(made).__name__, "arguments": arguments}


def _as_data(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_as_data(x) for x in value]
    return describe(value) if isinstance(value, LearningRateSchedule) else value


def from_description(description: Any, kind: Any = Optimizer) -> Any:
    """What ``describe`` described. ArgumentError if it is damaged, or of another kind than asked for.

    kind: Optimizer, LearningRateSchedule or Clip.

    >>> from_description({"name": "SGD", "arguments": {"lr": 0.1}})
    SGD(lr=0.1, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False)
    """
    if not isinstance(description, Mapping) or description.keys() != {"name", "arguments"}:
        raise ArgumentError(f"a description must be a dict of 'name' and 'arguments', got {shown(description)}")
    name, arguments = description["name"], description["arguments"]
    names = [name for name, cls in BY_CLASS_NAME.items() if issubclass(cls, kind)]
    if name not in names:
        raise ArgumentError(unknown(f"there is no {kind.__name__}", str(name), names))
    if not isinstance(arguments, Mapping) or not all(isinstance(key, str) for key in arguments):
        raise ArgumentError(f"{name}: the described arguments must be a dict by name, got {shown(arguments)}")
    return BY_CLASS_NAME[name](**{key: _as_argument(value) for key, value in arguments.items()})


def _as_argument(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_argument(x) for x in value]
    return from_description(value, LearningRateSchedule) if isinstance(value, Mapping) else value
