"""Telling: whether inputs say anything about their targets, by nearest neighbours and products of columns."""

from __future__ import annotations

import itertools
import math

import numpy as np

from chainrule.record.facts import IndistinctClasses

NEIGHBOURED = 1024
"""Rows among which each row's nearest neighbour is looked for: all pairs of them are compared."""

FEWEST_PAIRS = 50
"""Neighbours of two classes from which on it is said whether the inputs tell these apart."""

SLIGHT = 0.2
"""Cohen's kappa up to which agreement is called slight (Landis & Koch 1977)."""

MOST_PRODUCTS = 3000
"""Products of columns that are looked at: of 20 columns all of three, of 70 all of two."""

MOST_TARGETS = 128
"""Classes, or numbers a row, that are looked at."""

FACTORS = 3
"""Columns of a product."""

TAIL = 3.0
"""Deviations at which values are cut off, so that no single row decides."""

DRAWN = 50
"""Orders of the targets that show what chance gives."""

BEYOND = 5.0
"""Deviations of those beyond which neighbours agree by more than chance."""

BY_CHANCE = 1e-3
"""How often the largest of all correlations with products may seem more than chance."""


def telling(
    x: np.ndarray, y: np.ndarray, kind: str, image: bool
) -> tuple[float | None, IndistinctClasses | None]:  # fmt: skip
    """The association of inputs and targets, and the classes that inputs do not tell apart; None where it is unknown.

    x: [rows, columns], finite; y: targets of the rows; kind: as in TargetFacts; image: whether the columns share one
    scale. The association is that of `DataFacts`.
    """
    if kind == "probabilities":
        y = y.argmax(axis=1)
    if kind in ("classes", "probabilities"):
        x, y = x[y >= 0], y[y >= 0]
    if len(x) < FEWEST_PAIRS:
        return None, None
    x = x.astype(np.float32)
    near = nearest(x if image else x / np.maximum(x.std(axis=0), 1e-12))
    if kind not in ("classes", "probabilities"):
        return association(x, y.reshape(len(y), -1), near), None
    known, classes = np.unique(y, return_inverse=True)
    hot = classes[:, None] == np.arange(min(len(known), MOST_TARGETS))
    return association(x, hot, near), indistinct_classes(known, classes, near)


def nearest(x: np.ndarray) -> np.ndarray:
    """The row that lies nearest to each row of x [rows, columns], by number."""
    x = x - x.mean(axis=0)
    away = x @ x.T
    away *= -2
    away += np.einsum("ij,ij->i", x, x)  # what each row adds to all of its own distances changes no order
    np.fill_diagonal(away, math.inf)
    return away.argmin(axis=1)


def association(x: np.ndarray, y: np.ndarray, near: np.ndarray) -> float | None:
    """How far inputs go with targets over what chance alone reaches; None where either is constant.

    The larger of two: how nearly targets [rows, k] agree with those of the nearest neighbours, against other orders of
    the targets; and the largest correlation of a target with a product of up to FACTORS columns, against the bound on
    the largest of so many chances. A line sees neither a parity nor a ring: the product of their columns and the
    neighbours do.
    """
    x, y = _bounded(x), _bounded(y[:, :MOST_TARGETS])
    if not x.shape[1] or not y.shape[1]:
        return None
    random = np.random.default_rng(0)
    by_chance = [_agreement(y[random.permutation(len(y))], near) for _ in range(DRAWN)]
    found = (_agreement(y, near) - float(np.mean(by_chance))) / max(BEYOND * float(np.std(by_chance)), 1e-12)
    for factors in range(1, FACTORS + 1):
        if math.comb(x.shape[1] + factors - 1, factors) > MOST_PRODUCTS:
            break
        chosen = np.array(list(itertools.combinations_with_replacement(range(x.shape[1]), factors)))
        products = x if factors == 1 else _bounded(x[:, chosen].prod(axis=2))
        if products.shape[1]:
            largest = float(np.abs(products.T @ y).max()) / math.sqrt(len(x))
            found = max(found, largest / math.sqrt(2 * math.log(products.shape[1] * y.shape[1] / BY_CHANCE)))
    return found


def _agreement(y: np.ndarray, near: np.ndarray) -> float:
    return float(np.vdot(y, y[near]))


def _bounded(values: np.ndarray) -> np.ndarray:
    """The columns that vary, float32, of mean 0 and deviation 1, with their tails cut off."""
    for _ in range(2):
        values = values.astype(np.float32) - values.mean(axis=0, dtype=np.float64).astype(np.float32)
        deviation = values.std(axis=0)
        varies = deviation > 1e-6
        values = np.clip(values[:, varies] / deviation[varies], -TAIL, TAIL)
    return values


def indistinct_classes(known: np.ndarray, classes: np.ndarray, near: np.ndarray) -> IndistinctClasses | None:
    """Classes that the inputs do not tell apart though they tell them from all others; None if there are none.

    known: the classes' names; classes: of each row, as an index of these. Of many rows, a row and its nearest neighbour
    have the same class as seldom as chance has it only if no rule tells their classes apart (Cover & Hart 1967: the
    neighbour errs at most twice as often as the best rule).
    """
    count = len(known)
    if count < 3:
        return None
    pairs = np.bincount(classes * count + classes[near], minlength=count * count).reshape(count, count)
    group = _tangled(pairs)
    if group is None:
        return None
    one = np.eye(count)[np.where(group, np.flatnonzero(group)[0], np.arange(count))]
    return IndistinctClasses(
        classes=tuple(map(int, known[group])),
        told=_kappa(pairs[np.ix_(group, group)]),
        merged=_kappa(one.T @ pairs @ one),
    )


def _tangled(pairs: np.ndarray) -> np.ndarray | None:
    """Which classes hang together by pairs that agree slightly at most, bool [classes]; the largest such group."""
    count = len(pairs)
    linked = np.eye(count, dtype=bool)
    for i, j in itertools.combinations(range(count), 2):
        both = pairs[np.ix_((i, j), (i, j))]
        if both.sum() >= FEWEST_PAIRS and _kappa(both) <= SLIGHT:
            linked[i, j] = linked[j, i] = True
    for _ in range(count):
        linked |= linked @ linked
    largest = linked[linked.sum(axis=1).argmax()]
    return largest if 1 < largest.sum() < count else None


def _kappa(pairs: np.ndarray) -> float:
    """Cohen's kappa of rows counted by their own class and their neighbour's: 0 for as much agreement as by chance, 1
    for all (Cohen 1960)."""
    rows = float(pairs.sum())
    chance = float(pairs.sum(axis=0) @ pairs.sum(axis=1)) / max(rows, 1.0) ** 2
    return (float(np.trace(pairs)) / rows - chance) / (1 - chance) if rows and chance < 1 else 1.0
