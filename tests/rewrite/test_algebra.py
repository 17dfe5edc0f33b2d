"""Each rule on its own: what it gives, and that it changes no bit where it claims so."""

import numpy as np
import pytest

from chainrule import ops
from chainrule.graph import PRIMITIVES, apply, evaluate
from chainrule.rewrite import simplify
from chainrule.spec import FLOAT32, FLOAT64
from programs import assert_same_values, names, traced

SPECIAL = np.array([[0.0, -0.0, 1.5], [np.inf, -np.inf, np.nan], [5e-324, -1.7e308, 3.0]])


EXACT = {
    "x * 1": (lambda x: x * 1.0, []),
    "1 * x": (lambda x: 1.0 * x, []),
    "x / 1": (lambda x: x / 1.0, []),
    "x - 0": (lambda x: x - 0.0, []),
    "the negative of the negative": (lambda x: ops.negative(ops.negative(x)), []),
    "x / 4": (lambda x: x / 4.0, ["multiply"]),
    "x / -0.5": (lambda x: x / -0.5, ["multiply"]),
    "x^1": (lambda x: ops.power(x, exponent=1.0), []),
    "where true": (lambda x: ops.where(np.array(True), x, x + 7.0), []),
    "where false": (lambda x: ops.where(np.array([False]), x + 7.0, x), []),
    "where same": (lambda x: ops.where(x > 0, x, x), []),
    "astype same": (lambda x: apply(PRIMITIVES["astype"], (x,), {"dtype": FLOAT64}), []),
    "identity": (lambda x: ops.identity(x), []),
    "reshape twice": (lambda x: ops.reshape(ops.reshape(x, (9,)), (3, 3)), []),
    "reshape thrice": (lambda x: ops.reshape(ops.reshape(x, (9, 1)), (1, 9)), ["reshape"]),
    "transpose twice": (lambda x: x.T.T, []),
    "permute thrice": (lambda x: x.T.T.T, ["permute_dims"]),
    "permute nothing": (lambda x: ops.permute_dims(x, (0, 1)), []),
    "broadcast to itself": (lambda x: ops.broadcast_to(x, (3, 3)), []),
    "broadcast twice": (lambda x: ops.broadcast_to(ops.broadcast_to(x, (2, 3, 3)), (4, 2, 3, 3)), ["broadcast_to"]),
    "slice of all": (lambda x: PRIMITIVES["slice"](x, (0, 0), (3, 3)), []),
    "pad of nothing": (lambda x: ops.pad(x, 0), []),
    "max over one and three": (lambda x: ops.max(ops.reshape(x, (3, 1, 3)), (1, 2)), ["reshape", "max", "reshape"]),
    "max over one, kept": (lambda x: ops.max(ops.reshape(x, (9, 1)), 1, keepdims=True), ["reshape"]),
    "broadcast before an operation": (lambda x: ops.broadcast_to(x[:1], (3, 3)) * x, ["slice", "multiply"]),
    "operation before broadcast": (lambda x: ops.abs(ops.broadcast_to(x, (2, 3, 3))), ["abs", "broadcast_to"]),
}


@pytest.mark.parametrize("name", EXACT)
def test_an_exact_rule_changes_no_bit(name):
    function, expected = EXACT[name]
    graph = traced(function, SPECIAL)
    simple = simplify(graph)
    assert names(simple) == expected
    (before,), (after,) = evaluate(graph, SPECIAL), evaluate(simple, SPECIAL)
    assert (after.shape, after.dtype) == (before.shape, before.dtype)
    assert np.ascontiguousarray(after).tobytes() == np.ascontiguousarray(before).tobytes()


STAYS = {
    "x * 0": lambda x: x * 0.0,
    "x - x": lambda x: x - x,
    "x / x": lambda x: x / x,
    "x / 3": lambda x: x / 3.0,
    "x / 0": lambda x: x / 0.0,
    "x / 2^127, whose reciprocal is not normal in float32": lambda x: ops.astype(x, FLOAT32) / np.float32(2.0**127),
    "x^0": lambda x: ops.power(x, exponent=0.0),
    "x^3": lambda x: ops.power(x, exponent=3.0),
    "sum over three": lambda x: ops.sum(x, 1),
    "x * where": lambda x: ops.where(x > 0, x, 0.0),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_would_hide_nan_or_change_bits_stays(name):
    graph = traced(STAYS[name], SPECIAL)
    assert simplify(graph) is graph


def test_adding_zero_changes_nothing_but_the_sign_of_zero():
    graph = traced(lambda x: 0.0 + (x + 0.0), SPECIAL)
    assert names(simplify(graph)) == []
    np.testing.assert_array_equal(evaluate(simplify(graph), SPECIAL)[0], evaluate(graph, SPECIAL)[0])


def test_a_sum_of_one_changes_nothing_but_the_sign_of_zero():
    graph = traced(lambda x: ops.sum(ops.reshape(x, (3, 1, 3)), 1), SPECIAL)
    assert names(simplify(graph)) == []
    np.testing.assert_array_equal(evaluate(simplify(graph), SPECIAL)[0], evaluate(graph, SPECIAL)[0])


@pytest.mark.parametrize(("exponent", "expected"), [(2, ["multiply"]), (0.5, ["sqrt"]), (-1, ["divide"])])
def test_small_powers_become_cheaper_operations_within_an_ulp(exponent, expected):
    x = np.concatenate([np.random.default_rng(0).uniform(1e-3, 1e3, 200), [0.0, np.inf, np.nan, 5e-324]])
    graph = traced(lambda x: ops.power(x, exponent=exponent), x)
    simple = simplify(graph)
    assert names(simple) == expected
    (before,), (after,) = evaluate(graph, x), evaluate(simple, x)
    np.testing.assert_array_max_ulp(after[:-2], before[:-2], 1)
    np.testing.assert_array_equal(after[-2:], before[-2:])


def test_a_removed_operand_that_stretched_the_result_leaves_a_broadcast():
    x = np.arange(3.0)
    graph = traced(lambda x: x * np.ones((2, 3)), x)
    simple = simplify(graph)
    assert names(simple) == ["broadcast_to"]
    assert_same_values(graph, simple, [x])


def test_integers_are_simplified_too():
    x = np.array([[-3, 0, 5]])
    graph = traced(lambda x: (x * 1 + 0) - 0, x)
    assert names(simplify(graph)) == []
    assert_same_values(graph, simplify(graph), [x])
