"""Equal values are worked out once, and only equal ones."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import ops
from chainrule.graph import evaluate, ones_cotangent, trace, vjp
from chainrule.rewrite import expand, remove_barriers, remove_dead, share
from chainrule.spec import FLOAT64, TensorSpec
from programs import assert_same_values, names, size, traced

X = np.linspace(-1, 1, 6).reshape(2, 3)


def test_a_value_that_is_worked_out_twice_is_worked_out_once():
    graph = traced(lambda x: ops.exp(x + 1.0) * ops.exp(x + 1.0), X)
    assert names(share(graph)) == ["add", "exp", "multiply"]
    assert_same_values(graph, share(graph), [X])
    shared = share(graph)
    assert share(shared) is shared


def test_inputs_of_a_sum_may_change_places_and_those_of_a_difference_may_not():
    both = traced(lambda x: ((x + x[:1]) * (x[:1] + x), (x - x[:1]) * (x[:1] - x)), X)
    found = names(share(both))
    assert found.count("add") == 1
    assert found.count("subtract") == 2


@pytest.mark.parametrize(
    "pair",
    [
        lambda x: (ops.sum(x, 0), ops.sum(x, 1)),
        lambda x: (ops.clip(x, -0.0, 1.0), ops.clip(x, 0.0, 1.0)),
        lambda x: (ops.multiply(x, 0.0), ops.multiply(x, -0.0)),
        lambda x: (ops.maximum(x, 0.0), ops.maximum(0.0, x)),
        lambda x: (ops.power(x, exponent=2), ops.power(x, exponent=2.0)),
    ],
)
def test_what_differs_in_a_parameter_or_a_bit_is_not_shared(pair):
    graph = traced(pair, X)
    assert share(graph) is graph


def test_scans_with_equal_bodies_are_one_and_equal_rows_are_one():
    def twice(xs):
        def body(s, x):
            h = ops.tanh(s + x)
            return h, (h, ops.tanh(s + x))

        return [cr.scan(body, xs[0], xs)[1][1] + cr.scan(body, xs[0], xs)[1][0]]

    graph = traced(twice, X)
    shared = remove_dead(share(graph))
    assert names(shared).count("scan") == 1
    scan = next(n for n in shared.nodes() if n.primitive.name == "scan")
    assert len(scan.specs) == 2
    assert names(scan.parameters["body"]) == ["add", "tanh"]
    assert_same_values(graph, shared, [X])


def checkpointed(x):
    return ops.sum(cr.checkpoint(lambda v: ops.exp(ops.sin(v)))(x))


def test_a_barrier_keeps_recomputation_from_being_shared():
    def gradient(x):
        loss = checkpointed(x)
        return [loss, *vjp([loss], [ones_cotangent(loss)], [x])]

    graph = expand(trace(gradient, TensorSpec(X.shape, FLOAT64)).graph)
    shared = remove_barriers(share(graph))
    assert names(shared).count("exp") == 2
    assert "barrier" not in names(shared)
    assert_same_values(graph, shared, [X])
    assert size(shared) < size(graph)


def test_large_constants_are_compared_by_place_and_small_ones_by_value():
    large = np.arange(10_000.0)
    graph = traced(lambda x: (x + large, x + large.copy(), x + 2.0, x + np.float64(2.0)), large)
    assert names(share(graph)) == ["add"] * 3
    assert len(evaluate(share(graph), large)) == 4
