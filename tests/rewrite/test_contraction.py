"""Sums of products that are matrix products become them, and others do not."""

import numpy as np
import pytest

from chainrule import ops
from chainrule.rewrite import contract, simplify
from programs import assert_same_values, names, traced

RANDOM = np.random.default_rng(3)
A, B = RANDOM.standard_normal((4, 5)), RANDOM.standard_normal((5, 3))
STACK, OTHER = RANDOM.standard_normal((2, 4, 5)), RANDOM.standard_normal((2, 5, 3))

PRODUCTS = {
    "a[i,k] b[k,j]": (lambda a, b: ops.sum(a[:, :, None] * b[None], 1), A, B),
    "a[i,k] b[j,k]": (lambda a, b: ops.sum(a[:, None] * b[None], 2), A, B.T.copy()),
    "columns first": (lambda a, b: ops.sum(b[None] * a[:, :, None], 1), A, B),
    "result transposed": (lambda a, b: ops.sum(b[:, :, None] * a.T[:, None, :], 0), A, B),
    "keepdims": (lambda a, b: ops.sum(a[:, :, None] * b, 1, keepdims=True), A, B),
    "stacks": (lambda a, b: ops.sum(a[:, :, :, None] * b[:, None], 2), STACK, OTHER),
    "two summed axes": (lambda a, b: ops.sum(a[:, :, :, None] * b[:, None], (0, 2)), STACK, OTHER),
    "outer products of two axes": (
        lambda a, b: ops.sum(a[:, :, :, None, None] * b[:, None, :, :, None], 2),
        STACK,
        OTHER,
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_sum_of_products_becomes_a_matrix_product(name):
    function, a, b = PRODUCTS[name]
    graph = traced(function, a, b)
    found = contract(graph)
    assert names(found).count("matmul") == 1
    assert not {"sum", "multiply"} & set(names(found))
    assert_same_values(graph, found, [a, b], rtol=1e-14)


def test_factors_that_are_broadcast_first_are_seen_through():
    graph = traced(lambda a, b: ops.sum(ops.broadcast_to(a[:, :, None], (4, 5, 3)) * b, 1), A, B)
    assert "matmul" in names(contract(simplify(graph)))


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: ops.sum(a * a, 1),
        lambda a, b: ops.sum(a[:, :, None] * b[None], 0),
        lambda a, b: ops.sum(a[:, :, None] * b[None], (1, 2)),
        lambda a, b: ops.sum(a * b[:, 0], 1),
        lambda a, b: ops.max(a[:, :, None] * b[None], 1),
    ],
)
def test_other_sums_stay(function):
    graph = traced(function, A, B)
    assert contract(graph) is graph


def test_the_product_of_a_transpose_stays_one():
    graph = traced(lambda x, dy: ops.matmul(dy.T, x), A, A[:, :2].copy())
    assert names(graph) == ["permute_dims", "matmul"]
    assert contract(graph) is graph
