"""Parts of loops and splits that nobody reads go; what is read stays the same."""

import numpy as np

import chainrule as cr
from chainrule import ops
from chainrule.graph import ones_cotangent, trace, vjp
from chainrule.rewrite import remove_dead
from chainrule.spec import FLOAT64, TensorSpec
from programs import assert_same_values, names, traced

XS = np.linspace(-1, 1, 12).reshape(4, 3)


def scans(graph):
    return [n for n in graph.nodes() if n.primitive.name == "scan"]


def test_hidden_rows_that_no_backward_pass_reads_are_removed():
    graph = traced(lambda xs: cr.scan(lambda s, x: (ops.tanh(s * x), s), xs[0], xs)[0], XS)
    light = remove_dead(graph)
    assert len(scans(graph)[0].specs) > 2
    assert len(scans(light)[0].specs) == 1
    assert scans(light)[0].parameters["kept"] == 0
    assert_same_values(graph, light, [XS])


def test_a_state_that_feeds_only_itself_is_removed_with_what_it_read():
    def run(xs, w):
        def body(state, x):
            a, b = state
            return (ops.sin(a + x), b * w), a

        return cr.scan(body, (xs[0], xs[0]), xs)[0][0]

    arrays = [XS, np.array([1.0, 2.0, 3.0])]
    graph = traced(run, *arrays)
    light = remove_dead(graph)
    assert scans(light)[0].parameters["carries"] == 1
    assert names(scans(light)[0].parameters["body"]) == ["add", "sin"]
    assert len(scans(light)[0].inputs) == 2
    assert_same_values(graph, light, arrays)


def test_a_state_that_feeds_another_one_stays():
    def run(xs):
        return cr.scan(lambda s, x: ((s[0] + s[1], s[1] * x), s[0]), (xs[0], xs[1]), xs)[0][0]

    light = remove_dead(traced(run, XS))
    assert scans(light)[0].parameters["carries"] == 2
    assert_same_values(traced(run, XS), light, [XS])


def test_the_backward_pass_through_time_keeps_what_it_reads():
    def gradient(xs, w):
        y = ops.sum(cr.scan(lambda s, x: (ops.tanh(s * w + x), s), xs[0], xs)[0])
        return [y, *vjp([y], [ones_cotangent(y)], [w])]

    graph = trace(gradient, TensorSpec(XS.shape, FLOAT64), TensorSpec((3,), FLOAT64)).graph
    light = remove_dead(graph)
    assert sum(len(n.specs) for n in scans(light)) < sum(len(n.specs) for n in scans(graph))
    assert_same_values(graph, light, [XS, np.array([0.3, -0.7, 1.1])])


def test_a_loop_of_which_only_the_count_matters_keeps_its_length():
    graph = traced(lambda xs: cr.scan(lambda s, x: (s * 2.0, s), xs[0], xs)[0], XS)
    assert scans(remove_dead(graph))[0].parameters["sequences"] == 1
    assert_same_values(graph, remove_dead(graph), [XS])


def test_a_split_that_is_read_in_one_place_is_a_slice():
    graph = traced(lambda x: ops.split(x, [1, 3], axis=0)[1], XS)
    assert names(remove_dead(graph)) == ["slice"]
    assert_same_values(graph, remove_dead(graph), [XS])
    both = traced(lambda x: ops.split(x, [1, 3], axis=0), XS)
    assert remove_dead(both) is both
