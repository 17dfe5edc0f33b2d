"""Whether inputs tell anything about targets: parities and rings do, noise does not."""

import numpy as np
import pytest

from chainrule import data
from chainrule.record.measure_rows import data_facts


def associated(x, y) -> float | None:
    loss = "cross_entropy" if y.dtype.kind == "i" else "mse"
    return data_facts(np.asarray(x, np.float32), y, loss).association


def bits(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (rows, columns))


@pytest.mark.parametrize("rows, columns, of", [(400, 4, 2), (600, 20, 2), (800, 16, 3), (2000, 60, 2)])
def test_a_parity_of_a_few_columns_is_told_by_their_product(rows, columns, of):
    x = bits(rows, columns, seed=of)
    parity = x[:, :of].sum(axis=1) % 2
    for y in (parity, parity[:, None].astype(np.float32), np.eye(2, dtype=np.float32)[parity]):
        assert associated(x, y) > 2


@pytest.mark.parametrize("name", ["circles", "moons", "spirals", "blobs", "regression"])
def test_curved_borders_are_told_by_neighbours(name):
    x, y = getattr(data.generated, name)(400, seed=3)
    assert associated(x, y) > 2


@pytest.mark.parametrize("seed", range(12))
def test_shuffled_targets_are_not_told_whatever_their_kind(seed):
    random = np.random.default_rng(seed)
    rows = int(random.integers(60, 900))
    x = random.normal(size=(rows, int(random.integers(1, 24))))
    x[:, 0] = random.random(rows) < 0.02  # a column that is nearly always 0
    targets = (
        random.integers(0, 10, rows),
        (random.random((rows, 1)) < 0.04).astype(np.float32),
        random.standard_t(2, (rows, 3)).astype(np.float32),
    )
    assert all(associated(x, y) < 1 for y in targets)


def test_rows_without_a_class_are_left_out():
    x, y = data.generated.blobs(300, seed=0)
    assert associated(x, np.where(np.arange(300) % 3 == 0, -100, y)) > 2


def test_nothing_is_said_of_few_rows_of_equal_targets_or_of_values_that_are_not_finite():
    x, y = data.generated.blobs(300, seed=0)
    assert associated(x[:40], y[:40]) is None
    assert associated(x, np.ones((300, 1), np.float32)) is None
    assert associated(np.where(x == x[0, 0], np.nan, x), y) is None
