"""Clipping and penalties against PyTorch and against the formulas."""

import numpy as np
import pytest

from chainrule import optim
from chainrule.errors import ArgumentError
from chainrule.graph import evaluate, tensor, trace
from chainrule.spec import FLOAT64, TensorSpec
from peers import peer


@pytest.mark.parametrize("scale", [0.0, 1e-9, 0.1, 1.0, 1e3])
@pytest.mark.parametrize("limit", [0.01, 1.0, 5.0])
def test_clipping_by_norm_and_value_is_pytorchs(scale, limit):
    torch = peer("torch")
    parts = [np.random.default_rng(5).normal(size=n) * scale for n in (3, 7, 1)]
    flat = tensor(np.concatenate(parts))

    def theirs(clip):
        parameters = [torch.zeros(len(p), dtype=torch.float64, requires_grad=True) for p in parts]
        for parameter, gradient in zip(parameters, parts, strict=True):
            parameter.grad = torch.tensor(gradient)
        norm = clip(parameters, limit)
        return np.concatenate([p.grad.numpy() for p in parameters]), norm

    clipped, norm = optim.clip_by_norm(flat, limit)
    wanted, wanted_norm = theirs(torch.nn.utils.clip_grad_norm_)
    np.testing.assert_allclose(clipped.numpy(), wanted, rtol=1e-12)
    assert norm.item() == pytest.approx(float(wanted_norm), rel=1e-12)
    wanted, _ = theirs(torch.nn.utils.clip_grad_value_)
    np.testing.assert_array_equal(optim.clip_by_value(flat, limit).numpy(), wanted)


def test_clip_limits_entries_first_and_gives_the_norm_before():
    gradient = tensor(np.array([30.0, -40.0, 0.0]))
    clipped, norm = optim.Clip(norm=1.0, value=3.0).clipped(gradient)
    np.testing.assert_allclose(clipped.numpy(), np.array([1, -1, 0]) / np.sqrt(2), rtol=1e-6)
    assert norm.item() == 50.0
    untouched, norm = optim.Clip().clipped(gradient)
    np.testing.assert_array_equal(untouched.numpy(), gradient.numpy())
    assert norm.item() == 50.0


def test_clipping_compiles_and_keeps_float32():
    graph = trace(lambda g: optim.Clip(norm=1.0).clipped(g), TensorSpec((2,))).graph
    clipped, norm = evaluate(graph, np.array([3.0, 4.0], np.float32))
    np.testing.assert_allclose(clipped, [0.6, 0.8], rtol=1e-6)
    assert clipped.dtype == norm.dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_norm_tells_of_a_gradient_that_is_not_finite(bad):
    _, norm = optim.clip_by_norm(tensor(np.array([1.0, bad])), 1.0)
    assert not np.isfinite(norm.item())


WEIGHTS = {
    "0.weight": np.array([[1.0, -2.0], [0.0, 3.0]]),
    "0.bias": np.array([100.0, 100.0]),
    "1.weight": np.array([[[-1.0]]]),
    "norm.weight": np.array([50.0]),
}


def parameters():
    return {name: tensor(array) for name, array in WEIGHTS.items()}


@pytest.mark.parametrize(("l1", "l2", "wanted"), [(0.5, 0, 3.5), (0, 0.1, 1.5), (0.5, 0.1, 5.0)])
def test_a_penalty_sums_over_weights_and_leaves_out_vectors(l1, l2, wanted):
    found = optim.penalty(parameters(), l1, l2)
    assert found.shape == ()
    assert found.item() == pytest.approx(wanted)


def test_no_penalty_is_none():
    assert optim.penalty(parameters(), 0, 0) is None
    assert optim.penalty({"0.bias": tensor([1.0])}, 1.0, 1.0) is None


def test_an_l2_penalty_moves_weights_as_twice_that_weight_decay_does():
    weight, gradient, l2 = WEIGHTS["0.weight"], np.array([[0.1, 0.2], [0.3, 0.4]]), 0.05
    leaf = tensor(weight, requires_grad=True)
    optim.penalty({"w": leaf}, l2=l2).backward()
    penalised, _ = optim.SGD(0.1).stepped(weight, gradient + leaf.grad.numpy())
    decayed, _ = optim.SGD(0.1, weight_decay=2 * l2).stepped(weight, gradient)
    np.testing.assert_allclose(penalised, decayed, rtol=1e-14)


def test_the_gradient_of_an_l1_penalty_is_the_sign_and_0_at_0():
    leaf = tensor(WEIGHTS["0.weight"], requires_grad=True)
    optim.penalty({"w": leaf}, l1=0.5).backward()
    np.testing.assert_array_equal(leaf.grad.numpy(), 0.5 * np.sign(WEIGHTS["0.weight"]))


@pytest.mark.parametrize("name", ["l1", "l2"])
@pytest.mark.parametrize("value", [-1e-9, np.nan, np.inf, "0", None, True])
def test_a_penalty_that_is_no_finite_number_from_0_is_refused(name, value):
    with pytest.raises(ArgumentError, match=f"^penalty: {name} must be a finite number at least 0, got "):
        optim.penalty(parameters(), **{name: value})


def test_a_penalty_compiles_in_float64():
    graph = trace(lambda w: optim.penalty({"w": w}, 1.0, 1.0), TensorSpec((1, 2), FLOAT64)).graph
    (found,) = evaluate(graph, np.array([[1.0, -3.0]]))
    assert found.dtype == np.float64
    assert found == 14.0
