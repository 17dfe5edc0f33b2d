"""Metrics of predictions against truth, in plain NumPy: accuracy, top-k, F1, R2, RMSE, MAE."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError

Metric = Callable[[np.ndarray, np.ndarray], float]


def classes_of(prediction: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """The predicted class of each row: the largest output, or for one output whether it exceeds ``threshold``.

    threshold: 0 for a logit, 0.5 for a probability.
    """
    if prediction.ndim > 1 and prediction.shape[1] > 1:
        return prediction.argmax(axis=1)
    return (prediction.reshape(len(prediction)) > threshold).astype(np.int64)


def truth_classes(truth: np.ndarray) -> np.ndarray:
    """The true class of each row, from indices, or from probabilities as the most probable."""
    if truth.ndim > 1 and truth.shape[1] > 1:
        return truth.argmax(axis=1)
    return np.rint(truth.reshape(len(truth))).astype(np.int64)


def accuracy(prediction: np.ndarray, truth: np.ndarray) -> float:
    """The share of rows whose class is right."""
    return float((classes_of(prediction) == truth_classes(truth)).mean())


def of_binary(metric: Metric, threshold: float) -> Metric:
    """``metric`` of classes, for outputs of which each is an own yes or no: those above ``threshold`` are yes."""

    def each(prediction: np.ndarray, truth: np.ndarray) -> float:
        return metric(np.where(prediction > threshold, 1.0, -1.0).reshape(-1, 1), truth.reshape(-1, 1))

    return each


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
        near = difflib.get_close_matches(name, METRICS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(
            f"no metric is called {name!r}{hint}: use {', '.join(METRICS)}, or a function of (prediction, truth)"
        )
    return METRICS[name]


def metrics_of(given: Any, loss: str, task: str | None) -> dict[str, Metric]:
    """The metrics that ``fit`` was asked for, by name; by default what suits the task.

    task: of the targets; None: batches of a stream, of which nothing is known.
    """
    binary = loss.startswith("binary_cross_entropy")
    if given is None:
        given = "accuracy" if binary or loss == "cross_entropy" else ("rmse", "r2") if task == "regression" else ()
        given = "accuracy" if not given and task in ("classification", "probabilities") else given
    found: dict[str, Metric] = {}
    for entry in [given] if isinstance(given, str) or callable(given) else list(given):
        if not isinstance(entry, str) and not callable(entry):
            raise ArgumentError(f"a metric is a name or a function of (prediction, truth), got {entry!r}")
        name = entry if isinstance(entry, str) else getattr(entry, "__name__", type(entry).__name__)
        if name in found or name in ("loss", "learning_rate"):
            raise ArgumentError(
                f"a metric cannot be called {name!r}, which is in the history already: rename the function"
            )
        metric = metric_named(entry) if isinstance(entry, str) else entry
        if binary and entry in ("accuracy", "f1"):
            metric = of_binary(metric, threshold_of(loss))
        found[name] = metric
    return found


def threshold_of(loss: str) -> float:
    """The output above which a network with this loss and one output says yes."""
    return 0.5 if loss == "binary_cross_entropy" else 0.0
