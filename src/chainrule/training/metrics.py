"""Metrics of predictions against truth, in plain NumPy: accuracy, top-k, F1, R2, RMSE, MAE."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from chainrule.errors import ArgumentError

Metric = Callable[[np.ndarray, np.ndarray], float]


def classes_of(prediction: np.ndarray) -> np.ndarray:
    """The predicted class of each row: the largest output, or for one output whether it is positive (a logit)."""
    if prediction.ndim > 1 and prediction.shape[1] > 1:
        return prediction.argmax(axis=1)
    return (prediction.reshape(len(prediction)) > 0).astype(np.int64)


def truth_classes(truth: np.ndarray) -> np.ndarray:
    """The true class of each row, from indices, or from probabilities as the most probable."""
    if truth.ndim > 1 and truth.shape[1] > 1:
        return truth.argmax(axis=1)
    return np.rint(truth.reshape(len(truth))).astype(np.int64)


def accuracy(prediction: np.ndarray, truth: np.ndarray) -> float:
    """The share of rows whose class is right."""
    return float((classes_of(prediction) == truth_classes(truth)).mean())


def top_k(k: int) -> Metric:
    """The share of rows whose true class is among the ``k`` largest outputs."""

    def metric(prediction: np.ndarray, truth: np.ndarray) -> float:
        largest = np.argsort(-prediction, axis=1, kind="stable")[:, :k]
        return float((largest == truth_classes(truth)[:, None]).any(axis=1).mean())

    return metric


def f1(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Harmonic mean of precision and recall, averaged over the classes that occur in truth or prediction (macro)."""
    found, true = classes_of(prediction), truth_classes(truth)
    scores = []
    for c in np.union1d(found, true):
        right = float(((found == c) & (true == c)).sum())
        scores.append(2 * right / float((found == c).sum() + (true == c).sum()))
    return float(np.mean(scores))


def rmse(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Root of the mean squared residual."""
    return float(np.sqrt(np.mean((prediction.reshape(truth.shape) - truth) ** 2)))


def mae(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute residual."""
    return float(np.mean(np.abs(prediction.reshape(truth.shape) - truth)))


def r2(prediction: np.ndarray, truth: np.ndarray) -> float:
    """1 - squared residuals over squared deviations from the mean: 1 is perfect, 0 no better than the mean."""
    residual = float(((prediction.reshape(truth.shape) - truth) ** 2).sum())
    spread = float(((truth - truth.mean(axis=0)) ** 2).sum())
    return 1 - residual / spread if spread else float("nan")


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "top5": top_k(5),
    "f1": f1,
    "rmse": rmse,
    "mae": mae,
    "r2": r2,
}
"""Metrics by the names that ``fit`` takes; ``topN`` works for any N."""


def metric_named(name: str) -> Metric:
    """The metric of that name; ArgumentError listing the names."""
    if name.startswith("top") and name[3:].isdigit() and int(name[3:]) > 0:
        return top_k(int(name[3:]))
    if name not in METRICS:
        raise ArgumentError(
            f"no metric is called {name!r}: use {', '.join(METRICS)}, or a function of (prediction, truth)"
        )
    return METRICS[name]


def default_metrics(task: str) -> tuple[str, ...]:
    """What is measured unless something else is asked for."""
    return ("rmse", "r2") if task == "regression" else ("accuracy",)
