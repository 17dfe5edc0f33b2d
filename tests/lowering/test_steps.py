"""Loops over time: one set of statements for all turns, whatever the sequences' layout, and the reference's numbers."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops
from chainrule.graph import evaluator, trace
from chainrule.kernel import Repeat
from chainrule.kernel.interpret import interpret
from chainrule.lowering import lower
from chainrule.ops import OPS
from chainrule.rewrite import rewrite
from chainrule.spec import TensorSpec

DOUBLE = np.dtype("float64")


def running_sum(x):
    last, ys = ops.scan(lambda h, row: (h + row, h * row), OPS.zeros(x.shape[1:], DOUBLE), x)
    return last, ys


def backwards(x):
    last, ys = ops.scan(lambda h, row: (ops.tanh(h * 0.5 + row), h), OPS.zeros(x.shape[1:], DOUBLE), x, reverse=True)
    return last, ys


def exchanged(x):
    """States that change places: each turn must read both before it writes either."""
    start = (OPS.zeros(x.shape[1:], DOUBLE), OPS.ones(x.shape[1:], DOUBLE))
    (a, b), ys = ops.scan(lambda state, row: ((state[1], state[0] + row), state[0]), start, x)
    return a, b, ys


def kept_as_it_is(x):
    (a, b), ys = ops.scan(lambda state, row: ((state[0], state[1] * row), state[1]), (x[0], x[-1]), x)
    return a, b, ys


def turned_state(x):
    """A state that is another view of itself."""
    square = x[:, :3, :3]
    last, ys = ops.scan(lambda h, row: (ops.permute_dims(h, (1, 0)), h + row), square[0], square)
    return last, ys


def along_the_second_axis(x):
    return ops.scan(
        lambda h, row: (h + row, h), OPS.zeros((x.shape[0], x.shape[2]), DOUBLE), ops.permute_dims(x, (1, 0, 2))
    )


def flipped(x):
    return ops.scan(lambda h, row: (h * 0.5 + row, h), OPS.zeros(x.shape[1:], DOUBLE), ops.flip(x, axis=(0, 2)))


def the_same_row_each_turn(x):
    same = ops.broadcast_to(x[:1], x.shape)
    return ops.scan(lambda h, row: (h + row, h), OPS.zeros(x.shape[1:], DOUBLE), same)


def gathering(x):
    """Computed positions inside a row."""
    index = cr.constant(np.array([3, 0, 1]))
    return ops.scan(lambda h, row: (h + ops.take(row, index, axis=0), row), OPS.zeros((3, x.shape[2]), DOUBLE), x)


def nested(x):
    """A loop in a loop: the inner one goes along the rows of the outer one's row."""

    def outer(total, row):
        inner, ys = ops.scan(lambda h, r: (ops.tanh(h + r), h * r), total, row)
        return inner, ys

    return ops.scan(outer, OPS.zeros(x.shape[2:], DOUBLE), x)


def products(x):
    w = cr.constant(np.random.default_rng(3).standard_normal((x.shape[2], x.shape[2])))
    return ops.scan(lambda h, row: (ops.tanh(h @ w + row), h @ w), OPS.zeros(x.shape[1:], DOUBLE), x)


FUNCTIONS = (
    running_sum, backwards, exchanged, kept_as_it_is, turned_state, along_the_second_axis, flipped,
    the_same_row_each_turn, gathering, nested, products,
)  # fmt: skip


def flat(results):
    return [y for part in results for y in (part if isinstance(part, tuple) else (part,))]


def gradients_of(function):
    def taken(x):
        def loss(x):
            return sum((y * y).sum() for y in flat(function(x)))

        return (*flat(function(x)), cr.grad(loss)(x))

    return taken


@pytest.mark.parametrize("shape", ((5, 4, 6), (1, 4, 3), (2, 5, 17)))
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_loop_and_its_backward_pass_give_the_numbers_of_the_reference(function, shape):
    x = np.random.default_rng(7).standard_normal(shape)
    graph = trace(gradients_of(function), TensorSpec(shape, DOUBLE)).graph
    expected = evaluator(graph)(x)
    program = lower(rewrite(graph))
    assert any(isinstance(s, Repeat) for s in program.statements)
    interpreted, _ = interpret(program, x)
    compiled = cr.compile(gradients_of(function), backend="native")(x)
    for reference, oracle, native in zip(expected, interpreted, compiled, strict=True):
        np.testing.assert_allclose(oracle.reshape(reference.shape), reference, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(native.numpy(), reference, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("backend", ("native", "reference"))
def test_no_turn_leaves_the_state_as_it_was(backend):
    x = np.zeros((0, 2, 3))
    start = np.arange(6.0).reshape(2, 3)
    last, ys = cr.compile(lambda h, x: ops.scan(lambda h, row: (h + row, h), h, x), backend=backend)(start, x)
    np.testing.assert_array_equal(last.numpy(), start)
    assert ys.shape == (0, 2, 3)


def test_statements_are_made_once_for_all_turns():
    def program_of(steps):
        net = nn.LSTM(3, 5)
        net.initialise(0)

        def loss(x):
            return (net(x)[0] ** 2).sum()

        return lower(rewrite(trace(lambda x: cr.grad(loss)(x), TensorSpec((steps, 4, 3)), names=("x",)).graph))

    few, many = program_of(3), program_of(300)
    assert len(list(few.each())) == len(list(many.each()))
    assert many.arena < few.arena * 200  # what every turn leaves for the way back, and nothing else
    assert "for t in 0 to 299, in order:" in str(many)


def test_a_state_that_the_caller_gave_is_not_written():
    start, x = np.ones((2, 3)), np.ones((4, 2, 3))
    taken = cr.compile(lambda h, x: ops.scan(lambda h, row: (h + row, h), h, x)[0], backend="native")
    np.testing.assert_array_equal(taken(start, x).numpy(), np.full((2, 3), 5.0))
    np.testing.assert_array_equal(start, np.ones((2, 3)))
