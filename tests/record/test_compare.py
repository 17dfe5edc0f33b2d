"""Where two sets of arrays part, and the shapes a layer trace may have; and that importing the record loads nothing."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.errors import ShapeError
from chainrule.record import LayerTrace, NetworkTrace, first_difference


def changed(array, index, value):
    copy = array.copy()
    copy[index] = value
    return copy


ONES = np.ones((3, 4), np.float32)


def test_equal_bits_have_no_difference():
    arrays = {"w": ONES, "n": np.array([np.nan, 0.0]), "i": np.arange(3), "e": np.zeros((0, 2)), "s": np.array(1.0)}
    assert first_difference(arrays, {name: array.copy() for name, array in reversed(arrays.items())}) is None
    assert first_difference({"n": np.array([np.nan])}, {"n": np.array([-np.nan])}) is None


def test_the_first_entry_that_differs_is_given_with_its_distance():
    up = np.nextafter(np.float32(1), np.float32(2))
    found = first_difference({"b": ONES, "w": ONES}, {"w": changed(ONES, ([1, 2], [2, 0]), up), "b": ONES})
    assert (found.name, found.reason, found.index, found.ulps) == ("w", "value", (1, 2), 1)
    assert found.distance == pytest.approx(2**-23)
    assert (found.differing, found.entries) == (2, 12)
    assert str(found) == "w[1, 2]: 1.0 and 1.0000001192092896, 1.19e-07 apart (1 ulp); 2 of 12 entries differ"


def test_the_sign_of_zero_is_a_difference():
    found = first_difference({"w": np.array(0.0)}, {"w": np.array(-0.0)})
    assert (found.index, found.distance, found.ulps) == ((), 0.0, 1)


@pytest.mark.parametrize(
    ("a", "b", "distance", "ulps"),
    [
        (np.array([1, 5]), np.array([1, 3]), 2.0, None),
        (np.array([True]), np.array([False]), 1.0, None),
        (np.array([np.iinfo(np.int64).min]), np.array([np.iinfo(np.int64).max]), float(2**64), None),
        (np.array([1j]), np.array([0j]), 1.0, None),
        (np.array([-1e-45, 0], "f4"), np.array([1e-45, 0], "f4"), 2.802596928649634e-45, 3),
        (np.array([1.0], ">f8"), np.array([1.5], ">f8"), 0.5, 2**51),
        (np.array(["a"]), np.array(["b"]), None, None),
    ],
)
def test_every_type_has_its_distance(a, b, distance, ulps):
    found = first_difference({"x": a}, {"x": b})
    assert (found.distance, found.ulps) == (distance, ulps)


def test_nan_against_a_number_has_no_steps():
    found = first_difference({"x": np.array([np.nan])}, {"x": np.array([1.0])})
    assert found.ulps is None
    assert np.isnan(found.distance)


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        ({"w": ONES}, {}, "w: only in the first"),
        ({}, {"w": ONES}, "w: only in the second"),
        ({"w": ONES}, {"w": ONES.T}, "w: shape [3, 4] and [4, 3]"),
        ({"w": ONES}, {"w": ONES.astype("f8")}, "w: dtype float32 and float64"),
    ],
)
def test_what_cannot_be_compared_is_said(a, b, text):
    assert str(first_difference(a, b)) == text


@given(st.floats(width=32, allow_nan=False), st.integers(1, 1000))
def test_steps_are_counted_by_nextafter(start, count):
    x = np.float32(start)
    for _ in range(count):
        x = np.nextafter(x, np.float32(np.inf))
    crossing = int(np.signbit(np.float32(start)) != np.signbit(x))  # -0.0 to 0.0 is a step that nextafter leaves out
    found = first_difference({"x": np.array([start], "f4")}, {"x": np.array([x])})
    if found is None:
        assert np.isinf(start)
    elif not np.isinf(x):
        assert found.ulps - count in (0, crossing)


def test_a_layer_trace_holds_the_product_that_is_the_gradient():
    draw = np.random.default_rng(0)
    a, delta = draw.standard_normal((8, 3)), draw.standard_normal((8, 2))
    layer = LayerTrace("0", "Linear", a, a @ np.ones((3, 2)), delta, np.ones((2, 3)))
    network = NetworkTrace((layer,), loss=0.5, rows=8)
    gradient = network.layers[0].delta.T @ network.layers[0].a / network.rows
    assert gradient.shape == layer.weight.shape


@pytest.mark.parametrize("shapes", [((8, 3), (7, 2), (7, 2)), ((8, 3), (8, 2), (8, 3)), ((), (8, 2), (8, 2))])
def test_a_layer_trace_whose_arrays_do_not_belong_together_is_refused(shapes):
    a, z, delta = map(np.zeros, shapes)
    with pytest.raises(ShapeError, match="'0'"):
        LayerTrace("0", "Linear", a, z, delta, np.zeros((2, 3)))


def test_importing_the_record_loads_nothing_until_it_is_used():
    program = (
        "import sys, chainrule.record as record\n"
        "heavy = {'numpy', 'sqlite3', 'msgspec', 'safetensors'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert all(getattr(record, name) is not None for name in record.__all__)\n"
        "assert not hasattr(record, 'nothing')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
