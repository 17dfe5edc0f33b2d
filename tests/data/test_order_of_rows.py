"""Splits, epochs' orders, batches and generated sets: deterministic and complete."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.data import generated
from chainrule.data.batches import batch_slices, permutation
from chainrule.data.split import split_rows
from chainrule.errors import ArgumentError, ChainruleWarning, DataError


@given(st.integers(1, 500), st.integers(0, 2**64), st.integers(0, 1000))
def test_an_order_visits_each_row_once_and_is_a_pure_function(rows, seed, epoch):
    order = permutation(rows, seed, epoch)
    assert order.dtype == np.int64 and np.array_equal(np.sort(order), np.arange(rows))
    assert np.array_equal(order, permutation(rows, seed, epoch))


def test_epochs_and_seeds_differ_and_the_order_is_pinned():
    assert not np.array_equal(permutation(100, 0, 0), permutation(100, 0, 1))
    assert not np.array_equal(permutation(100, 0, 1), permutation(100, 1, 0))
    # A resumed run of a later version has to visit the same rows.
    assert permutation(8, 0, 0).tolist() == [3, 4, 6, 7, 1, 2, 0, 5]


@given(st.integers(1, 300), st.integers(1, 300), st.booleans())
def test_batches_cover_the_rows_in_order(rows, size, drop_last):
    if size > rows:
        with pytest.warns(ChainruleWarning, match="each epoch is one batch"):
            assert batch_slices(rows, size, drop_last) == [slice(0, rows)]
        return
    covered = np.concatenate([np.arange(rows)[batch] for batch in batch_slices(rows, size, drop_last)])
    assert np.array_equal(covered, np.arange(rows - rows % size if drop_last else rows))


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "3", None])
def test_a_batch_size_that_is_no_positive_integer_is_refused(bad):
    with pytest.raises(ArgumentError, match=r"batch_size is .*must be an integer >= 1"):
        batch_slices(10, bad)


@given(
    st.lists(st.integers(0, 4), min_size=4, max_size=200),
    st.floats(0.05, 0.95),
    st.integers(0, 2**32),
)
def test_a_split_holds_each_row_once_and_keeps_proportions(labels, fraction, seed):
    labels = np.array(labels)
    if round(len(labels) * fraction) in (0, len(labels)):
        with pytest.raises(DataError, match="part empty"):
            split_rows(len(labels), fraction, seed, labels)
        return
    train, held = split_rows(len(labels), fraction, seed, labels)
    assert np.array_equal(np.sort(np.concatenate([train, held])), np.arange(len(labels)))
    assert len(train) and len(held)
    again = split_rows(len(labels), fraction, seed, labels)
    assert np.array_equal(train, again[0]) and np.array_equal(held, again[1])
    if len(held) == round(len(labels) * fraction) and len(np.unique(labels)) < len(labels):
        for label in np.unique(labels):
            assert (labels[train] == label).any()


def test_classes_are_split_in_proportion():
    labels = np.repeat([0, 1, 2], [100, 40, 10])
    _, held = split_rows(150, 0.2, 0, labels)
    assert np.bincount(labels[held]).tolist() == [20, 8, 2]


@pytest.mark.parametrize("name", ["spirals", "moons", "circles", "blobs", "regression"])
def test_generated_sets_depend_on_rows_noise_and_seed_alone(name):
    make = getattr(generated, name)
    x, y = make(101, seed=3)
    assert len(x) == len(y) == 101 and np.isfinite(x).all()
    assert np.array_equal(x, make(101, seed=3)[0]) and not np.array_equal(x, make(101, seed=4)[0])
    for bad in ({"rows": 1}, {"noise": -0.1}, {"noise": float("nan")}, {"seed": -1}, {"rows": 2.5}):
        with pytest.raises(ArgumentError):
            make(**bad)


def test_generated_sets_follow_their_formulas_without_noise():
    x, y = generated.circles(50, noise=0)
    assert np.allclose(np.hypot(*x.T), np.where(y == 1, 0.5, 1.0))
    x, y = generated.blobs(8, noise=0)
    assert np.allclose(x[y == 0], np.sqrt(0.5)) and len(np.unique(x.round(9), axis=0)) == 4
    x, y = generated.regression(50, noise=0)
    assert np.allclose(y[:, 0], np.sin(np.pi * x[:, 0]) + x[:, 1] * x[:, 2] + x[:, 3] ** 2 / 2)
    x, y = generated.moons(50, noise=0)
    assert np.allclose(np.hypot(x[y == 0, 0] + 0.5, x[y == 0, 1] + 0.25), 1)
    x, y = generated.spirals(50, noise=0)
    turn = np.arctan2(x[:, 1], x[:, 0]) - 3.5 * np.pi * np.hypot(*x.T) - np.pi * y
    assert np.allclose(np.sin(turn), 0, atol=1e-9) and np.allclose(np.cos(turn), 1)
