"""Every primitive that is no core primitive becomes core primitives, and means the same."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops
from chainrule.errors import GraphError
from chainrule.graph import PRIMITIVES, Draw, Graph, Primitive, apply, placeholder
from chainrule.rewrite import CORE, expand
from chainrule.spec import TensorSpec
from programs import assert_same_values, names, traced

assert nn  # its layers declare primitives of their own
DRAWN = sorted(name for name, p in PRIMITIVES.items() if p.draw is not None)


def applied(primitive, seed, dtype):
    """A graph of one application at a drawn point, and the arrays of that point."""
    arrays, parameters = primitive.draw(Draw(seed))
    arrays = [np.asarray(a) for a in arrays]
    arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
    inputs = tuple(placeholder(TensorSpec(a.shape, a.dtype)) for a in arrays)
    result = apply(primitive, inputs, parameters)
    return Graph(inputs, result if primitive.several else (result,)), arrays


def assert_core_only(graph):
    assert set(names(graph)) <= CORE | {"barrier"}
    for node in graph.nodes():
        for body in node.parameters.values():
            if isinstance(body, Graph):
                assert_core_only(body)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", DRAWN)
def test_an_expanded_primitive_gives_the_same_bits(name, dtype):
    for seed in range(12):
        graph, arrays = applied(PRIMITIVES[name], seed, dtype)
        expanded = expand(graph)
        assert_core_only(expanded)
        assert_same_values(graph, expanded, arrays, rtol=1e-13 if dtype == "float64" else 1e-6)


def test_every_primitive_that_cannot_be_drawn_is_core_or_expands():
    undrawn = PRIMITIVES.keys() - set(DRAWN) - CORE
    assert undrawn == {"checkpoint", "stop_gradient"}
    x = np.array([0.5, 2.0])
    graph = traced(lambda x: ops.stop_gradient(cr.checkpoint(lambda v: ops.softplus(v) * v)(x)), x)
    assert_core_only(expand(graph))
    assert_same_values(graph, expand(graph), [x])


def test_what_is_inside_a_scan_expands_too():
    xs = np.linspace(-2, 2, 12).reshape(4, 3)
    start = ops.as_tensor(np.zeros(3))
    graph = traced(lambda xs: cr.scan(lambda s, x: (ops.sigmoid(s + x), ops.mean(s)), start, xs), xs)
    assert_core_only(expand(graph))
    assert_same_values(graph, expand(graph), [xs])


def test_an_expansion_keeps_the_line_of_the_operation():
    graph = traced(lambda x: ops.softmax(x), np.zeros(3))
    line = graph.nodes()[0].line
    assert line is not None
    assert [node.line for node in expand(graph).nodes()] == [line] * len(expand(graph).nodes())


def test_an_evaluate_made_of_itself_is_refused_by_name():
    looping = Primitive(
        "looping",
        "y = y",
        shape=lambda x: x,
        evaluate=lambda xp, x: looping(x),
        pullback=lambda dy, y, x: (dy,),
        arguments=lambda x: ((x,), {}),
    )
    try:
        with pytest.raises(GraphError, match="looping has no lowering, and its evaluate"):
            expand(traced(looping, np.zeros(2)))
    finally:
        del PRIMITIVES["looping"]
        cr.graph.OPERATIONS.pop("looping")


@pytest.mark.parametrize(
    "evaluate",
    [
        lambda xp, x: xp.sum(x, axis=0, dtype=xp.float64) + xp.zeros((3,), dtype=x.dtype),
        lambda xp, x: xp.stack([x, xp.ones_like(x)], axis=1),
        lambda xp, x: xp.cumulative_sum(x, axis=1, dtype=x.dtype) * xp.pi,
        lambda xp, x: xp.take_along_axis(x, xp.argsort(x, axis=-1, stable=True), axis=-1),
        lambda xp, x: xp.where(xp.isfinite(x), x, xp.full_like(x, -1.0)),
        lambda xp, x: xp.scatter_add((5, 3), xp.arange(2), x),
        lambda xp, x: xp.pad(xp.reshape(x, (3, 2)), ((1, 0), (0, 2)), constant_values=2.0),
        lambda xp, x: xp.astype(x > 0, xp.float32),
        lambda xp, x: xp.matmul(x, xp.matrix_transpose(x)) + xp.full((2, 1), 0.5, dtype=xp.float64),
        lambda xp, x: xp.prod(x, axis=1, keepdims=True) - xp.ones((2, 1), dtype=xp.float64),
    ],
)
def test_the_operations_answer_to_the_names_of_the_array_api(evaluate):
    x = np.array([[0.5, -2.0, 3.0], [1.5, np.inf, -0.25]])
    with np.errstate(all="ignore"):
        expected = evaluate(cr.graph.NUMPY, x)
    graph = traced(lambda x: evaluate(ops.OPS, x), x)
    (found,) = cr.graph.evaluate(graph, x)
    assert graph.outputs[0].spec == TensorSpec(expected.shape, expected.dtype)
    np.testing.assert_array_equal(found, expected)
