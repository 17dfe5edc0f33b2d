"""Facts of a network of this package, of its data and of how it is trained, for the doctor's record."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.doctor.trial.observe import Look, Observer
from chainrule.nn import Module
from chainrule.record.facts import (
    Head,
    LayerFacts,
    Range,
    TargetFacts,
    TrainingFacts,
)

RANGES: dict[str, Range] = {
    "sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "relu": (0.0, math.inf),
    "softplus": (0.0, math.inf),
    "exp": (0.0, math.inf),
    "hardsigmoid": (0.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "log_softmax": (-math.inf, 0.0),
}

GAINS = {"relu": math.sqrt(2), "leaky_relu": math.sqrt(2), "tanh": 5 / 3, "selu": 1.0, "gelu": math.sqrt(2)}
"""As torch's calculate_gain; 1 for what is not listed."""


def layer_facts(net: Module, observer: Observer, look: Look, first: dict[str, np.ndarray]) -> tuple[LayerFacts, ...]:
    """A LayerFacts for each module that holds parameters of its own, in the order of the forward pass where known.

    first: the first weights by name; {} where the run did not begin with drawn ones.
    """
    traced = {layer.name: layer for layer in look.trace.layers}
    found = {}
    for name, module in net.named_modules():
        own = {k: s for k, s in module._states.items() if f"{name}.{k}".lstrip(".") in observer.names.values()}
        if not own:
            continue
        names = [f"{name}.{k}".lstrip(".") for k in own]
        weight: Any = own.get("weight")
        drawn = first.get(f"{name}.weight".lstrip("."))
        layer = traced.get(name)
        fan = None if weight is None or len(weight.shape) < 2 else math.prod(weight.shape[1:])
        activation = None if layer is None else layer.activation
        found[name] = LayerFacts(
            name=name,
            kind=type(module).__name__,
            inputs=fan,
            outputs=None if fan is None else weight.shape[0],
            activation=activation,
            parameters=sum(s.size for s in own.values()),
            init=None if drawn is None else type(weight.initialiser).__name__,
            initial_std=None if drawn is None else float(np.std(drawn.astype(np.float64))),
            fitting_std=None if fan is None else GAINS.get(activation or "", 1.0) / math.sqrt(fan),
            frozen=tuple(n for n, s in zip(names, own.values(), strict=True) if not s.requires_grad),
            unreachable={n: look.reasons[n] for n in names if n in look.reasons},
        )
    order = [n for n in traced if n in found]
    return tuple(found[n] for n in dict.fromkeys([*(order if len(order) == len(found) else []), *found]))


def head_facts(loss: str, observer: Observer, look: Look, target: TargetFacts) -> Head:
    """The end of the network and the loss on it."""
    prediction = look.prediction
    finite = prediction[np.isfinite(prediction)]
    shape, wanted = observer.shapes
    alike = math.prod(shape) == math.prod(wanted) and not observer.grown
    broadcast = (shape, wanted) if target.kind != "classes" and shape != wanted and not alike else None
    return Head(
        loss=loss,
        outputs=prediction.shape[-1] if prediction.ndim > 1 else 1,
        activation=observer.activation,
        output_range=RANGES.get(observer.activation or ""),
        prediction_range=(float(finite.min()), float(finite.max())) if finite.size else None,
        broadcast=broadcast,
    )


def training_facts(config: Any) -> TrainingFacts:
    """From the configuration of a run."""
    rows = config.rows or 0
    an_epoch = math.ceil(math.ceil(rows / config.batch_size) / config.accumulate)
    return TrainingFacts(
        optimizer=config.optimizer.name,
        arguments=dict(config.optimizer.arguments),
        schedule=config.learning_rate_schedule.name,
        schedule_arguments=dict(config.learning_rate_schedule.arguments),
        clip_norm=config.clip_norm,
        clip_value=config.clip_value,
        l1=config.l1,
        l2=config.l2,
        batch_size=config.batch_size,
        epochs=config.epochs,
        planned_steps=an_epoch * config.epochs or None,
        shuffle=config.shuffle,
        best_kept=bool(config.early_stopping),
        dtype=config.dtype,
        seed=config.seed,
    )
