"""Eager reverse mode: .backward() and .grad, and the graph that both modes share."""

import time
import tracemalloc
import weakref

import numpy as np
import pytest

from chainrule.autodiff import grad
from chainrule.errors import GraphError, ShapeError, UnreachableWarning
from chainrule.graph import Graph, Tensor, evaluate, no_grad, placeholder, tensor, trace, vjp, write
from chainrule.ops import exp, linear, matmul, mse, relu, split, stop_gradient, tanh
from chainrule.spec import FLOAT64, TensorSpec


class State(Tensor):
    """A tensor that a trace reads as an input of its own, as a network's parameters and buffers are."""

    __slots__ = ()
    is_state = True


def state(values, name):
    array = np.array(values, float)
    return State(TensorSpec(array.shape, FLOAT64), array, name=name)


def leaf(values):
    return tensor(np.array(values, float), requires_grad=True)


def test_backward_adds_into_grad_of_every_leaf():
    a, b, c = leaf([1.0, 2.0]), leaf(3.0), leaf(1.0)
    (a * b).sum().backward()
    assert a.grad.tolist() == [3, 3] and b.grad.item() == 3 and c.grad is None
    (a * b).sum().backward()
    assert a.grad.tolist() == [6, 6] and b.grad.item() == 6
    a.grad = None
    (a * a).sum().backward()
    assert a.grad.tolist() == [2, 4] and not a.grad.requires_grad


def test_cotangents_of_a_reused_value_add_up():
    a = leaf(1.0)
    b = a + a
    c = b + b
    c.backward()
    assert a.grad.item() == 4


def test_a_leaf_is_its_own_gradient():
    a = leaf(2.0)
    a.backward()
    assert a.grad.item() == 1


def test_backward_of_an_array_takes_a_cotangent():
    a = leaf([1.0, 2.0])
    (a * a).backward([1.0, 10.0])
    assert a.grad.tolist() == [2, 40]
    with pytest.raises(
        ShapeError, match=r"a gradient needs a scalar, got float64\[2\]: reduce it with mean\(\) or sum"
    ):
        (a * a).backward()
    with pytest.raises(ShapeError, match="must have the shape of its output"):
        (a * a).backward([1.0])
    with pytest.raises(GraphError, match="not made from anything that requires a gradient"):
        tensor(1.0).backward()


def test_no_grad_and_detach_record_nothing():
    a = leaf(2.0)
    with no_grad():
        quiet = a * a
    assert not quiet.requires_grad and quiet.node is None
    (a.detach() * a).backward()
    assert a.grad.item() == 2


def test_a_chain_of_a_hundred_thousand_nodes_needs_no_recursion_and_seconds():
    start = time.perf_counter()
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1e-6
    y.backward()
    assert x.grad.item() == 1
    del y
    assert time.perf_counter() - start < 200


def test_an_unreachable_argument_gets_zeros_and_the_reason():
    with pytest.warns(UnreachableWarning, match="argument 1 is zero: the loss does not use it, or"):
        assert grad(lambda a, b: a.sum(), (0, 1))(np.ones(2), np.ones(3))[1].tolist() == [0, 0, 0]
    with pytest.warns(UnreachableWarning, match=r"passes stop_gradient at test_backward.py:\d+, which no gradient"):
        grad(lambda a: stop_gradient(a).sum())(np.ones(2))
    with pytest.warns(UnreachableWarning, match="only through booleans"):
        grad(lambda a: (a > 0).astype("float64").sum())(np.ones(2))
    with pytest.warns(UnreachableWarning, match=r"passes \w+ at test_backward.py:\d+, which no gradient crosses"):
        trace(grad(lambda a: (a > 0).astype("float64").sum()), TensorSpec((2,), FLOAT64))


def test_outputs_of_one_node_that_nobody_reads_count_as_zero():
    a = leaf([1.0, 2.0, 3.0])
    first, _ = split(a * a, [1, 2])
    first.sum().backward()
    assert a.grad.tolist() == [2, 0, 0]


def test_the_backward_pass_is_nodes_of_the_same_graph_tagged_with_what_they_are_for():
    x, w = placeholder(TensorSpec((2, 3), FLOAT64)), placeholder(TensorSpec((4, 3), FLOAT64))
    y = linear(x, w)
    (dw,) = vjp([y], [placeholder(y.spec)], [w])
    assert dw.node.origin == (y.node, ("the error sent back through the weights", "output error x input activation",
                                       "output error, summed over rows"))  # fmt: skip
    assert dw.node.line == y.node.line


def test_a_state_tensor_is_an_input_of_the_trace_and_a_write_to_it_an_output():
    mean = state([0.0, 0.0], "running_mean")

    def step(x):
        before = mean * 1.0
        write(mean, mean * 0.9 + x * 0.1)
        return before + mean  # reads what was written

    traced = trace(step, TensorSpec((2,), FLOAT64))
    assert traced.captured == (mean,) and traced.targets == (mean,)
    assert [x.name for x in traced.graph.inputs] == ["x0", "running_mean"]
    result, written = evaluate(traced.graph, np.array([1.0, 2.0]), np.array([10.0, 10.0]))
    assert np.allclose(written, [9.1, 9.2]) and np.allclose(result, [19.1, 19.2])
    assert mean.tolist() == [0, 0]
    step(tensor(np.array([1.0, 2.0])))
    assert np.allclose(mean.numpy(), [0.1, 0.2])


def test_evaluation_frees_values_after_their_last_reader():
    n, steps = 100_000, 40

    def chain(x):
        for _ in range(steps):
            x = tanh(x)
        return x.sum()

    graph = trace(chain, TensorSpec((n,), FLOAT64)).graph
    x = np.ones(n)
    tracemalloc.start()
    evaluate(graph, x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * x.nbytes


def test_an_eager_graph_is_freed_with_its_last_tensor():
    x = leaf(np.ones(3))
    y = exp(x)
    kept = weakref.ref(y)
    z = y.sum()
    z.backward()
    del y, z
    assert kept() is None


def test_a_graph_prints_as_text(golden):
    def loss(x, weight, bias, target):
        return mse(relu(linear(x, weight, bias)), target)

    specs = [TensorSpec(s, FLOAT64) for s in ((4, 3), (2, 3), (2,), (4, 2))]
    traced = trace(lambda *xs: grad(loss, (1, 2))(*xs), *specs, names=["x", "0.weight", "0.bias", "target"])
    without_lines = "\n".join(line.split("    test_")[0] for line in str(traced.graph).splitlines())
    golden("graph_of_a_gradient", without_lines + "\n")
    assert "test_backward.py:" in str(traced.graph)


def test_a_graph_that_reads_what_it_is_not_given_is_refused():
    x, loose = placeholder(TensorSpec((2,), FLOAT64)), placeholder(TensorSpec((2,), FLOAT64), "loose")

    with pytest.raises(GraphError, match="loose"):
        evaluate(Graph((x,), (matmul(x, loose),)), np.ones(2))
    with pytest.raises(GraphError, match="the graph has 1 inputs, got 2 arrays"):
        evaluate(Graph((x,), (x + 1,)), np.ones(2), np.ones(2))
