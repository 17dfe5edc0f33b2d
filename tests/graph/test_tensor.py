"""Tensors: how they print, convert, promote and meet NumPy."""

import math

import numpy as np
import pytest

from chainrule.errors import ArgumentError, CapturedTensorError, DataDependentError, DTypeError, ShapeError
from chainrule.graph import constant, tensor, trace
from chainrule.ops import add, as_tensor, cumsum, divide, maximum, mean, multiply, prod, subtract, where
from chainrule.ops import sum as sum_
from chainrule.spec import DTYPES, FLOAT32, FLOAT64, INT64, TensorSpec, promote

VECTOR = TensorSpec((3,), FLOAT64)


def test_a_tensor_prints_its_values_and_what_is_unusual_about_it():
    assert repr(tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    assert repr(tensor([1, 2])) == "tensor([1, 2])"
    assert repr(tensor([True])) == "tensor([ True])"
    assert repr(tensor(np.zeros(1))) == "tensor([0.], dtype=float64)"
    assert repr(tensor(1.0, requires_grad=True)) == "tensor(1., requires_grad=True)"
    assert f"{tensor(0.125):.2f}" == "0.12"


def test_a_traced_tensor_prints_what_is_known_of_it():
    seen = []
    trace(lambda x: seen.append(repr(x)) or x + 1, VECTOR, names=["speed"])
    assert seen == ["<traced speed: float64[3]>"]


def test_python_floats_become_float32_and_arrays_keep_their_dtype():
    assert tensor(1.5).dtype == tensor([1.5, 2]).dtype == FLOAT32
    assert tensor(np.float64(1.5)).dtype == tensor(np.ones(2)).dtype == FLOAT64
    assert tensor(3).dtype == INT64
    assert tensor(np.ones(2, np.float16)).dtype == FLOAT32
    assert tensor(np.ones(2, ">i4")).dtype == np.dtype("int32")


def test_a_tensor_holds_a_copy_and_gives_copies():
    source = np.ones(3)
    made = tensor(source)
    source[0] = 5
    given = made.numpy()
    given[1] = 7
    assert made.tolist() == [1, 1, 1]
    kept = constant(source)
    source[0] = 9
    assert kept.tolist() == [5, 1, 1]
    with pytest.raises(ArgumentError, match="copy=False"):
        np.asarray(made, copy=False)
    assert np.array_equal(np.asarray(made), [1, 1, 1])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ma.masked_array([1.0, 2.0], [True, False]), r"masked arrays lose their mask.*\.filled"),
        ([[1.0], [2.0, 3.0]], "rows of different lengths"),
        (np.array(["a"]), "convert it to numbers"),
        (np.array([1j]), "convert it to numbers"),
        (np.array([object()]), "convert it to numbers"),
        (np.array([2**63], np.uint64), "int64 here, which cannot hold 9223372036854775808"),
        (np.ones(2, np.int16), "int16"),
    ],
)
def test_what_cannot_be_a_tensor_is_refused_with_the_way_out(value, message):
    with pytest.raises((DTypeError, ShapeError), match=message):
        tensor(value)


def test_only_floats_can_require_gradients():
    with pytest.raises(DTypeError, match=r"only floating-point tensors can require gradients, got int64\[2\]"):
        tensor([1, 2], requires_grad=True)


@pytest.mark.parametrize("a", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("b", DTYPES.values(), ids=DTYPES)
def test_dtypes_meet_as_in_numpy_but_an_integer_never_widens_a_float(a, b):
    plain = np.result_type(a, b)
    floats = [d for d in (a, b) if d.kind == "f"]
    expected = max(floats, key=lambda d: d.itemsize) if floats else plain
    assert promote(a, b) == expected
    x, y = np.ones(2, a), np.ones(2, b)
    assert (tensor(x) + tensor(y)).dtype == expected
    assert maximum(x, y).dtype == expected
    assert np.array_equal((tensor(x) * tensor(y)).numpy(), x * y)


@pytest.mark.parametrize(
    ("dtype", "scalar", "expected"),
    [
        ("float32", 2.5, "float32"),
        ("float32", np.float64(2.5), "float32"),  # NumPy: float64
        ("float32", 3, "float32"),
        ("float64", 2.5, "float64"),
        ("int64", 2, "int64"),
        ("int64", 2.5, "float32"),  # NumPy: float64
        ("uint8", 2, "uint8"),
        ("uint8", 300, "int64"),  # NumPy: OverflowError
        ("uint8", -1, "int64"),
        ("int32", True, "int32"),
        ("bool", 2, "int64"),
        ("bool", 2.5, "float32"),
    ],
)
def test_scalars_are_weak(dtype, scalar, expected):
    x = np.ones(2, dtype)
    for y in (tensor(x) + scalar, scalar + tensor(x)):
        assert y.dtype == np.dtype(expected)
        assert np.allclose(y.numpy(), 1 + float(scalar))


def test_a_python_scalar_keeps_its_precision_beside_float64():
    assert (tensor(np.zeros(1)) + 0.1).item() == 0.1


def test_comparisons_with_numbers_outside_the_dtype_are_right():
    assert (tensor(np.array([0, 255], np.uint8)) < 300).tolist() == [True, True]
    assert (tensor(np.array([0, 255], np.uint8)) > -1).tolist() == [True, True]


def test_sums_and_products_of_small_integers_do_not_wrap_around():
    x = np.array([200, 100, 2], np.uint8)
    assert sum_(x).item() == np.sum(x) == 302
    assert prod(x).item() == 40000
    assert cumsum(x).tolist() == [200, 300, 302]
    assert sum_(tensor([True, True])).item() == 2
    assert cumsum([2**53, 1]).tolist() == [2**53, 2**53 + 1]


def test_booleans_count_as_integers_in_differences_and_powers():
    yes = tensor([True])
    assert (-yes).tolist() == [-1]
    assert (yes - tensor([True])).tolist() == [0]
    assert (yes**2).tolist() == [1]
    assert (yes + tensor([True])).tolist() == [True]  # as NumPy


def test_arrays_and_tensors_mix_in_both_orders():
    x, t = np.arange(6.0).reshape(2, 3), tensor(np.arange(3.0) + 1)
    pairs = [(x + t, t + x), (x - t, -(t - x)), (x * t, t * x), (x / t, 1 / (t / (x + 1e-300)))]
    for left, right in pairs:
        assert type(left) is type(right) is type(t)
        assert np.allclose(left.numpy(), right.numpy())
    assert np.array_equal((x @ t).numpy(), x @ np.array([1.0, 2.0, 3.0]))
    assert np.array_equal((x < t).numpy(), x < np.array([1.0, 2.0, 3.0]))
    assert np.array_equal((2.0**t).numpy(), [2, 4, 8])
    assert np.array_equal((np.float64(2) * t).numpy(), [2, 4, 6])
    with pytest.raises(TypeError):
        np.exp(t)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0,), (2, 0, 3)])
def test_methods_equal_numpy(shape):
    x = np.random.default_rng(0).uniform(0.5, 2, shape)
    t = tensor(x)
    for name in ("sum", "prod"):
        assert np.allclose(getattr(t, name)().numpy(), getattr(x, name)())
    if x.size:
        for name in ("mean", "max", "min", "var", "std", "argmax", "argmin"):
            assert np.allclose(getattr(t, name)().numpy(), getattr(x, name)()), name
    assert np.allclose(t.exp().log().sqrt().numpy(), np.sqrt(x))
    assert np.allclose(abs(-t).numpy(), x)
    assert np.array_equal((t // 0.75).numpy(), x // 0.75)
    assert np.array_equal((t % 0.75).numpy(), x % 0.75)
    assert t.flatten().shape == (x.size,)
    assert t.reshape(-1, 1).shape == (x.size, 1) if x.size else True


def test_operators_on_booleans_are_logical():
    a, b = tensor([True, True, False]), tensor([True, False, False])
    assert (a & b).tolist() == [True, False, False]
    assert (a | b).tolist() == [True, True, False]
    assert (a ^ b).tolist() == [False, True, False]
    assert (~a).tolist() == [False, False, True]


@pytest.mark.parametrize("combine", [lambda a: a & 3, lambda a: 3 | a, lambda a: a ^ a, lambda a: ~a])
def test_operators_on_bits_are_refused(combine):
    with pytest.raises(DTypeError, match="take booleans, got int64"):
        combine(tensor([1, 2]))


def test_python_reads_a_tensor_of_one_element():
    assert float(tensor(2.5)) == 2.5 and int(tensor(3)) == 3 and [10, 20][tensor(1)] == 20
    assert bool(tensor(1.0)) and not tensor([0])
    assert len(tensor([1, 2])) == 2 and [x.item() for x in tensor([1, 2])] == [1, 2]
    with pytest.raises(ShapeError, match=r"item\(\) needs a tensor of one element, got float32\[2\]"):
        tensor([1.0, 2.0]).item()
    with pytest.raises(ShapeError, match=r"ambiguous: use \.all\(\) or \.any\(\)"):
        bool(tensor([1.0, 2.0]))
    with pytest.raises(DTypeError, match="cannot be an index"):
        [10, 20][tensor(1.0)]
    with pytest.raises(ShapeError, match="0-d"):
        iter(tensor(1.0))
    with pytest.raises(ShapeError, match="0-d"):
        len(tensor(1.0))


def test_a_tensor_is_never_changed_in_place():
    t = tensor([1.0, 2.0])
    with pytest.raises(DTypeError, match=r"cannot be changed in place.*where\(\)"):
        t[0] = 5.0
    before = t
    t += 1
    assert before.tolist() == [1, 2] and t.tolist() == [2, 3]


@pytest.mark.parametrize("read", [bool, float, int, lambda x: x.numpy(), lambda x: x.tolist(), np.asarray])
def test_reading_a_value_that_is_only_traced_says_what_to_do(read):
    with pytest.raises(DataDependentError, match=r"only traced here.*where\(\)"):
        trace(lambda x: x if read(sum_(x)) else -x, VECTOR)


def test_a_captured_tensor_is_refused_by_name_and_a_constant_is_not():
    weights = tensor(np.ones(3))
    weights.name = "weights"
    with pytest.raises(CapturedTensorError, match=r"'weights' \(float64\[3\]\).*at test_tensor.py:.*constant"):
        trace(lambda x: x * weights, VECTOR)
    graph = trace(lambda x: x * constant(weights) + np.ones(3) * 2.0, VECTOR).graph
    assert len(graph.inputs) == 1


def innermost_user_frame(error):
    """(file, line text) of the last frame outside the package."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    return next(f.line for f in reversed(frames) if "chainrule" not in f.filename.split("src")[-1])


@pytest.mark.parametrize("operation", [add, subtract, multiply, divide, maximum])
def test_shapes_that_do_not_fit_are_named_at_the_users_line(operation):
    a, b = np.ones((2, 3)), np.ones((2, 4))
    with pytest.raises(
        ShapeError, match=rf"{operation.name}: shapes \[2, 3\] and \[2, 4\].*axis -1 has sizes 3 and 4"
    ) as e:
        operation(a, b)
    assert innermost_user_frame(e.value) == "operation(a, b)"
    with pytest.raises(ShapeError, match=operation.name) as e:
        trace(lambda x: operation(x, b), TensorSpec((2, 3), FLOAT64))
    assert innermost_user_frame(e.value) == "trace(lambda x: operation(x, b), TensorSpec((2, 3), FLOAT64))"


def test_matmul_names_both_matrices_and_the_remedy():
    with pytest.raises(
        ShapeError, match=r"matmul: columns of a \(float64\[64, 784\]\) must match rows of b .*in_features"
    ):
        as_tensor(np.ones((64, 784))) @ np.ones((128, 10))


def test_nothing_and_words_are_refused_as_operands():
    with pytest.raises(DTypeError, match="add: got None where a number or a tensor is needed"):
        tensor(1.0) + None
    with pytest.raises(DTypeError, match="where: got 'a'"):
        where(tensor(True), "a", 1.0)


def test_a_mean_over_nothing_is_refused():
    with pytest.raises(ShapeError, match=r"mean: float64\[0\] has no elements along axes \(0,\)"):
        mean(np.zeros(0))
    assert math.isclose(mean(np.ones((2, 2))).item(), 1.0)
