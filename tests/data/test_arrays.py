"""What a person has in memory: accepted exactly, or refused by name."""

import numpy as np
import pytest

from chainrule import data
from chainrule.errors import ArgumentError, ChainruleError, ChainruleWarning, DataError, DTypeError, ShapeError
from peers import peer

X = np.random.default_rng(0).standard_normal((12, 3))
Y = np.arange(12) % 3


def test_arrays_are_taken_as_they_are():
    x = X.astype(np.float32)
    ready = data.as_dataset((x, Y), validation=(x[:4], Y[:4]))
    assert np.array_equal(ready.x, x) and ready.y.tolist() == Y.tolist() and ready.validation_x.shape == (4, 3)
    assert not ready.x.flags.writeable and x.flags.writeable
    assert data.as_dataset(ready) is ready


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize(
    "same",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: x[::-1][::-1],
        lambda x: x[::-1].copy()[::-1],
        lambda x: np.pad(x, ((0, 0), (2, 2)))[:, 2:-2],
        lambda x: x.astype(">f8"),
        lambda x: x.tolist(),
    ],
)
def test_layout_and_byte_order_change_no_bit(same, standardise):
    wanted = data.as_dataset((X, Y), standardise=standardise).x
    assert np.array_equal(data.as_dataset((same(X), Y), standardise=standardise).x, wanted)
    locked = X.copy()
    locked.flags.writeable = False
    assert np.array_equal(data.as_dataset((locked, Y), standardise=standardise).x, wanted)


def test_tensors_of_other_libraries_are_taken():
    torch = peer("torch")
    x = torch.tensor(X, dtype=torch.float32, requires_grad=True)
    ready = data.as_dataset((x, torch.tensor(Y)))
    assert np.array_equal(ready.x, X.astype(np.float32)) and ready.y.tolist() == Y.tolist()
    jnp = peer("jax.numpy")
    assert np.array_equal(data.as_dataset((jnp.asarray(X), jnp.asarray(Y))).x, X.astype(np.float32))


def spoiled(value, *places):
    """X with a value put at these places."""
    x = X.copy()
    for place in places:
        x[place] = value
    return x


class Sparse:
    """Looks like a sparse matrix."""

    nnz = 1

    def toarray(self):
        """Nothing: it is refused before."""


BAD_X = {
    "nan": (spoiled(np.nan, (3, 1), (5, 2)), r"'x' 2 NaN in 2 columns \(first: row 3, column 1\)"),
    "inf": (spoiled(np.inf, (4, 0)), r"x.* 1 Inf \(first: row 4, column 0\)"),
    "float32": (spoiled(1e39, (2, 2)), r"x has 1 values too large for float32 \(first: 1e\+39 at row 2, column 2"),
    "object": (X.astype(object), r"x holds Python objects.*x\.astype\(float\)"),
    "text": (X.astype(str), r"x holds text.*astype\(float\)"),
    "complex": (X + 1j, r"x is complex.*x\.real"),
    "date": (np.zeros((12, 2), "M8[D]"), "x holds dates"),
    "structured": (np.zeros(12, [("a", "f4")]), "x is a structured array"),
    "masked": (np.ma.masked_array(X, X > 10 + 0 * X).__class__(X, mask=np.eye(12, 3)), "masked array with 3 masked"),
    "sparse": (Sparse(), r"sparse matrix.*x\.toarray\(\)"),
    "ragged": ([[1, 2], [3]], "x is ragged: row 1 has 1 values, row 0 has 2 values"),
    "empty": (np.zeros((0, 3)), "x is empty"),
    "no columns": (np.zeros((12, 0)), "12 rows but no columns"),
    "short": (X[:5], "x has 5 rows and y has 12"),
    "one dimension": (X[:, 0], r"x\[:, None\]"),
    "number": (3.0, "x is 3.0"),
    "set": ({1, 2}, "x is a set"),
}


@pytest.mark.parametrize("x, message", BAD_X.values(), ids=BAD_X)
def test_bad_inputs_are_refused_by_name(x, message):
    with pytest.raises(ChainruleError, match=message):
        data.as_dataset((x, Y))


def test_extended_precision_is_refused_where_it_exists():
    if np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("long double is double here")
    with pytest.raises(DTypeError, match=r'x has extended precision.*astype\("float64"\)'):
        data.as_dataset((X.astype(np.longdouble), Y))


def test_a_masked_array_without_masked_values_is_an_array():
    assert data.as_dataset((np.ma.masked_array(X), Y)).x.shape == (12, 3)


def test_missing_values_of_arrays_can_be_filled_or_dropped():
    x = spoiled(np.nan, (3, 1))
    assert len(data.as_dataset((x, Y), missing="drop").x) == 11
    filled = data.as_dataset((x, Y), missing="mean").x
    assert np.isclose(filled[3, 1], np.delete(X[:, 1], 3).mean())


LABELS = {
    "int8": (Y.astype(np.int8), list(Y), ("0", "1", "2")),
    "uint64": (Y.astype(np.uint64), list(Y), ("0", "1", "2")),
    "big-endian": (Y.astype(">i4"), list(Y), ("0", "1", "2")),
    "bool": (Y > 0, list((Y > 0).astype(int)), ("False", "True")),
    "text": (np.array(["b", "a", "c"])[Y], [[1, 0, 2][i] for i in Y], ("a", "b", "c")),
    "column": (Y[:, None], list(Y), ("0", "1", "2")),
    "gap": (Y * 2, list(Y * 2), ("0", "1", "2", "3", "4")),
    "list": (Y.tolist(), list(Y), ("0", "1", "2")),
}


@pytest.mark.parametrize("y, indices, classes", LABELS.values(), ids=LABELS)
def test_labels_become_indices_in_the_documented_order(y, indices, classes):
    ready = data.as_dataset((X, y))
    assert ready.y.tolist() == indices and ready.y.dtype == np.int64 and ready.classes == classes


@pytest.mark.parametrize("labels", [(-1, 0, 1), (0, 7, 10**9), (5000, 6000, 2**62)])
def test_labels_that_do_not_count_from_zero_are_mapped_and_it_is_said(labels):
    with pytest.warns(ChainruleWarning, match="do not count from 0; they became classes 0 to 2"):
        ready = data.as_dataset((X, np.array(labels)[Y]))
    assert ready.y.tolist() == Y.tolist() and ready.target.labels == labels and ready.outputs == 3


def test_an_ignored_label_stays_what_it_is():
    y = Y.copy()
    y[2] = -100
    ready = data.as_dataset((X, y), ignore_index=-100)
    assert ready.y.tolist() == y.tolist() and ready.outputs == 3


def test_float_labels_need_to_be_whole_and_said_to_be_classes():
    assert data.as_dataset((X, Y.astype(float)), task="classification").y.dtype == np.int64
    assert data.as_dataset((X, Y.astype(float))).task == "regression"
    with pytest.raises(DataError, match=r"'y' has 1 labels that are not whole numbers \(first: 0.5, row 1\)"):
        data.as_dataset((X, np.where(np.arange(12) == 1, 0.5, Y)), task="classification")


def test_real_targets_are_columns():
    assert data.as_dataset((X, X[:, 0])).y.shape == (12, 1)
    assert data.as_dataset((X, X[:, :1])).y.shape == (12, 1)
    assert data.as_dataset((X, X)).outputs == 3
    with pytest.raises(DataError, match=r"y has 1 NaN|'y' is missing in 1 rows \(first: row 3\)"):
        data.as_dataset((X, spoiled(np.nan, (3, 1))[:, 1]))


def test_whole_numbers_of_two_dimensions_need_a_task():
    onehot = np.eye(3, dtype=int)[Y]
    with pytest.raises(ArgumentError, match=r"can mean three things.*task='probabilities'"):
        data.as_dataset((X, onehot))
    assert data.as_dataset((X, onehot), task="probabilities").y.dtype == np.float32
    with pytest.raises(DataError, match=r"12 rows of probabilities do not add up to 1 \(first: row 0, sum 2\)"):
        data.as_dataset((X, 2 * onehot), task="probabilities")
    with pytest.raises(DataError, match="negative probabilities"):
        data.as_dataset((X, onehot * 3.0 - 0.5), task="probabilities")


def test_one_class_warns():
    with pytest.warns(ChainruleWarning, match="one class only, 0"):
        data.as_dataset((X, Y * 0))


def test_a_label_that_only_validation_has_is_refused():
    with pytest.raises(DataError, match=r"1 labels that are no class of the training data \(first: 9 at row 1\)"):
        data.as_dataset((X, Y), validation=(X[:2], np.array([0, 9])))


def test_the_result_of_load_passed_whole_is_explained():
    with pytest.raises(ArgumentError, match="pass the first pair as data and the second as validation"):
        data.as_dataset(data.load("moons"))
    with pytest.raises(ArgumentError, match=r"as a tuple \(x, y\)"):
        data.as_dataset([X, Y])
    with pytest.raises(ArgumentError, match="data is ndarray"):
        data.as_dataset(X)


def test_batches_are_checked_as_they_come():
    stream = data.as_dataset([(X[:6], Y[:6]), (X[6:], Y[6:])], epochs=3)
    for _ in range(2):
        assert [len(x) for x, _ in stream] == [6, 6]
    x, y = next(iter(stream))
    assert x.dtype == np.float32 and y.dtype == np.int64
    with pytest.raises(DataError, match=r"batch 1: x has 1 NaN in 1 columns \(first: row 3, column 1\)"):
        list(data.as_dataset([(X, Y), (spoiled(np.nan, (3, 1)), Y)]))
    with pytest.raises(DataError, match=r"batch 0: y has 4 labels below 0 \(first: -1 at row 0\)"):
        list(data.as_dataset([(X, Y - 1)]))
    with pytest.raises(ShapeError, match="batch 0: x has 12 rows and batch 0: y has 11"):
        list(data.as_dataset([(X, Y[1:])]))
    with pytest.raises(DataError, match="gave no batch"):
        list(data.as_dataset([]))


def test_a_generator_serves_one_epoch_only():
    def once():
        yield X, Y

    assert len(list(data.as_dataset(once()))) == 1
    with pytest.raises(ArgumentError, match="generator, which runs through once, and epochs is 2"):
        data.as_dataset(once(), epochs=2)


def test_a_torch_loader_is_an_iterable_of_batches():
    torch = peer("torch")
    pairs = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    stream = data.as_dataset(torch.utils.data.DataLoader(pairs, batch_size=5), epochs=2)
    assert [len(x) for x, _ in stream] == [5, 5, 2] == [len(x) for x, _ in stream]


def test_digits_of_large_integers_that_float32_loses_are_said():
    with pytest.warns(ChainruleWarning, match="integers beyond 2\\^24"):
        data.as_dataset((np.full((3, 1), 2**24 + 1) + np.arange(3)[:, None], [0, 1, 0]))
    exact = data.as_dataset((np.full((2, 1), 2**40 + 1.0), [0, 1]), dtype="float64").x
    assert exact.dtype == np.float64 and exact[0, 0] == 2**40 + 1
