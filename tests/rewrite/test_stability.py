"""Formulas that overflow or cancel give finite, right numbers, and so do their gradients."""

import numpy as np
import pytest

from chainrule import ops
from chainrule.graph import evaluate, ones_cotangent, trace, vjp
from chainrule.rewrite import stabilise
from chainrule.spec import FLOAT64, TensorSpec
from programs import assert_same_values, names, traced

EXTREME = np.array([[1000.0, 0.0, -1000.0], [800.0, 799.0, -745.0], [-2000.0, -2000.0, -1999.0]])
MILD = np.array([[0.5, -1.0, 2.0], [0.0, 0.25, 1.5], [-0.5, 3.0, 1.0]])


def log_sum_exp(x):
    top = x.max(-1, keepdims=True)
    return np.log(np.exp(x - top).sum(-1, keepdims=True)) + top


def log_softmax(x):
    apart = x - x.max(-1, keepdims=True)
    return apart - np.log(np.exp(apart).sum(-1, keepdims=True))


FORMULAS = {
    "log softmax": (lambda x: ops.log(ops.softmax(x)), log_softmax),
    "log sum exp": (lambda x: ops.log(ops.sum(ops.exp(x), -1)), lambda x: log_sum_exp(x)[:, 0]),
    "log sum exp, kept": (lambda x: ops.log(ops.sum(ops.exp(x), -1, keepdims=True)), log_sum_exp),
    "log sigmoid": (lambda x: ops.log(ops.sigmoid(x)), lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))),
}
SLOPES = {
    "log softmax": lambda x: 1 - x.shape[-1] * np.exp(log_softmax(x)),
    "log sum exp": lambda x: np.exp(log_softmax(x)),
    "log sum exp, kept": lambda x: np.exp(log_softmax(x)),
    "log sigmoid": lambda x: np.where(x > 0, np.exp(-np.abs(x)), 1.0) / (1 + np.exp(-np.abs(x))),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_an_extreme_input_gives_the_exact_value(name):
    function, expected = FORMULAS[name]
    graph = traced(function, EXTREME)
    (before,), (after,) = evaluate(graph, EXTREME), evaluate(stabilise(graph), EXTREME)
    assert not np.isfinite(before).all()
    np.testing.assert_allclose(after, expected(EXTREME), rtol=1e-14)
    assert_same_values(graph, stabilise(graph), [MILD], rtol=1e-13)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_gradient_at_an_extreme_input_is_exact_too(name):
    def gradient(x):
        loss = ops.sum(FORMULAS[name][0](x))
        return vjp([loss], [ones_cotangent(loss)], [x])

    graph = trace(gradient, TensorSpec(EXTREME.shape, FLOAT64)).graph
    (before,), (after,) = evaluate(graph, EXTREME), evaluate(stabilise(graph), EXTREME)
    assert not np.isfinite(before).all()
    np.testing.assert_allclose(after, SLOPES[name](EXTREME), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("function", "expected", "exact"),
    [
        (lambda x: ops.log(1 + x), ["log1p"], np.log1p),
        (lambda x: ops.log(x + 1), ["log1p"], np.log1p),
        (lambda x: ops.exp(x) - 1, ["expm1"], np.expm1),
        (lambda x: -1 + ops.exp(x), ["expm1"], np.expm1),
    ],
)
def test_small_arguments_keep_their_digits(function, expected, exact):
    x = np.array([1e-18, -1e-12, 1e-5, 0.5])
    stable = stabilise(traced(function, x))
    assert names(stable)[-1:] == expected
    np.testing.assert_allclose(evaluate(stable, x)[0], exact(x), rtol=1e-15)


def test_what_only_looks_alike_stays():
    for function in (
        lambda x: ops.log(2 + x),
        lambda x: ops.exp(x) - 2,
        lambda x: 1 - ops.exp(x),
        lambda x: ops.log(ops.sum(x, -1)),
        lambda x: ops.softmax(x) * ops.log(x),
        lambda x: ops.log(ops.sum(ops.exp(x - ops.max(x, -1, keepdims=True)), -1)),
    ):
        graph = traced(function, MILD)
        assert stabilise(graph) is graph
