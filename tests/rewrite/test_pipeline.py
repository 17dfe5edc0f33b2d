"""All rewrites together: the same values, never more work, legal at every stage, nothing left to do."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops, optim
from chainrule.errors import GraphError
from chainrule.graph import PRIMITIVES, Graph, Node, check, ones_cotangent, placeholder, trace, vjp
from chainrule.rewrite import CORE, REWRITES, Rewrite, rewrite
from chainrule.rewrite import pipeline as stages
from chainrule.spec import FLOAT32, FLOAT64, TensorSpec
from chainrule.training.step_graphs import build_update
from programs import assert_same_values, names, random_network_gradients, random_program, size, traced


def stages_of(graph):
    """[(name, graph after it)], the graph before all of them first."""
    seen = [("traced", graph)]
    rewrite(graph, lambda name, after: seen.append((name, after)))
    return seen


def assert_rewritten(graph, arrays, rtol):
    seen = stages_of(graph)
    sizes = {name: size(after) for name, after in seen}
    last = seen[-1][1]
    assert_same_values(graph, last, arrays, rtol)
    assert sizes["sharing"] <= sizes["contraction"]
    assert sizes["barriers"] <= sizes["sharing"]
    assert set(names(last)) <= CORE
    again = rewrite(last)
    assert str(again) == str(last)


@pytest.mark.parametrize("block", range(10))
def test_gradients_of_random_networks_keep_their_values(block):
    for seed in range(20 * block, 20 * block + 20):
        graph, arrays = random_network_gradients(seed)
        assert_rewritten(graph, arrays, rtol=1e-13)


@pytest.mark.parametrize("block", range(10))
def test_random_programs_keep_their_values(block):
    for seed in range(20 * block, 20 * block + 20):
        graph, arrays = random_program(seed)
        assert_rewritten(graph, arrays, rtol=1e-13)


def test_loops_keep_their_values():
    xs = np.linspace(-1, 1, 15).reshape(5, 3)

    def gradient(xs, w):
        y = ops.sum(cr.scan(lambda s, x: (ops.sigmoid(s * w + x), ops.softplus(s)), xs[0], xs)[0])
        return [y, *vjp([y], [ones_cotangent(y)], [w, xs])]

    graph = trace(gradient, TensorSpec(xs.shape, FLOAT64), TensorSpec((3,), FLOAT64)).graph
    assert_rewritten(graph, [xs, np.array([0.5, -1.0, 2.0])], rtol=1e-13)


def test_a_whole_step_with_normalisation_and_dropout_keeps_its_values():
    net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.4), nn.Linear(8, 3))
    taken = cr.step(net, optim.Adam(), clip_norm=1.0)(lambda x, y: cr.cross_entropy(net(x), y, label_smoothing=0.1))
    random = np.random.default_rng(1)
    x, y = random.standard_normal((6, 5), dtype=np.float32), random.integers(0, 3, 6)
    taken(x, y)
    (traced,) = taken.inner.traces.values()
    arrays = [x, y, ops.key(0, 1).numpy(), *(c.numpy() for c in traced.captured)]
    assert_rewritten(traced.graph, arrays, rtol=1e-6)
    update = build_update(taken.inner.state, taken.inner.options)
    assert_rewritten(update, [random.uniform(0.1, 1, z.shape).astype(z.dtype) for z in update.inputs], rtol=1e-6)


def test_every_rewrite_has_a_name_of_its_own_and_an_arrow():
    assert len({stage.name for stage in REWRITES}) == len(REWRITES)
    for stage in REWRITES:
        assert stage.arrow.endswith((".", ";", ","))


def test_nodes_keep_line_scope_and_origin():
    graph, _ = random_network_gradients(4)
    last = rewrite(graph)
    known = {(n.line, n.scope, n.origin) for n in graph.nodes()}
    assert {(n.line, n.scope, n.origin) for n in last.nodes()} <= known


def test_a_rewrite_that_breaks_the_graph_is_named(monkeypatch):
    def breaks(graph):
        """x -> y."""
        foreign = placeholder(TensorSpec((2,), FLOAT32))
        return Graph(graph.inputs, (ops.exp(foreign),))

    monkeypatch.setattr(stages, "REWRITES", (Rewrite("breaking", breaks),))
    with pytest.raises(GraphError, match=r"the rewrite 'breaking' broke the graph: exp .* which no earlier node makes"):
        rewrite(traced(ops.exp, np.zeros(2, np.float32)))


def test_the_check_finds_a_wrong_shape_an_unknown_output_and_a_later_value():
    x = placeholder(TensorSpec((2,), FLOAT32))
    wrong = Node(PRIMITIVES["exp"], (x,), {}, (TensorSpec((3,), FLOAT32),))
    with pytest.raises(GraphError, match=r"claims to make float32\[3\], but its shape rule gives float32\[2\]"):
        check(Graph((x,), (wrong.output(0),)))
    with pytest.raises(GraphError, match=r"output 0, .*, is neither an input, a constant nor made by a node"):
        check(Graph((), (x,)))
    early = Node(PRIMITIVES["exp"], (x,), {}, (x.spec,))
    late = Node(PRIMITIVES["exp"], (x,), {}, (x.spec,))
    early.inputs = (late.output(0),)
    with pytest.raises(GraphError, match=r"which no earlier node makes|comes after it"):
        check(Graph((x,), (early.output(0),)))
    with pytest.raises(GraphError, match="names one value twice"):
        check(Graph((x, x), (x,)))
