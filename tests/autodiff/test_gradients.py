"""The functional doors against JAX and PyTorch in float64."""

import numpy as np
import pytest

from chainrule import ops
from chainrule.autodiff import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from chainrule.errors import ArgumentError, DTypeError, ShapeError, UnreachableWarning
from chainrule.graph import evaluate, tensor, trace
from chainrule.ops import OPS, stop_gradient
from chainrule.spec import FLOAT64, TensorSpec
from peers import peer

RANDOM = np.random.default_rng(5)
X, Y, W = RANDOM.normal(size=(4, 3)), RANDOM.normal(size=(4, 2)), RANDOM.normal(size=(2, 3))
V = RANDOM.normal(size=6)


def jax64():
    jax = peer("jax")
    jax.config.update("jax_enable_x64", True)
    return jax


def close(found, expected):
    expected = np.asarray(expected)
    found = np.asarray(found)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert np.abs(found - expected).max(initial=0) <= 1e-12 * max(1.0, np.abs(expected).max(initial=0))


def network(xp, w):
    """A scalar of everything that matters: products, broadcasting, reductions, a softmax, indexing."""
    h = xp.tanh(xp.matmul(X, xp.matrix_transpose(w)))
    p = xp.exp(h - Y) / (1 + xp.sum(xp.exp(h), axis=1, keepdims=True))
    return xp.sum(p * p * xp.sin(h)) + xp.sum(xp.where(h > 0, h * h, -h)) + xp.sum(w[:, ::2] ** 3)


def vector(xp, v):
    return xp.stack([xp.sum(v * v), v[0] * v[1] * v[2], xp.sin(v[3]) * v[4], xp.sum(xp.exp(v) / (2 + v * v))])


def test_grad_and_value_agree_with_jax_and_torch():
    jax, torch = jax64(), peer("torch")
    jnp = jax.numpy
    value, found = value_and_grad(lambda w: network(OPS, w))(W)
    wanted, expected = jax.value_and_grad(lambda w: network(jnp, w))(W)
    close(value, wanted)
    close(found, expected)

    def by_torch(w):
        h = torch.tanh(torch.from_numpy(X) @ w.T)
        p = torch.exp(h - torch.from_numpy(Y)) / (1 + torch.exp(h).sum(1, keepdim=True))
        return (p * p * torch.sin(h)).sum() + torch.where(h > 0, h * h, -h).sum() + (w[:, ::2] ** 3).sum()

    close(found, torch.func.grad(by_torch)(torch.from_numpy(W)).numpy())


def test_jacobian_hessian_and_products_agree_with_jax():
    jax = jax64()
    jnp = jax.numpy
    close(jacobian(lambda v: vector(OPS, v))(V), jax.jacrev(lambda v: vector(jnp, v))(V))
    close(hessian(lambda w: network(OPS, w))(W), jax.hessian(lambda w: network(jnp, w))(W))
    direction = RANDOM.normal(size=W.shape)
    close(
        hvp(lambda w: network(OPS, w), (W,), (direction,)),
        np.einsum("ijkl,kl->ij", jax.hessian(lambda w: network(jnp, w))(W), direction),
    )
    value, pushed = jvp(lambda v: vector(OPS, v), (V,), (V[::-1],))
    wanted, expected = jax.jvp(lambda v: vector(jnp, v), (V,), (V[::-1].copy(),))
    close(value, wanted)
    close(pushed, expected)
    outputs, pull = vjp(lambda v: vector(OPS, v), V)
    wanted, pull_jax = jax.vjp(lambda v: vector(jnp, v), V)
    close(outputs, wanted)
    close(pull(np.arange(4.0)), pull_jax(jnp.arange(4.0))[0])


def test_products_with_the_hessian_agree_with_torch():
    torch = peer("torch")
    t = torch.from_numpy(V)

    def f(v):
        return (torch.sin(v) * v.roll(1)).prod() + (v**4).sum()

    def ours(v):
        rolled = ops.concat([v[-1:], v[:-1]])
        return ops.prod(ops.sin(v) * rolled) + (v**4).sum()

    close(hessian(ours)(V), torch.autograd.functional.hessian(f, t).numpy())
    close(grad(ours)(V), torch.func.grad(f)(t).numpy())
    _, product = torch.autograd.functional.hvp(f, t, t)
    close(hvp(ours, (V,), (V,)), product.numpy())


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_derivatives_of_every_order_agree_with_jax(order):
    jax = jax64()

    def f(xp):
        return lambda x: xp.tanh(x) * xp.exp(x) / (1 + x * x) + xp.sin(x) ** 3

    ours, theirs = f(OPS), f(jax.numpy)
    for _ in range(order):
        ours, theirs = grad(ours), jax.grad(theirs)
    for x in (-1.3, 0.2, 0.9):
        assert abs(ours(np.float64(x)).item() - float(theirs(x))) <= 1e-12 * max(1, abs(float(theirs(x)))) * 10**order


def test_derivatives_nest_in_every_combination():
    def f(v):
        return (v * v * v).sum()

    v = np.array([1.0, 2.0])
    assert np.allclose(jacobian(grad(f))(v).numpy(), np.diag(6 * v))
    assert np.allclose(grad(lambda x: hvp(f, (x,), (np.ones(2),)).sum())(v).numpy(), [6, 6])
    assert np.allclose(grad(lambda x: jvp(f, (x,), (x,))[1])(v).numpy(), 9 * v**2)
    assert np.allclose(jvp(grad(f), (v,), (v,))[1].numpy(), 6 * v**2)
    assert np.allclose(grad(lambda x: hessian(f)(x).sum())(v).numpy(), [6, 6])
    assert np.allclose(jacobian(lambda x: vjp(lambda y: y * y, x)[1](x))(v).numpy(), np.diag(4 * v))


def test_a_derivative_sees_what_an_inner_one_only_closes_over():
    # The inner argument is a plain array: only the closure ties the inner result to x.
    y = np.array([1.0, 2.0])
    assert grad(lambda x: grad(lambda t: (x * t * t).sum())(y).sum())(y).tolist() == [2, 4]
    assert grad(lambda x: value_and_grad(lambda t: (x * t).sum())(y)[0])(y).tolist() == [1, 2]
    assert grad(lambda x: jvp(lambda t: x * t * t, (y,), (y,))[1].sum())(y).tolist() == [2, 8]
    assert grad(lambda x: hvp(lambda t: (x * t * t).sum(), (y,), (y,)).sum())(y).tolist() == [2, 4]
    assert grad(lambda x: vjp(lambda t: x * t, y)[1](y).sum())(y).tolist() == [1, 2]
    assert np.array_equal(jacobian(lambda x: jacobian(lambda t: x * t)(y).sum())(y).numpy(), [1, 1])


def test_results_carry_no_history_that_nobody_asked_for():
    value, found = value_and_grad(lambda x: grad(lambda t: (t**3).sum())(x).sum())(V)
    assert not value.requires_grad and not found.requires_grad and found.node is None
    live = tensor(V, requires_grad=True)
    grad(lambda x: (x**3).sum())(live).sum().backward()
    assert np.allclose(live.grad.numpy(), 6 * V)


def test_all_doors_work_inside_a_trace_with_arguments_and_with_constants():
    spec = TensorSpec((6,), FLOAT64)

    def f(v):
        return (ops.tanh(v) * v).sum()

    functions = [
        grad(f),
        hessian(f),
        jacobian(lambda v: vector(OPS, v)),
        lambda v: hvp(f, (v,), (v,)),
        lambda v: jvp(lambda t: ops.exp(t) * t, (v,), (v,))[1],
        lambda v: vjp(lambda t: t * t, v)[1](v),
        lambda v: grad(lambda t: (t * t * v).sum())(V),  # at a constant
        lambda v: jvp(lambda t: ops.scan(lambda h, r: (h * ops.tanh(r), h), t.sum(), t)[1], (v,), (v,))[1],
        grad(lambda v: grad(f)(v * 2).sum()),
    ]
    for function in functions:
        graph = trace(function, spec).graph
        assert np.allclose(evaluate(graph, V)[0], function(V).numpy(), rtol=1e-13, atol=1e-13)


def test_arguments_may_be_dicts_lists_and_tuples():
    parameters = {"w": W, "layers": [np.ones(2), (np.full(3, 2.0),)]}

    def f(p):
        return (p["w"] ** 2).sum() + (p["layers"][0] * 3).sum() + (p["layers"][1][0] ** 3).sum()

    value, found = value_and_grad(f)(parameters)
    assert np.allclose(found["w"].numpy(), 2 * W)
    assert found["layers"][0].tolist() == [3, 3] and isinstance(found["layers"][1], tuple)
    assert found["layers"][1][0].tolist() == [12, 12, 12]
    assert np.isclose(value.item(), (W**2).sum() + 6 + 24)


def test_several_arguments_and_auxiliary_results():
    def f(a, b, scale=1.0):
        return (a * b * scale).sum(), {"product": a * b}

    (value, aux), (da, db) = value_and_grad(f, (0, 1), has_aux=True)(np.ones(2), np.full(2, 3.0), scale=2.0)
    assert value.item() == 12 and da.tolist() == [6, 6] and db.tolist() == [2, 2]
    assert aux["product"].tolist() == [3, 3] and not aux["product"].requires_grad
    found, aux = grad(f, -1, has_aux=True)(np.ones(2), np.full(2, 3.0))
    assert found.tolist() == [1, 1] and set(aux) == {"product"}


def test_cotangents_and_tangents_take_the_dtype_of_their_values():
    _, pull = vjp(lambda v: v * v, V.astype(np.float32))
    assert pull(np.ones(6)).dtype == np.float32
    _, pull = vjp(lambda v: v * v, np.array([1.0]))
    assert pull([0.1]).item() == 0.2  # not the float32 next to 0.1
    assert jvp(lambda v: v * v, (np.float64(1.0),), (0.1,))[1].item() == 0.2


def test_stop_gradient_cuts_the_backward_pass():
    assert grad(lambda v: (v * stop_gradient(v)).sum())(V).numpy() == pytest.approx(V)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: grad(lambda x: x)(np.ones(2)), ShapeError, r"a gradient needs a scalar, got float64\[2\]"),
        (lambda: grad(lambda x: 3.0)(1.0), DTypeError, "must return a Tensor, got float"),
        (lambda: grad(lambda x: x, 1)(1.0), ArgumentError, "argnums 1 is out of range for 1 arguments"),
        (lambda: grad(lambda x: x.sum())(np.array([1, 2])), DTypeError, r"cannot differentiate by a int64\[2\]"),
        (lambda: jacobian(lambda x: [x])(1.0), DTypeError, "must return one Tensor, got list"),
        (lambda: jvp(lambda x: x, (np.ones(2),), (np.ones(3),)), ShapeError, "must have its shape"),
        (lambda: jvp(lambda x: x, (1.0,), (1.0, 2.0)), ShapeError, "as many cotangents or tangents, got 2"),
        (lambda: hvp(lambda x: x.sum(), (np.ones(2),), (np.ones(3),)), ShapeError, "must have its shape"),
        (lambda: vjp(lambda x: x, np.ones(2))[1](np.ones(3)), ShapeError, "must have its shape"),
    ],
)
def test_what_cannot_be_differentiated_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_zeros_for_an_argument_without_influence_come_with_a_warning():
    with pytest.warns(UnreachableWarning):
        assert grad(lambda x, y: ops.sum(x), 1)(V, V).tolist() == [0] * 6
    assert hvp(lambda x, y: ops.sum(x), (V, V), (V, V))[1].tolist() == [0] * 6
