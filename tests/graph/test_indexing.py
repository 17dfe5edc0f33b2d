"""x[...] against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.errors import ArgumentError, ChainruleError, DataDependentError, DataError, DTypeError, ShapeError
from chainrule.graph import evaluate, tensor, trace
from chainrule.spec import FLOAT64, TensorSpec

shapes = st.lists(st.integers(0, 4), min_size=0, max_size=3).map(tuple)


@st.composite
def indices(draw):
    """(array, index): slices of any sign, numbers, new axes, an ellipsis, integer and boolean arrays."""
    shape = draw(shapes)
    x = np.arange(float(np.prod(shape))).reshape(shape)
    entries, axis = [], 0
    common = draw(st.sampled_from([(), (1,), (3,), (2, 1), (0,)]))
    while axis < x.ndim and draw(st.integers(0, 5)):
        n = shape[axis]
        kind = draw(st.sampled_from(["slice", "slice", "number", "array", "list", "mask"]))
        if kind == "number" and n:
            entries.append(draw(st.integers(-n, n - 1)))
        elif kind == "array" and n:
            size = int(np.prod(common))
            values = draw(st.lists(st.integers(-n, n - 1), min_size=size, max_size=size))
            entries.append(np.array(values, np.int64).reshape(common))
        elif kind == "mask" and not any(isinstance(e, np.ndarray) for e in entries):
            entries.append(np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool))
            axis = x.ndim  # one mask and nothing after it: masks of different counts would not meet
        else:
            bound = st.one_of(st.none(), st.integers(-n - 2, n + 2))
            step = draw(st.sampled_from([None, 1, 2, 3, -1, -2, -3]))
            entries.append(slice(draw(bound), draw(bound), step))
        axis += 1
    if draw(st.booleans()):
        entries.insert(draw(st.integers(0, len(entries))), None)
    if draw(st.booleans()):
        masked = any(isinstance(e, np.ndarray) and e.dtype == bool for e in entries)
        entries.insert(len(entries) if masked else draw(st.integers(0, len(entries))), Ellipsis)
    return x, tuple(entries)


@settings(max_examples=600)
@given(indices())
def test_indexing_gives_what_numpy_gives(drawn):
    x, index = drawn
    try:
        expected = x[index]
    except IndexError:
        with pytest.raises(ChainruleError):
            tensor(x)[index]
        return
    found = tensor(x)[index].numpy()
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)
    graph = trace(lambda t: t[index], TensorSpec(x.shape, FLOAT64)).graph
    assert np.array_equal(evaluate(graph, x)[0], expected)


def test_a_number_beside_arrays_moves_axes_as_in_numpy():
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    for index in ((0, slice(None), [1, 2]), ([0, 1], slice(None), 2), (slice(None), 1, [0, 2]), (0, [1, 2], None, 3)):
        assert np.array_equal(tensor(x)[index].numpy(), x[index]), index


def test_indices_may_be_tensors_and_traced():
    x = np.arange(12.0).reshape(4, 3)
    assert tensor(x)[tensor([3, -1])].shape == (2, 3)
    graph = trace(lambda t, i: t[i, 1], TensorSpec((4, 3), FLOAT64), TensorSpec((2,), np.dtype("int64"))).graph
    assert evaluate(graph, x, np.array([-1, 0]))[0].tolist() == [10, 1]


def test_a_boolean_index_chooses_when_eager_and_offers_where_when_traced():
    x = np.arange(6.0).reshape(2, 3)
    assert tensor(x)[tensor(x) > 2].tolist() == [3, 4, 5]
    assert tensor(x)[:, [True, False, True]].tolist() == [[0, 2], [3, 5]]
    with pytest.raises(DataDependentError, match=r"boolean indexing.*where\(\)"):
        trace(lambda t: t[t > 2], TensorSpec((2, 3), FLOAT64))


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (5, ShapeError, r"index 5 is outside axis 0 of float64\[4, 3\]"),
        ((0, 0, 0), ShapeError, "too many indices"),
        ((..., 0, ...), ShapeError, "2 ellipses"),
        ([0, 7], DataError, r"index 7 at position \[1\] is outside an axis of 4 \(1 of 2 are\)"),
        ([-5], DataError, "outside an axis of 4"),
        (np.array([0.5]), DTypeError, "indices must be integers"),
        (True, ArgumentError, r"where\(\)"),
        (np.array(True), ArgumentError, r"where\(\)"),
        (np.array([True, False]), ShapeError, r"boolean index of shape \[2\] does not fit"),
    ],
)
def test_an_index_that_does_not_fit_is_named(index, error, message):
    with pytest.raises(error, match=message):
        tensor(np.ones((4, 3)))[index]
