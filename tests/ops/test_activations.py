"""Every activation against PyTorch in float64: values, first derivatives, kinks and extremes."""

import warnings

import numpy as np
import pytest

from chainrule import ops
from chainrule.autodiff import value_and_grad
from chainrule.errors import UnreachableWarning
from peers import peer

POINTS = np.concatenate([np.linspace(-7, 7, 57), [-0.0, 1e-300, -1e-300, 0.5, -0.5]])
EXTREME = np.array([-1e4, -750.0, -90.0, 90.0, 750.0, 1e4])
KINKS = np.array([-3.0, -1.0, 0.0, 1.0, 3.0, -0.75, 0.25])

# name, arguments of ours, torch's name, its arguments
CASES = [
    ("relu", {}, "relu", {}),
    ("leaky_relu", {}, "leaky_relu", {}),
    ("leaky_relu", {"negative_slope": 0.3}, "leaky_relu", {"negative_slope": 0.3}),
    ("elu", {}, "elu", {}),
    ("elu", {"alpha": 0.7}, "elu", {"alpha": 0.7}),
    ("selu", {}, "selu", {}),
    ("gelu", {}, "gelu", {}),
    ("gelu", {"approximate": "tanh"}, "gelu", {"approximate": "tanh"}),
    ("silu", {}, "silu", {}),
    ("mish", {}, "mish", {}),
    ("softplus", {}, "softplus", {"threshold": 1e6}),
    ("softplus", {"beta": 2.5}, "softplus", {"beta": 2.5, "threshold": 1e6}),
    ("softsign", {}, "softsign", {}),
    ("hardtanh", {}, "hardtanh", {}),
    ("hardtanh", {"min_val": -0.75, "max_val": 0.25}, "hardtanh", {"min_val": -0.75, "max_val": 0.25}),
    ("hardsigmoid", {}, "hardsigmoid", {}),
    ("hardswish", {}, "hardswish", {}),
    ("sigmoid", {}, "sigmoid", {}),
    ("tanh", {}, "tanh", {}),
    ("abs", {}, "abs", {}),
    ("sign", {}, "sign", {}),
    ("clip", {"min": -0.75, "max": 0.25}, "clamp", {"min": -0.75, "max": 0.25}),
    ("clip", {"max": 1.0}, "clamp", {"max": 1.0}),
]


def precision(name, wanted):
    """torch keeps hardsigmoid's 1/6 as a float32, whatever the tensor's dtype."""
    return 1e-7 if name == "hardsigmoid" else wanted


each = pytest.mark.parametrize(("name", "arguments", "theirs", "their_arguments"), CASES)


def ours_and_torchs(name, arguments, theirs, their_arguments, x):
    """(value, slope) of both at every x."""
    torch = peer("torch")
    weights = np.cos(np.arange(x.size)) + 1.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreachableWarning)  # sign has no gradient, and says so
        _, slope = value_and_grad(lambda t: (getattr(ops, name)(t, **arguments) * weights).sum())(x)
    value = getattr(ops, name)(x, **arguments)
    t = torch.from_numpy(x.copy()).requires_grad_()
    function = getattr(torch.nn.functional, theirs, None) or getattr(torch, theirs)
    y = function(t, **their_arguments)
    (y * torch.from_numpy(weights)).sum().backward()
    return (value.numpy(), slope.numpy() / weights), (y.detach().numpy(), t.grad.numpy() / weights)


@each
def test_values_and_slopes_are_those_of_torch(name, arguments, theirs, their_arguments):
    for found, wanted in zip(*ours_and_torchs(name, arguments, theirs, their_arguments, POINTS), strict=True):
        assert np.allclose(found, wanted, rtol=precision(name, 1e-12), atol=1e-14)


@each
def test_at_a_kink_the_slope_is_exactly_that_of_torch(name, arguments, theirs, their_arguments):
    (_, found), (_, wanted) = ours_and_torchs(name, arguments, theirs, their_arguments, KINKS)
    assert np.allclose(found, wanted, rtol=precision(name, 4e-16), atol=4e-16)


@each
def test_far_out_nothing_overflows(name, arguments, theirs, their_arguments):
    options = {k: v for k, v in their_arguments.items() if k != "threshold"}  # torch overflows without it
    for found, wanted in zip(*ours_and_torchs(name, arguments, theirs, options, EXTREME), strict=True):
        assert np.isfinite(found).all()
        assert np.allclose(found, wanted, rtol=1e-11, atol=1e-30)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_and_its_kin_are_those_of_torch_at_every_scale(name, axis):
    torch = peer("torch")
    for scale in (1e-3, 1.0, 30.0, 1e4):
        x = np.random.default_rng(0).normal(size=(4, 5, 3)) * scale
        weights = np.random.default_rng(1).normal(size=getattr(ops, name)(x, axis).shape)
        value, slope = value_and_grad(lambda t: (getattr(ops, name)(t, axis) * weights).sum())(x)  # noqa: B023
        t = torch.from_numpy(x).requires_grad_()
        y = (getattr(torch, name)(t, axis) * torch.from_numpy(weights)).sum()
        y.backward()
        assert np.isclose(value.item(), y.item(), rtol=1e-12)
        assert np.allclose(slope.numpy(), t.grad.numpy(), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(("shape", "slopes"), [((4, 3), 3), ((4, 3), 1), ((5,), 1), ((2, 3, 4), 3), ((2, 3, 4), 1)])
def test_prelu_is_that_of_torch_with_one_slope_or_one_a_channel(shape, slopes):
    torch = peer("torch")
    x, w = np.random.default_rng(0).normal(size=shape), np.linspace(0.1, 0.4, slopes)
    x.flat[0] = 0.0
    value, (dx, dw) = value_and_grad(lambda x, w: (ops.prelu(x, w) ** 2 + ops.prelu(x, w)).sum(), (0, 1))(x, w)
    tx, tw = torch.from_numpy(x).requires_grad_(), torch.from_numpy(w).requires_grad_()
    y = torch.nn.functional.prelu(tx, tw)
    (y**2 + y).sum().backward()
    assert np.isclose(value.item(), (y**2 + y).sum().item(), rtol=1e-13)
    assert np.allclose(dx.numpy(), tx.grad.numpy(), rtol=1e-13)
    assert np.allclose(dw.numpy(), tw.grad.numpy(), rtol=1e-13)


@pytest.mark.parametrize("name", ["max", "min"])
def test_tied_extremes_share_as_amax_and_amin_of_torch(name):
    torch = peer("torch")
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, 1.0, 0.0]])
    for axis in (0, 1, (0, 1)):
        _, slope = value_and_grad(lambda t: (getattr(ops, name)(t, axis) ** 2).sum())(x)  # noqa: B023
        t = torch.from_numpy(x).requires_grad_()
        (getattr(torch, f"a{name}")(t, axis) ** 2).sum().backward()
        assert np.allclose(slope.numpy(), t.grad.numpy(), rtol=1e-15)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_tied_pairs_share_as_in_torch(name):
    torch = peer("torch")
    a, b = np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])
    _, (da, db) = value_and_grad(lambda a, b: (getattr(ops, name)(a, b) ** 2).sum(), (0, 1))(a, b)
    ta, tb = torch.from_numpy(a).requires_grad_(), torch.from_numpy(b).requires_grad_()
    (getattr(torch, name)(ta, tb) ** 2).sum().backward()
    assert np.array_equal(da.numpy(), ta.grad.numpy()) and np.array_equal(db.numpy(), tb.grad.numpy())


def test_reductions_are_those_of_torch():
    torch = peer("torch")
    x = np.random.default_rng(0).normal(size=(3, 4))
    t = torch.from_numpy(x)
    for axis in (0, 1):
        assert np.allclose(ops.var(x, axis, correction=1).numpy(), t.var(axis).numpy(), rtol=1e-13)
        assert np.allclose(ops.std(x, axis).numpy(), t.std(axis, correction=0).numpy(), rtol=1e-13)
        assert np.array_equal(ops.argmax(x, axis).numpy(), t.argmax(axis).numpy())
        assert np.allclose(ops.prod(x, axis).numpy(), t.prod(axis).numpy(), rtol=1e-13)
        assert np.allclose(ops.cumsum(x, axis).numpy(), t.cumsum(axis).numpy(), rtol=1e-13)
    holes = np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 5.0]])
    _, slope = value_and_grad(lambda v: ops.prod(v, 1).sum())(holes)
    assert slope.tolist() == [[6, 0, 0], [0, 0, 0]]
