"""cr.compile: traced once for each kind of argument, read anew in all that a network holds."""

import logging
from typing import Any, NamedTuple

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.compiler.function import MANY
from chainrule.errors import (
    ArgumentError,
    CapturedTensorError,
    ChainruleWarning,
    DataDependentError,
    DTypeError,
    GraphError,
)

X = np.arange(6, dtype=np.float32).reshape(2, 3)


class Pair(NamedTuple):
    first: Any
    second: Any


def test_a_compiled_function_gives_what_the_function_gives():
    def f(x, scale):
        return cr.ops.sum(cr.ops.tanh(x) * scale, axis=1)

    np.testing.assert_array_equal(cr.compile(f)(X, 2.5).numpy(), f(cr.tensor(X), 2.5).numpy())


@pytest.mark.parametrize(
    "structure",
    [{"a": X, "b": [X, (X,)]}, [X, X], (X,), Pair(X, {"c": X}), {"n": 3, "text": "a", "none": None, "x": X}],
)
def test_structures_go_in_and_come_out_as_they_are(structure):
    result = cr.compile(lambda s: s)(structure)
    assert type(result) is type(structure)
    assert repr(result).replace("Tensor", "") == repr(cr.compile(lambda s: s)(structure)).replace("Tensor", "")

    def compare(got, given):
        if isinstance(given, np.ndarray):
            np.testing.assert_array_equal(got.numpy(), given)
        elif isinstance(given, dict):
            assert list(got) == list(given)
            for name in given:
                compare(got[name], given[name])
        elif isinstance(given, (list, tuple)):
            assert len(got) == len(given)
            for one, other in zip(got, given, strict=True):
                compare(one, other)
        else:
            assert got == given

    compare(result, structure)


def test_it_is_traced_once_for_each_shape_dtype_structure_and_whole_number(caplog):
    traced = []

    @cr.compile
    def f(x, axis=0, mode="sum"):
        traced.append(x.shape)
        return cr.ops.sum(x, axis=axis) if mode == "sum" else cr.ops.max(x, axis=axis)

    with caplog.at_level(logging.INFO, logger="chainrule.compile"):
        for _ in range(3):
            f(X)
            f(X[:1])
            f(X.astype(np.float64))
            f(X, axis=1)
            f(X, mode="max")
            f(X, axis=True and 1)
    assert len(traced) == 5
    assert len(caplog.records) == 4
    assert "f traced again at" in caplog.text
    assert "test_compile.py:" in caplog.text
    assert "arguments were (float32[2, 3]), now (float32[1, 3])" in caplog.text
    np.testing.assert_array_equal(f(X, axis=1).numpy(), X.sum(axis=1))
    np.testing.assert_array_equal(f(X, mode="max").numpy(), X.max(axis=0))


def test_true_is_not_one_and_a_text_is_not_a_tensor():
    f = cr.compile(lambda x, flag: x + 1 if flag is True else x - 1)
    assert f(X, True).numpy()[0, 0] == 1
    assert f(X, 1).numpy()[0, 0] == -1
    g = cr.compile(lambda a, b: a if isinstance(b, str) else b)
    assert g(X, "tensor").numpy()[0, 0] == 0
    assert g(X, X + 7).numpy()[0, 0] == 7


def test_many_traces_are_said_once():
    f = cr.compile(lambda x, n: x * n)
    with pytest.warns(ChainruleWarning, match=f"traced {MANY} times") as said:
        for n in range(MANY + 10):
            f(X, n)
    assert len(said) == 1


def test_parameters_are_read_anew_and_buffers_are_written():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    f = cr.compile(net)
    eager = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    for _ in range(3):
        net[0].weight.array[...] += 0.5
        eager.load_state_dict(net.state_dict())
        np.testing.assert_array_equal(f(X).numpy(), eager(X).numpy())
        for name, array in eager.state_dict().items():
            np.testing.assert_array_equal(net.state_dict()[name], array, err_msg=name)
    assert f.traces == 1


def test_a_change_of_mode_is_noticed():
    net = nn.Sequential(nn.Linear(3, 2), nn.Dropout(1.0), nn.BatchNorm1d(2))
    f = cr.compile(net.eval())
    for mode in (False, True, False, True):
        object.__setattr__(net[2], "training", mode)
        np.testing.assert_array_equal(f(X).numpy(), net(X).numpy())
    assert f.traces == 2


def test_two_outputs_that_turn_out_to_be_one_value_are_both_given():
    found = cr.compile(lambda x: (cr.ops.sin(x) * 2, cr.ops.sin(x) * 2, x, x))(np.arange(3.0))
    for given, wanted in zip(found, [2 * np.sin(np.arange(3.0))] * 2 + [np.arange(3.0)] * 2, strict=True):
        np.testing.assert_allclose(given.numpy(), wanted, rtol=1e-14)


def test_what_is_returned_is_the_callers_own():
    net = nn.Linear(3, 2)
    x = X.copy()
    same, turned, weight = cr.compile(lambda x: (x, x.T, net.weight))(x)
    before = [t.numpy() for t in (same, turned, weight)]
    x[...] = 9
    net.weight.array[...] = 9
    for tensor, array in zip((same, turned, weight), before, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_other_tensors_are_refused_unless_they_are_constants():
    outside = cr.tensor(np.ones(3, np.float32))
    with pytest.raises(CapturedTensorError, match=r"constant\(...\) if freezing is meant"):
        cr.compile(lambda x: x * outside)(X)
    np.testing.assert_array_equal(cr.compile(lambda x: x * cr.constant(outside))(X).numpy(), X)


def test_after_an_exception_it_works_as_before():
    fail = [True]

    @cr.compile
    def f(x):
        if fail[0]:
            raise ValueError("half way")
        return x + 1

    with pytest.raises(ValueError, match="half way"):
        f(X)
    fail[0] = False
    np.testing.assert_array_equal(f(X).numpy(), X + 1)
    assert (cr.tensor(X) + 1).numpy().tolist() == (X + 1).tolist()  # eager again


def test_gradients_pass_through_it_where_they_are_asked_for():
    f = cr.compile(lambda x: cr.ops.sum(x * x))
    x = cr.tensor(X, requires_grad=True)
    f(x).backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * X)
    np.testing.assert_array_equal(cr.grad(f)(X).numpy(), 2 * X)
    np.testing.assert_array_equal(cr.compile(cr.grad(lambda x: cr.ops.sum(x * x)))(X).numpy(), 2 * X)


@pytest.mark.parametrize(
    "call, kind, words",
    [
        (lambda: cr.compile(3), ArgumentError, "takes a function"),
        (lambda: cr.compile(lambda x: x, backend="gpu"), ArgumentError, "backend must be one of native, reference"),
        (lambda: cr.compile(lambda x: x).graph, GraphError, "not been called yet"),
        (lambda: cr.compile(lambda x, s: x)(X, {1}), ArgumentError, "has no hash"),
        (lambda: cr.compile(lambda x: x)(np.array([None])), DTypeError, "object"),
        (lambda: cr.compile(lambda x: x if x.sum() > 0 else -x)(X), DataDependentError, r"Use where\(\)"),
    ],
)
def test_misuse_is_named(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


def test_the_graph_of_the_last_call_can_be_printed():
    f = cr.compile(lambda x: cr.ops.tanh(x) * 2)
    f(X)
    assert "tanh" in str(f.graph)
    assert "test_compile.py" in str(f.graph)
    assert f.__wrapped__ is f.function
