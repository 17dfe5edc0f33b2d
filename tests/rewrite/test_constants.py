"""What depends on nothing is worked out once; a number that fills an array stays a number."""

import numpy as np

from chainrule import ops
from chainrule.graph import PRIMITIVES, Graph, Node, as_array, constant, placeholder
from chainrule.rewrite import fold
from chainrule.rewrite.constants import LARGEST
from chainrule.spec import TensorSpec
from programs import assert_same_values, names, traced


def node(name, inputs, spec, **parameters):
    """An application that nothing has evaluated yet, as a graph read from a file has."""
    return Node(PRIMITIVES[name], inputs, parameters, (spec,)).output(0)


def test_operations_on_constants_are_worked_out():
    x = placeholder(TensorSpec((2,), np.dtype("float64")))
    two, three = constant(np.array(2.0)), constant(np.array(3.0))
    six = node("multiply", (two, three), two.spec)
    graph = Graph((x,), (node("add", (x, node("exp", (six,), six.spec)), x.spec),))
    folded = fold(graph)
    assert names(folded) == ["add"]
    assert_same_values(graph, folded, [np.array([1.0, 2.0])])


def test_a_large_result_is_not_worked_out():
    a = constant(np.arange(100.0).reshape(100, 1))
    big = TensorSpec((100, 100), a.dtype)
    assert big.size > LARGEST
    graph = Graph((), (node("add", (a, constant(np.arange(100.0))), big),))
    assert fold(graph) is graph


def test_an_array_of_one_number_becomes_a_broadcast_number():
    x = np.arange(6.0).reshape(2, 3)
    graph = traced(lambda x: ops.matmul(x, np.full((3, 4), 0.5)), x)
    folded = fold(graph)
    assert names(folded) == ["broadcast_to", "matmul"]
    assert folded.nodes()[0].inputs[0].array.shape == ()
    assert_same_values(graph, folded, [x])
    assert fold(folded) is folded


def test_zeros_of_different_signs_are_no_single_number():
    mixed = np.zeros(8)
    mixed[3] = -0.0
    graph = traced(lambda x: ops.maximum(x, as_array(mixed)), np.zeros(8))
    assert fold(graph) is graph
