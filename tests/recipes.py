"""Trainings that tests break off and go on with: every optimizer with everything that a checkpoint must hold."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn, optim
from chainrule.record import RunDirectory

ROWS, BATCH, EPOCHS = 23, 5, 4

OPTIMIZERS = {
    "sgd": lambda: optim.SGD(0.05),
    "momentum": lambda: optim.SGD(0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda: optim.SGD(0.05, momentum=0.9, nesterov=True),
    "adagrad": lambda: optim.Adagrad(0.05),
    "rmsprop": lambda: optim.RMSprop(0.01),
    "adam": lambda: optim.Adam(0.01),
    "amsgrad": lambda: optim.Adam(0.01, amsgrad=True),
    "adamw": lambda: optim.AdamW(0.01),
}

FEATURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulate": 2},
    "scheduled by step": {"learning_rate_schedule": optim.OneCycleLR(0.1, 20, every="step")},
    "scheduled by epoch": {"learning_rate_schedule": optim.CosineAnnealingLR(4)},
    "scheduled on a plateau": {"learning_rate_schedule": optim.ReduceLROnPlateau(patience=0, threshold=0.5)},
    "stopped early": {"early_stopping": cr.EarlyStopping(2, min_delta=0.2)},
    "in order": {"shuffle": False, "drop_last": True},
    "clipped and penalised": {"clip_norm": 0.5, "l1": 1e-3, "l2": 1e-3, "metrics": ["accuracy", "f1"]},
    "in float64": {},
    "a stream": {},
}

RECIPES = [(o, f) for o in OPTIMIZERS for f in FEATURES]


def network(feature: str) -> nn.Module:
    """With random numbers (dropout) and running statistics, the two things that a resume forgets most easily."""
    net = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)
    )
    return net.to("float64") if feature == "in float64" else net


def rows(seed: int, count: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(count, 4)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0)


class Batches:
    """The same batches each time; the last one is smaller."""

    def __iter__(self) -> Any:
        x, y = rows(1)
        return ((x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, ROWS, BATCH))


def train(recipe: tuple[str, str], directory: Path | None, **more: Any) -> cr.Run:
    """One of the trainings, from its beginning or, with ``resume=True``, from where it stands."""
    optimizer, feature = recipe
    stream = feature == "a stream"
    options = {"batch_size": BATCH, "epochs": EPOCHS, "seed": 3, "run_dir": directory, **FEATURES[feature], **more}
    data = Batches() if stream else rows(1)
    return cr.fit(
        network(feature),
        data,
        loss="cross_entropy",
        optimizer=OPTIMIZERS[optimizer](),
        validation=rows(2, 11),
        **options,
    )


@dataclass(frozen=True)
class Left:
    """All that a run leaves behind, but for the time that it took."""

    arrays: dict[str, bytes]
    header: dict[str, Any]
    steps: dict[str, list[float]]
    history: tuple[Any, ...]
    state: str


def left(directory: Path) -> Left:
    with RunDirectory.open(directory) as run:
        found, record = run.latest(), run.record
        assert found is not None
        steps = {name: column.tolist() for name, column in record.steps().items() if name != "seconds"}
        arrays = {name: array.tobytes() for name, array in found.arrays.items()}
        return Left(arrays, found.header, steps, record.history(), run.status.state)


class Raising(cr.Callback):
    """Ends training after an update."""

    def __init__(self, step: int, kind: type[BaseException] = RuntimeError) -> None:
        self.at, self.kind = step, kind

    def on_step(self, run: cr.Run, step: int, loss: float) -> None:
        if step == self.at:
            raise self.kind("a callback of the test")


def sampled(count: int, seed: int) -> list[tuple[tuple[str, str], int]]:
    """(recipe, step) pairs, each recipe about equally often."""
    chooser = random.Random(seed)
    order = RECIPES * (count // len(RECIPES) + 1)
    chooser.shuffle(order)
    return [(recipe, chooser.randint(1, 8 if "accum" in recipe[1] else 14)) for recipe in order[:count]]


def main() -> None:
    """``python recipes.py DIRECTORY OPTIMIZER FEATURE CHECKPOINT_EVERY SECONDS_A_STEP``: a training to be killed."""
    import time

    class Slow(cr.Callback):
        def on_step(self, run: cr.Run, step: int, loss: float) -> None:
            print(step, flush=True)
            time.sleep(float(sys.argv[5]))

    every = int(sys.argv[4])
    train((sys.argv[2], sys.argv[3]), Path(sys.argv[1]), checkpoint_every=every or None, callbacks=Slow())


if __name__ == "__main__":
    main()
