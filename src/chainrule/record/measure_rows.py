"""Measure rows: what inputs and targets look like, as the facts that the doctor reads, of any framework."""

from __future__ import annotations

import math

import numpy as np

from chainrule.record.facts import ColumnFacts, DataFacts, TargetFacts
from chainrule.record.telling import NEIGHBOURED, telling

LOOKED_AT = 4096
"""Rows that the statistics of columns are of, evenly chosen: enough for means, and quick for any data."""


def sampled(rows: int, most: int = LOOKED_AT) -> np.ndarray:
    """Indices of up to `most` rows, evenly chosen."""
    return np.arange(rows) if rows <= most else np.linspace(0, rows - 1, most).astype(np.int64)


def data_facts(x: np.ndarray, y: np.ndarray, loss: str, validation_rows: int = 0) -> DataFacts:
    """What the rows look like, from up to LOOKED_AT of them; class counts and the order of labels are of all."""
    chosen = sampled(len(x))
    integers = x.dtype.kind in "iu" and x.dtype != np.uint8
    some = x[chosen].reshape(len(chosen), -1)
    bad = int(some.size - np.isfinite(some).sum()) if some.dtype.kind == "f" else 0
    found = _repeated(some, y[chosen])
    columns = None if integers or not some.size else column_facts(some.astype(np.float64), x.ndim > 2)
    target = target_facts(y, loss)
    association, indistinct = None, None
    if columns is not None and not bad:
        few = sampled(len(x), NEIGHBOURED)
        association, indistinct = telling(x[few].reshape(len(few), -1), y[few], target.kind, columns.image)
    return DataFacts(
        rows=len(x),
        looked_at=len(chosen),
        columns=columns,
        target=target,
        association=association,
        indistinct=indistinct,
        not_finite=bad,
        repeated=None if found is None else found[0],
        conflicting=None if found is None else found[1],
        validation_rows=validation_rows,
        integer_inputs=integers,
    )


def column_facts(x: np.ndarray, image: bool = False) -> ColumnFacts:
    """Statistics of each column of x, float64 [rows, columns]."""
    mean, std = x.mean(axis=0), x.std(axis=0)
    low, high = x.min(axis=0), x.max(axis=0)
    constant = np.flatnonzero(high == low)
    varying = np.flatnonzero(high > low)
    condition = None
    if 1 < len(varying) <= 128 and len(x) > 2 * len(varying):
        values = np.linalg.eigvalsh(np.corrcoef(x[:, varying], rowvar=False))
        condition = float(values[-1] / max(values[0], 1e-12 * values[-1]))
    return ColumnFacts(
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        constant=tuple(map(int, constant)),
        duplicated=_duplicated(x, varying, np.stack([mean, std, low, high])),
        condition=condition,
        # Pixels share one scale: as good a sign as any of flattened images.
        image=image or (x.shape[1] >= 49 and len(np.unique(high[varying])) * 3 < len(varying) + 3),
    )


def _duplicated(x: np.ndarray, varying: np.ndarray, statistics: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Pairs of the varying columns that are equal, each with the first of them; only of those with equal statistics
    [kinds, columns] all values are looked at."""
    _, group, counts = np.unique(statistics[:, varying], axis=1, return_inverse=True, return_counts=True)
    alike = varying[counts[group.reshape(-1)] > 1]
    seen: dict[bytes, int] = {}
    return tuple(
        (first, j)
        for j, column in zip(map(int, alike), x.T[alike] + 0.0, strict=True)  # -0 becomes 0
        if (first := seen.setdefault(column.tobytes(), j)) != j
    )


def target_facts(y: np.ndarray, loss: str) -> TargetFacts:
    """What the targets look like. y: indices [rows], or numbers [rows, k]."""
    classes = loss in ("cross_entropy", "nll") and y.dtype.kind in "iu"
    flat = y.reshape(len(y), -1).astype(np.float64)
    kind = "classes" if classes else "numbers"
    if not classes and flat.shape[1] > 1 and flat.min() >= 0 and np.allclose(flat.sum(axis=1), 1):
        kind = "probabilities"
    elif not classes and flat.shape[1] >= 1 and np.isin(flat, (0, 1)).all():
        kind = "labels"
    each = y.reshape(-1).astype(np.int64) if classes else None
    if kind == "labels" and flat.shape[1] == 1:
        each = flat[:, 0].astype(np.int64)
    if kind == "probabilities":
        each = flat.argmax(axis=1)
    if each is not None:
        each = each[each >= 0]
    counts = () if each is None else tuple(np.bincount(each).tolist())
    sums = flat.sum(axis=1)
    return TargetFacts(
        kind=kind,
        width=1 if classes else flat.shape[1],
        low=float(flat.min()),
        high=float(flat.max()),
        mean=float(flat.mean()),
        std=float(np.sqrt(flat.var(axis=0).mean())),
        counts=counts,
        integers=bool((flat == np.floor(flat)).all()),
        distinct=len(np.unique(flat[:LOOKED_AT])) if flat.shape[1] == 1 else None,
        runs=None if each is None else _runs(each),
        row_sums=(float(sums.min()), float(sums.max())) if flat.shape[1] > 1 else None,
        baseline=baseline_of(flat, loss, counts),
    )


def _runs(classes: np.ndarray) -> float | None:
    """How much oftener neighbours share their class than chance would have it."""
    if len(classes) < 20:
        return None
    shares = np.bincount(classes) / len(classes)
    chance = float((shares**2).sum())
    return float(np.mean(classes[1:] == classes[:-1])) / chance if chance < 1 else None


def baseline_of(flat: np.ndarray, loss: str, counts: tuple[int, ...]) -> float | None:
    """The loss of the best constant prediction."""
    if loss in ("cross_entropy", "share_cross_entropy", "probability_cross_entropy") and counts:
        shares = np.array([c for c in counts if c]) / sum(counts)
        return float(-(shares * np.log(shares)).sum())
    if loss in ("binary_cross_entropy", "binary_cross_entropy_with_logits") and 0 <= flat.min() <= flat.max() <= 1:
        p = np.clip(flat.mean(axis=0), 1e-12, 1 - 1e-12)
        return float(-(p * np.log(p) + (1 - p) * np.log(1 - p)).mean())
    if loss == "mse":
        return float(flat.var(axis=0).mean())
    if loss == "mae":
        return float(np.abs(flat - np.median(flat, axis=0)).mean())
    if loss == "huber":
        away = np.abs(flat - np.median(flat, axis=0))
        return float(np.where(away < 1, away**2 / 2, away - 0.5).mean())
    return None


def _repeated(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    """Shares of the rows whose inputs occur again, and again with another target."""
    if not x.size or (x.dtype.kind == "f" and not np.isfinite(x).all()):
        return None
    marks = x.astype(np.float64) @ np.random.default_rng(1).normal(size=x.shape[1])
    _, group, counts = np.unique(marks, return_inverse=True, return_counts=True)
    targets = y.reshape(len(y), -1).astype(np.float64) @ np.arange(1.0, 1 + y.reshape(len(y), -1).shape[1])
    low, high = np.full(len(counts), math.inf), np.full(len(counts), -math.inf)
    np.minimum.at(low, group, targets)
    np.maximum.at(high, group, targets)
    return float(np.mean((counts > 1)[group])), float(np.mean((low < high)[group]))
