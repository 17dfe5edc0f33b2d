"""The float32 functions within their units in the last place and monotone; the float64 ones as NumPy's."""

import functools
import math

import numpy as np
import pytest

from backends.build import compile_text
from chainrule.backends.native.functions import OF_ONE, definition
from chainrule.errors import GraphError
from peers import peer

SPELLING = {np.dtype("float32"): ("float", "v16f32"), np.dtype("float64"): ("double", "v16f64")}
ULP = {"exp": 1.1, "expm1": 1.5, "log": 0.9, "log1p": 1.0, "tanh": 1.5, "erf": 1.0, "sin": 1.6, "cos": 1.6}
"""Largest error in float32, in units in the last place of the exact result."""
RISING = ("exp", "expm1", "log", "log1p", "tanh", "erf")
REFERENCE = {name: getattr(np, name, None) for name in OF_ONE} | {"erf": None}

LOOP = """define void @NAME(ptr %in, ptr %out, i64 %n, i64 %_0, i64 %_1, i64 %_2) {
entry: br label %loop
loop: %i = phi i64 [ 0, %entry ], [ %next, %loop ]
%p = getelementptr ELEMENT, ptr %in, i64 %i
%x = load <16 x ELEMENT>, ptr %p, align 8
%y = call <16 x ELEMENT> @FUNCTION(<16 x ELEMENT> %x)
%q = getelementptr ELEMENT, ptr %out, i64 %i
store <16 x ELEMENT> %y, ptr %q, align 8
%next = add i64 %i, 16
%more = icmp slt i64 %next, %n
br i1 %more, label %loop, label %end
end: ret void
}
"""


@functools.cache
def compiled(name, dtype):
    element, lanes = SPELLING[dtype]
    function = f"chainrule.{name}.{lanes}"
    text = LOOP.replace("NAME", f"test_{name}_{lanes}").replace("ELEMENT", element).replace("FUNCTION", function)
    return compile_text(text + definition(function), f"test_{name}_{lanes}")


def apply(name, x):
    """x: of a size that 16 divides, at least 16."""
    y = np.empty_like(x)
    compiled(name, x.dtype)(x.ctypes.data, y.ctypes.data, x.size, 0, 0, 0)
    return y


def exact(name, x):
    """In float64. erf by mathematics' own library, one at a time, and so rarer numbers."""
    with np.errstate(all="ignore"):
        if name == "erf":
            return np.fromiter(map(math.erf, x.tolist()), np.float64, x.size)
        return REFERENCE[name](x.astype(np.float64))


def errors_in_ulp(found, expected):
    """How far float32 results are from float64 ones, in units of the last place of the latter rounded to float32."""
    with np.errstate(all="ignore"):
        rounded = expected.astype(np.float32)
        same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
        unit = np.spacing(np.abs(np.where(np.isfinite(rounded), rounded, np.float32(1))))
        off = np.abs(found.astype(np.float64) - expected) / unit
    return np.where(same, 0.5, off)


def random_floats(name, n, seed=0):
    """Every exponent alike often, and as many where the function bends; sines to 1e5."""
    random = np.random.default_rng(seed)
    if name in ("sin", "cos"):
        return np.concatenate([random.uniform(-1e5, 1e5, n // 2), random.normal(0, 3, n - n // 2)]).astype(np.float32)
    bits = random.integers(0, 2**32, n // 2, dtype=np.uint32).view(np.float32)
    scale = np.repeat([0.03, 0.5, 3.0, 40.0], (n - n // 2) // 4)
    return np.concatenate([bits, random.normal(0, scale).astype(np.float32)])


def never_falls(y):
    """NaN, which ends a sorted array and is what logarithms give below 0, is left out."""
    y = y[~np.isnan(y)]
    return bool(np.all(y[1:] >= y[:-1]))


SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.1754944e-38, -1e-39, 3.4028235e38, -3.4028235e38,
     88.72284, -103.97208, 0.55, 0.96], np.float32,
)  # fmt: skip


@pytest.mark.parametrize("name", OF_ONE)
def test_float32_functions_are_exact_to_the_stated_units(name):
    pieces = 1 if name == "erf" else 16
    for piece in range(pieces):
        x = random_floats(name, 1 << 20, piece)
        off = errors_in_ulp(apply(name, x), exact(name, x))
        worst = int(np.argmax(off))
        assert off[worst] <= ULP[name], (x[worst], off[worst])


@pytest.mark.parametrize("name", OF_ONE)
def test_infinities_zeros_denormals_and_nan_are_as_numpys(name):
    x = np.resize(SPECIAL, 32)
    if name in ("sin", "cos"):
        x = np.where(np.abs(x) < 1e30, x, np.nan).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = exact(name, x).astype(np.float32)
    found = apply(name, x)
    np.testing.assert_allclose(found, expected, rtol=4e-7, atol=0)
    zero = x == 0
    np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(expected[zero]))
    wide = x.astype(np.float64)
    np.testing.assert_allclose(apply(name, wide), exact(name, wide), rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", RISING)
def test_float32_functions_never_fall_where_they_should_rise(name):
    x = np.sort(random_floats(name, 1 << 21))
    assert never_falls(apply(name, x))
    # Every float of four octaves and its negative, where one formula takes over from another.
    for octave in (0.25, 0.5, 1.0, 2.0):
        first = int(np.float32(octave).view(np.int32))
        x = np.arange(first, first + (1 << 23) + 16, dtype=np.int32).view(np.float32)
        assert never_falls(apply(name, x)), octave
        assert never_falls(-apply(name, -x)), -octave


@pytest.mark.parametrize("name", OF_ONE)
def test_float64_functions_agree_with_numpy_to_1e_13(name):
    random = np.random.default_rng(0)
    n = 1 << (16 if name == "erf" else 19)
    bits = random.integers(0, 2**64, n, dtype=np.uint64).view(np.float64)
    if name in ("sin", "cos"):
        bits = np.where(np.abs(bits) < 1e9, bits, random.uniform(-1e9, 1e9, n))
    x = np.concatenate([bits, random.normal(0, np.repeat([1e-3, 0.5, 3.0, 200.0], n // 4))])
    smallest = np.finfo(np.float64).smallest_subnormal
    np.testing.assert_allclose(apply(name, x), exact(name, x), rtol=1e-13, atol=smallest)


@pytest.mark.parametrize("name", ("sin", "cos"))
def test_sines_stay_between_minus_one_and_one_for_every_number(name):
    random = np.random.default_rng(0)
    single = random.integers(0, 2**32, 1 << 18, dtype=np.uint32).view(np.float32)
    double = random.integers(0, 2**64, 1 << 18, dtype=np.uint64).view(np.float64)
    for x in (single, double):
        y = apply(name, x[np.isfinite(x)][: 1 << 16])
        assert np.all(np.abs(y) <= 1)


@pytest.mark.parametrize("name", ("sin", "cos"))
def test_sines_keep_their_digits_next_to_multiples_of_half_pi(name):
    x = np.concatenate([np.nextafter(k * (np.pi / 2), [0, 1e9]) for k in range(1, 1 << 15)])
    x = x[: x.size // 16 * 16]
    np.testing.assert_allclose(apply(name, x), exact(name, x), rtol=1e-13, atol=0)


def test_a_function_that_does_not_exist_is_refused_by_name():
    with pytest.raises(GraphError, match=r"'chainrule\.gamma\.v16f32'"):
        definition("chainrule.gamma.v16f32")


@pytest.mark.long
@pytest.mark.parametrize("name", OF_ONE)
def test_float32_functions_are_exact_and_monotone_over_all_floats(name):
    # Short enough for the cache, which makes it seven times as fast.
    step = 1 << 16
    reference = peer("scipy.special").erf if name == "erf" else REFERENCE[name]
    for sign in (1, -1):
        last = None
        for first in range(0, 0x7F800000, step):
            x = sign * np.arange(first, first + step, dtype=np.uint32).view(np.float32)
            if name in ("sin", "cos"):
                x = np.where(np.abs(x) <= 1e5, x, np.float32(0))
            y = apply(name, x)
            with np.errstate(all="ignore"):
                off = errors_in_ulp(y, reference(x.astype(np.float64)))
            assert off.max() <= ULP[name], (x[np.argmax(off)], off.max())
            if name in RISING:
                y = sign * y[~np.isnan(y)]
                assert never_falls(y)
                assert last is None or not y.size or y[0] >= last
                last = y[-1] if y.size else last
