"""scan, checkpoint and a user's own primitives."""

import numpy as np
import pytest

from chainrule import ops
from chainrule.autodiff import check_gradients, grad, hessian
from chainrule.errors import ArgumentError, GraphError, ShapeError
from chainrule.graph import PRIMITIVES, Tensor, evaluate, nodes_between, tensor, trace, write
from chainrule.spec import FLOAT64, TensorSpec
from peers import peer

RANDOM = np.random.default_rng(3)
TIME, ROWS, WIDTH = 5, 2, 3


def lstm_parts(seed=0):
    random = np.random.default_rng(seed)
    xs = random.normal(size=(TIME, ROWS, WIDTH))
    return (
        xs,
        random.normal(size=(4 * WIDTH, WIDTH)),
        random.normal(size=(4 * WIDTH, WIDTH)),
        random.normal(size=4 * WIDTH),
    )


def lstm_cell(w, u, b):
    def cell(state, x):
        h, c = state
        z = ops.linear(x, w, b) + ops.linear(h, u)
        i, f, g, o = ops.split(z, WIDTH, 1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        return (h, c), (h, c)

    return cell


def lstm_loss(xs, w, u, b, reverse=False):
    zero = np.zeros((ROWS, WIDTH))
    (h, c), (hs, cs) = ops.scan(lstm_cell(w, u, b), (zero, zero), xs, reverse=reverse)
    return (hs * hs).sum() + (cs**3).sum() + (h * c).sum()


def unrolled_loss(xs, w, u, b, reverse=False):
    state, ys = (ops.as_tensor(np.zeros((ROWS, WIDTH))),) * 2, []
    for t in reversed(range(TIME)) if reverse else range(TIME):
        state, y = lstm_cell(w, u, b)(state, xs[t])
        ys.append(y)
    hs, cs = (ops.stack([y[k] for y in ys]) for k in (0, 1))
    return (hs * hs).sum() + (cs**3).sum() + (state[0] * state[1]).sum()


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_equals_the_unrolled_loop_in_value_and_two_derivatives(reverse):
    parts = lstm_parts()
    scanned, unrolled = (lambda *a, f=f: f(*a, reverse=reverse) for f in (lstm_loss, unrolled_loss))
    assert np.isclose(
        scanned(*map(ops.as_tensor, parts)).item(), unrolled(*map(ops.as_tensor, parts)).item(), rtol=1e-13
    )
    numbers = (0, 1, 2, 3)
    for a, b in zip(grad(scanned, numbers)(*parts), grad(unrolled, numbers)(*parts), strict=True):
        assert np.allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-12)

    def norm(f):
        return lambda *a: sum(((g * g).sum() for g in grad(f, numbers)(*a)), start=ops.as_tensor(0.0))

    for a, b in zip(grad(norm(scanned), numbers)(*parts), grad(norm(unrolled), numbers)(*parts), strict=True):
        assert np.allclose(a.numpy(), b.numpy(), rtol=1e-11, atol=1e-11)


def test_scan_equals_the_lstm_of_torch_in_value_and_gradients():
    torch = peer("torch")
    xs, w, u, b = lstm_parts(1)
    model = torch.nn.LSTM(WIDTH, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        for name, value in (("weight_ih_l0", w), ("weight_hh_l0", u), ("bias_ih_l0", b), ("bias_hh_l0", b * 0)):
            getattr(model, name).copy_(torch.from_numpy(value))
    x = torch.from_numpy(xs).requires_grad_()
    hs, (_, c) = model(x)
    ((hs * hs).sum() + (c**3).sum()).backward()

    def loss(xs, w, u, b):
        zero = np.zeros((ROWS, WIDTH))
        (_, last), (found, _) = ops.scan(lstm_cell(w, u, b), (zero, zero), xs)
        return (found * found).sum() + (last**3).sum()

    expected = (x.grad, model.weight_ih_l0.grad, model.weight_hh_l0.grad, model.bias_ih_l0.grad)
    for found, wanted in zip(grad(loss, (0, 1, 2, 3))(xs, w, u, b), expected, strict=True):
        assert np.abs(found.numpy() - wanted.numpy()).max() <= 1e-12 * np.abs(wanted.numpy()).max()


def test_scan_under_trace_equals_eager():
    parts = lstm_parts()
    specs = [TensorSpec(p.shape, FLOAT64) for p in parts]
    graph = trace(lambda *a: grad(lstm_loss, (0, 1, 2, 3))(*a), *specs).graph
    assert sum(node.primitive.name == "scan" for node in graph.nodes()) == 2
    for found, wanted in zip(evaluate(graph, *parts), grad(lstm_loss, (0, 1, 2, 3))(*parts), strict=True):
        assert np.allclose(found, wanted.numpy(), rtol=1e-13, atol=1e-13)


def test_scan_takes_integer_sequences_integer_states_and_no_steps():
    table = RANDOM.normal(size=(4, 3))
    tokens = np.array([0, 2, 2, 1])

    def loss(table, start):
        def cell(state, token):
            h, count = state
            h = ops.tanh(h + table[token])
            return (h, count + 1), h

        (h, count), hs = ops.scan(cell, (start, np.int64(0)), tokens)
        return (hs * hs).sum() + h.sum() * count.astype("float64")

    assert check_gradients(loss, table, np.ones(3))
    last, ys = ops.scan(lambda h, x: (h + x, h), tensor(np.ones(2)), np.zeros((0, 2)))
    assert last.tolist() == [1, 1] and ys.shape == (0, 2)
    assert grad(lambda h: ops.scan(lambda h, x: (h * x, h), h, np.zeros((0, 2)))[0].sum())(np.ones(2)).tolist() == [
        1,
        1,
    ]


def test_scan_takes_tuples_of_sequences_and_what_it_reads_from_outside_gets_its_gradient():
    a, b, w = RANDOM.normal(size=(4, 2)), RANDOM.normal(size=(4, 2)), RANDOM.normal(size=2)

    def loss(a, b, w):
        last, (sums, products) = ops.scan(lambda h, x: (h * w + x[0], (h + x[1], x[0] * x[1] * w)), np.zeros(2), (a, b))
        return (sums * products).sum() + last.sum()

    assert check_gradients(loss, a, b, w)
    outside = tensor(w, requires_grad=True)
    loss(tensor(a), tensor(b), outside).backward()
    assert np.allclose(outside.grad.numpy(), grad(loss, 2)(a, b, w).numpy(), rtol=1e-13)


def test_scan_in_scan_has_first_and_second_derivatives():
    def loss(x):
        def outer(h, row):
            inner, _ = ops.scan(lambda s, e: (ops.sin(s * e), s), h, row)
            return inner, inner * h

        return ops.scan(outer, ops.as_tensor(np.float64(0.7)), x)[1].sum()

    x = RANDOM.normal(size=(2, 3))
    assert check_gradients(loss, x)
    assert check_gradients(lambda x: (grad(loss)(x) ** 2).sum(), x)
    found = hessian(loss)(x).numpy().reshape(6, 6)
    assert np.allclose(found, found.T, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.scan(lambda h, x: (h, h), 0.0, ()), ArgumentError, "at least one sequence"),
        (lambda: ops.scan(lambda h, x: (h, h), 0.0, 1.0), ShapeError, "one length along their first axis"),
        (lambda: ops.scan(lambda h, x: (h, h), 0.0, (np.ones(2), np.ones(3))), ShapeError, "one length"),
        (lambda: ops.scan(lambda h, x: h, 0.0, np.ones(2)), ArgumentError, r"must return \(state, y\), got Tensor"),
        (lambda: ops.scan(lambda h, x: ((h, h), h), 0.0, np.ones(2)), ShapeError, "1 states go in and 2 come out"),
        (
            lambda: ops.scan(lambda h, x: (h + x, h), 0.0, np.ones(2)),
            ShapeError,
            r"as float32\[\] and comes out as float64",
        ),
    ],
)
def test_a_scan_that_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ------------------------------------------------------------------------------------------------ checkpoint


class State(Tensor):
    """A buffer, as of batch normalisation."""

    __slots__ = ()
    is_state = True


def test_checkpoint_gives_the_same_gradients_to_the_bit_and_keeps_no_inner_values():
    w, u, x = (RANDOM.normal(size=s) for s in ((3, 3), (3, 3), (4, 3)))

    def block(x, w):
        return ops.tanh(ops.exp(ops.tanh(x @ w)) @ w)

    def plain(x, w, u):
        return (block(block(x, w), u) ** 2).sum()

    def saving(x, w, u):
        once = ops.checkpoint(block)
        return (once(once(x, w), u) ** 2).sum()

    for a, b in zip(grad(plain, (0, 1, 2))(x, w, u), grad(saving, (0, 1, 2))(x, w, u), strict=True):
        assert np.array_equal(a.numpy(), b.numpy())
    assert check_gradients(lambda x, w, u: (grad(saving, 1)(x, w, u) ** 2).sum(), x, w, u)
    live = tensor(x, requires_grad=True)
    recorded = [[n.primitive.name for n in nodes_between([], [f(live, w, u)])] for f in (plain, saving)]
    assert recorded[0].count("tanh") == 4
    assert recorded[1].count("tanh") == 0 and recorded[1].count("checkpoint") == 2


def test_checkpoint_reads_outside_tensors_and_gives_several_results():
    w = tensor(np.array([2.0, 3.0]), requires_grad=True)
    a, b = ops.checkpoint(lambda x: (x * w, ops.exp(x)))(np.array([1.0, 1.0]))
    (a.sum() + b.sum()).backward()
    assert w.grad.tolist() == [1, 1]


def test_a_write_to_a_buffer_passes_through_checkpoint_and_is_refused_in_scan():
    array = np.zeros(2)
    buffer = State(TensorSpec((2,), FLOAT64), array, name="running_mean")

    def layer(x):
        write(buffer, buffer * 0.5 + x)
        return x * 2.0

    y = ops.checkpoint(layer)(np.ones(2))
    assert isinstance(y, Tensor) and y.tolist() == [2, 2] and buffer.tolist() == [1, 1]
    traced = trace(ops.checkpoint(layer), TensorSpec((2,), FLOAT64))
    assert traced.targets == (buffer,) and len(traced.graph.outputs) == 2
    assert evaluate(traced.graph, np.ones(2), np.ones(2))[1].tolist() == [1.5, 1.5]

    with pytest.raises(GraphError, match="writes to a buffer"):
        ops.scan(lambda h, x: (layer(h), x), np.ones(2), np.ones((3, 2)))


# ------------------------------------------------------------------------------------------------ a user's own


@pytest.fixture
def declared():
    """Names declared by a test are taken back."""
    before = set(PRIMITIVES)
    yield
    for name in set(PRIMITIVES) - before:
        del PRIMITIVES[name]
        ops.elementwise.__globals__["operation"].__globals__["OPERATIONS"].pop(name, None)


@pytest.mark.usefixtures("declared")
class TestDeclaration:
    """A user's primitives, by the same two declarations as the package's own."""

    def test_an_elementwise_operation_broadcasts_and_has_all_derivatives(self):
        bump = ops.elementwise(
            "bump",
            "y = e^(-a x^2)",
            evaluate=lambda xp, x, a, *, power=2.0: xp.exp(-a * x**power),
            pullback=lambda dy, y, x, a, power: (-dy * y * a * power * x ** (power - 1), -dy * y * x**power),
            domain=(0.5, 2.0),
        )
        x, a = RANDOM.uniform(0.5, 2, (3, 2)), RANDOM.uniform(0.5, 2, 2)
        assert np.allclose(bump(x, a).numpy(), np.exp(-a * x**2))
        assert check_gradients(bump, x, a) and check_gradients(bump)
        assert check_gradients(lambda x, a: grad(lambda x: bump(x, a, power=3.0).sum())(x), x, a)
        assert bump.draw is not None

    def test_a_layer_has_its_shape_inferred_and_any_number_of_outputs(self):
        polar = ops.primitive(
            "polar",
            "r = |v|, u = v / r",
            outputs=2,
            evaluate=lambda xp, v: (
                xp.sqrt(xp.sum(v * v, axis=-1)),
                v / xp.sqrt(xp.sum(v * v, axis=-1, keepdims=True)),
            ),
            pullback=polar_pullback,
        )
        v = RANDOM.normal(size=(4, 3)) + 2
        r, u = polar(v)
        assert r.shape == (4,) and np.allclose((r.reshape(4, 1) * u).numpy(), v)
        assert check_gradients(lambda v: (polar(v)[1] * np.arange(3.0)).sum() + (polar(v)[0] ** 2).sum(), v)
        assert check_gradients(lambda v: polar(v)[0], v)

    def test_contradictions_are_named(self):
        wrong_shape = ops.primitive(
            "wrong_shape", "?", shape=lambda x: x, evaluate=lambda xp, x: xp.sum(x), pullback=lambda dy, y, x: (dy,)
        )
        with pytest.raises(GraphError, match=r"wrong_shape: its evaluate gives \[\] where its shape rule says \[2\]"):
            wrong_shape(np.ones(2))
        few = ops.primitive("few", "?", evaluate=lambda xp, a, b: a * b, pullback=lambda dy, y, a, b: (dy * b,))
        with pytest.raises(GraphError, match=r"the pullback of few must return a tuple of 2 cotangents.*tuple of 1"):
            grad(lambda a: few(a, a).sum())(np.ones(2))
        wide = ops.primitive("wide", "?", evaluate=lambda xp, a: xp.sum(a), pullback=lambda dy, y, a: (dy,))
        with pytest.raises(
            GraphError, match=r"the pullback of wide gave a cotangent of shape \(\) for input 0 of shape"
        ):
            grad(lambda a: wide(a))(np.ones(2))
        plain = ops.primitive("plain", "?", evaluate=lambda xp, a: a * 2, pullback=lambda dy, y, a: (np.ones(2),))
        with pytest.raises(GraphError, match="gave a ndarray for input 0: write it with chainrule's operations"):
            grad(lambda a: plain(a).sum())(np.ones(2))
        with pytest.raises(GraphError, match="'plain' is already declared"):
            ops.primitive("plain", "?", evaluate=lambda xp, a: a, pullback=lambda dy, y, a: (dy,))

    def test_the_check_catches_every_slightly_wrong_rule_and_no_right_one(self):
        def rule(name, factor):
            return ops.elementwise(
                name,
                "y = x sin x",
                evaluate=lambda xp, x: x * xp.sin(x),
                pullback=lambda dy, y, x: (dy * (ops.sin(x) + x * ops.cos(x)) * factor,),
            )

        right, wrong = rule("right", 1.0), rule("wrong", 1 + 1e-5)
        points = [np.random.default_rng(seed).normal(size=5) for seed in range(50)]
        assert sum(bool(check_gradients(right, x, seed=i)) for i, x in enumerate(points)) == 50
        assert sum(bool(check_gradients(wrong, x, seed=i)) for i, x in enumerate(points)) == 0
        report = check_gradients(wrong, points[0])
        assert "DIFFER" in str(report) and "the rule gives" in report.where and report.entries == 5


def polar_pullback(dys, ys, v):
    dr, du = dys
    r, u = ys[0].reshape(*ys[0].shape, 1), ys[1]
    found = 0.0 * v
    if dr is not None:
        found = found + dr.reshape(*dr.shape, 1) * u
    if du is not None:
        found = found + (du - u * ops.sum(du * u, -1, keepdims=True)) / r
    return (found,)
