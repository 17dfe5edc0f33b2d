"""scikit-learn's MLPClassifier through partial_fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.neural_network import MLPClassifier

from benchmarks.workloads import Workload, epoch_data


class Trained:
    """A classifier and one batch; its first weights are its own."""

    def __init__(self, workload: Workload, rows: int, option: str) -> None:
        self.workload, self.rows = workload, rows
        self.x, self.y = workload.batch(rows)
        self.classes = np.arange(workload.widths[-1])
        self.reset()

    def step(self) -> None:
        self.on(self.x, self.y)

    def on(self, x: np.ndarray, y: np.ndarray) -> None:
        self.net.partial_fit(x, y, classes=self.classes)

    def reset(self) -> None:
        self.net = MLPClassifier(self.workload.widths[1:-1], batch_size=self.rows, alpha=0.0, random_state=0)


def epoch(workload: Workload, rows: int, option: str) -> Callable[[], None]:
    x, y, held_x, held_y = epoch_data(workload, rows)
    trained = Trained(workload, workload.rows, option)
    random = np.random.default_rng(2)

    def run() -> None:
        order = random.permutation(rows)
        trained.net.batch_size = workload.rows
        for start in range(0, rows, workload.rows):
            chosen = order[start : start + workload.rows]
            trained.net.batch_size = len(chosen)
            trained.on(x[chosen], y[chosen])
        np.mean(trained.net.predict(held_x) == held_y)

    return run
