"""Records for the rules' examples: a healthy one, and ways to make it sick."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from chainrule.record import Facts, Quantity, RunRecord, Series, series
from chainrule.record.facts import (
    ColumnFacts,
    DataFacts,
    Head,
    LayerFacts,
    LoopFacts,
    NotFinite,
    StandingFacts,
    TargetFacts,
    TrainingFacts,
    TrialFacts,
)

LAST = 400
"""Steps of the examples."""


def curve(start: float, end: float, steps: int = LAST, noise: float = 0.02) -> Series:
    """A loss that falls exponentially from `start` to `end`, with a little noise."""
    t = np.arange(steps) / max(steps - 1, 1)
    shake = 1 + noise * np.random.default_rng(0).normal(size=steps)
    return series((end + (start - end) * np.exp(-6 * t)) * shake)


LAYERS = tuple(
    LayerFacts(name=n, kind="Linear", inputs=i, outputs=o, activation=f, parameters=i * o + o, init="KaimingUniform",
               initial_std=s, fitting_std=s)
    for n, i, o, f, s in (("0", 64, 128, "relu", 0.177), ("2", 128, 128, "relu", 0.125), ("4", 128, 10, None, 0.088))
)  # fmt: skip

USUAL = {
    Quantity.ACTIVATION: (1.0, 1.1), Quantity.ERROR: (0.2, 0.05), Quantity.AGREEMENT: (0.3, 0.15),
    Quantity.GRADIENT: (0.06, 0.008), Quantity.NOISE: (0.01, 0.004), Quantity.WEIGHT: (0.12, 0.14),
    Quantity.LOCAL_DERIVATIVE: (0.7, 0.6), Quantity.DERIVATIVE_GAIN: (0.7, 0.6), Quantity.WEIGHT_GAIN: (1.0, 1.1),
    Quantity.FORWARD_GAIN: (1.4, 1.5), Quantity.DEAD: (0.0, 0.05), Quantity.SATURATED: (0.0, 0.0),
    Quantity.ZERO_GRADIENT: (0.0, 0.05), Quantity.TWINS: (0.0, 0.0), Quantity.SPREAD: (1.0, 1.5),
    Quantity.NOT_FINITE: (0.0, 0.0), Quantity.USES: (1.0, 1.0),
}  # fmt: skip
"""At the first step and the last, for every layer."""

COLUMNS = ColumnFacts(mean=(0.0,) * 64, std=(1.0,) * 64, low=(-3.0,) * 64, high=(3.0,) * 64, condition=30.0)
CLASSES = TargetFacts(kind="classes", low=0, high=9, mean=4.5, std=2.9, counts=(140,) * 10, integers=True, runs=1.0,
                      baseline=2.302)  # fmt: skip
NUMBERS = TargetFacts(kind="numbers", low=-2.5, high=2.5, std=1.0, distinct=400, baseline=1.0)
DATA = DataFacts(rows=1400, looked_at=1400, columns=COLUMNS, target=CLASSES, conflicting=0.0)
HEAD = Head(loss="cross_entropy", outputs=10, prediction_range=(-3.0, 3.0))
REGRESSION = Head(loss="mse", outputs=1, prediction_range=(-2.0, 2.0))
TRAINING = TrainingFacts(optimizer="Adam", arguments={"lr": 1e-3, "eps": 1e-8}, batch_size=64, epochs=20, shuffle=True)
TRIALS = TrialFacts(rows=1400, initial_loss=2.4, expected_loss=2.302, overfit_before=2.4, overfit_after=0.01,
                    overfit_steps=200, trained_loss=0.5, zeroed_loss=2.31, shuffled_loss=2.4, trial_steps=100,
                    draws=20, probability={"dead layer": 0.0, "vanishing": 0.0})  # fmt: skip
MOVING = StandingFacts(step=LAST, rows=512, loss=0.1, gradient_norm=0.5, gradient_noise=0.1, curvature=1.0,
                       lowest_curvature=-0.01, highest_curvature=8.0, trial_gain=0.5, same_trial_gain=0.0,
                       trial_steps=100)  # fmt: skip
"""There is a slope, and another way of going down it would gain half of the loss."""
DONE = replace(MOVING, gradient_norm=0.05, gradient_noise=0.1, trial_gain=0.0)
FALLING, STUCK = curve(2.4, 0.05), curve(2.31, 2.3, noise=0.002)

Measured = Mapping[str, Mapping[Quantity, Iterable[float]]]


@cache
def _between(ends: tuple[float, ...]) -> Series:
    """Shared by all examples, which every first examination in a process makes."""
    return series(ends, (0, LAST))


@cache
def _constant(value: float, steps: int) -> Series:
    return series([value] * steps)


def example(
    *, layers: tuple[LayerFacts, ...] = LAYERS, measured: Measured | None = None, loss: Series | None = None,
    head: Head = HEAD, data: DataFacts = DATA, training: TrainingFacts = TRAINING, trials: TrialFacts | None = TRIALS,
    standing: StandingFacts | None = None, loop: LoopFacts | None = None, not_finite: NotFinite | None = None,
    validation: Mapping[str, Series] | None = None, train: Mapping[str, Series] | None = None,
    learning_rate: Series | None = None,
) -> RunRecord:  # fmt: skip
    """A healthy run on digits, except for what is given. measured: at the first and the last step, by layer."""
    table: dict[tuple[str, str], Series] = {}
    for layer in layers:
        values: dict[Quantity, Any] = dict(USUAL) | dict((measured or {}).get(layer.name, {}))
        for quantity, ends in values.items():
            table[layer.name, str(quantity)] = _between(tuple(ends))
    loss = FALLING if loss is None else loss
    facts = Facts(layers=layers, head=head, training=training, data=data, loop=loop, not_finite=not_finite,
                  standing=standing, trials=trials)  # fmt: skip
    rates = _constant(training.lr or 0.0, len(loss)) if learning_rate is None else learning_rate
    return RunRecord(facts=facts, loss=loss, learning_rate=rates, measurements=table, train=train or {},
                     validation=validation or {})  # fmt: skip


def everywhere(**quantities: tuple[float, float]) -> dict[str, dict[Quantity, tuple[float, float]]]:
    """The same measurements for every layer of the example."""
    return {x.name: {Quantity[name.upper()]: v for name, v in quantities.items()} for x in LAYERS}


HEALTHY = example()
CONVERGED = example(loss=curve(2.31, 2.3, noise=0.001), standing=DONE, data=replace(DATA, rows=100_000))
"""Noise targets: at the constant prediction's loss, and finished."""
