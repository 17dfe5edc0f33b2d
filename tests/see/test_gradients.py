"""cr.gradients and cr.activations: plain arrays under the names of state_dict, as PyTorch has them."""

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import ArgumentError, ChainruleError, ShapeError
from peers import peer

torch = peer("torch")

GENERATOR = np.random.default_rng(8)
X = GENERATOR.normal(size=(7, 4))
TRUTHS: dict[str, Any] = {
    "mse": GENERATOR.normal(size=(7, 3)),
    "mae": GENERATOR.normal(size=(7, 3)),
    "huber": GENERATOR.normal(size=(7, 3)),
    "cross_entropy": GENERATOR.integers(0, 3, 7),
    "binary_cross_entropy_with_logits": GENERATOR.integers(0, 2, (7, 3)).astype(float),
}
THEIRS = {
    "mse": torch.nn.MSELoss(),
    "mae": torch.nn.L1Loss(),
    "huber": torch.nn.HuberLoss(),
    "cross_entropy": torch.nn.CrossEntropyLoss(),
    "binary_cross_entropy_with_logits": torch.nn.BCEWithLogitsLoss(),
}


def pair() -> tuple[nn.Module, Any]:
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.GELU(), nn.Linear(6, 3)).to("float64")
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.GELU(), torch.nn.Linear(6, 3)
    ).double()
    model.load_state_dict({name: torch.tensor(array) for name, array in net.state_dict().items()})
    return net, model


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("loss", TRUTHS)
def test_gradients_by_parameters_and_inputs_are_pytorchs(loss, training):
    net, model = pair()
    net.train(training), model.train(training)
    x = torch.tensor(X, requires_grad=True)
    value = THEIRS[loss](model(x), torch.tensor(TRUTHS[loss]))
    value.backward()
    before = net.state_dict()
    found, gradients = cr.gradients(net, loss, X, TRUTHS[loss], wrt="inputs")
    np.testing.assert_allclose(found, value.item(), rtol=1e-12)
    expected = {name: p.grad.numpy() for name, p in model.named_parameters()} | {"x": x.grad.numpy()}
    assert list(gradients) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(gradients[name], array, rtol=1e-10, atol=1e-13, err_msg=name)
    assert gradients.reasons == {}
    for name, array in net.state_dict().items():  # looking changes nothing, running statistics included
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_what_each_sample_contributes_adds_up():
    net, _ = pair()
    net.eval()
    whole, gradients = cr.gradients(net, "cross_entropy", X, TRUTHS["cross_entropy"], wrt="inputs")
    mean, parts = cr.gradients(net, "cross_entropy", X, TRUTHS["cross_entropy"], wrt="inputs", per_sample=True)
    np.testing.assert_allclose(mean, whole, rtol=1e-13)
    np.testing.assert_allclose(parts.pop("x"), gradients.pop("x"), rtol=1e-12, atol=1e-15)
    for name, array in gradients.items():
        assert parts[name].shape == (7, *array.shape)
        np.testing.assert_allclose(parts[name].sum(axis=0), array, rtol=1e-12, atol=1e-14, err_msg=name)


def test_all_names_pre_activations_and_activations_as_a_derivation_does():
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).to("float64")
    _, found = cr.gradients(net, "cross_entropy", X, TRUTHS["cross_entropy"], wrt="all")
    assert list(found) == ["0.weight", "0.bias", "2.weight", "2.bias", "x", "z1", "a1", "z2", "a2"]
    a1 = np.tanh(X @ net.state_dict()["0.weight"].T + net.state_dict()["0.bias"])
    np.testing.assert_allclose(found["a1"] * (1 - a1**2), found["z1"], rtol=1e-12)
    np.testing.assert_allclose(found["z2"].T @ a1, found["2.weight"], rtol=1e-12)


def test_the_lectures_weight_update_is_one_line():
    net = nn.Linear(4, 3).to("float64").initialise(0)
    before, gradients = cr.gradients(net, "mse", X, TRUTHS["mse"])
    net.load_state_dict({name: array - 0.1 * gradients[name] for name, array in net.state_dict().items()})
    assert cr.gradients(net, "mse", X, TRUTHS["mse"])[0] < before


class Branched(nn.Module):
    """With a layer of which only the values are used, and one that is not used at all."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.stopped, self.unused = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.used(x) + cr.stop_gradient(self.stopped(x))


def test_what_the_loss_does_not_depend_on_gets_zeros_and_a_reason():
    net = Branched()
    _, gradients = cr.gradients(net, "cross_entropy", X, TRUTHS["cross_entropy"])
    assert sorted(gradients.reasons) == ["stopped.bias", "stopped.weight", "unused.bias", "unused.weight"]
    assert "stop_gradient" in gradients.reasons["stopped.weight"]
    for name in gradients.reasons:
        assert gradients[name].shape == net.state_dict()[name].shape
        assert not gradients[name].any()
    assert gradients["used.weight"].any()


def test_frozen_parameters_are_left_out_and_tied_ones_are_named_once():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 3))
    net[2].weight = net[0].weight
    net[3].requires_grad_(False)
    _, gradients = cr.gradients(net, "cross_entropy", X, TRUTHS["cross_entropy"])
    assert list(gradients) == ["0.weight", "0.bias", "2.bias"]


def test_whole_numbers_as_inputs_have_gradients_too():
    net = nn.Linear(2, 1).to("float64")
    x = np.array([[1, 2], [3, 4]])
    _, gradients = cr.gradients(net, "mse", x, np.zeros((2, 1)), wrt="inputs")
    _, expected = cr.gradients(net, "mse", x.astype(float), np.zeros((2, 1)), wrt="inputs")
    np.testing.assert_array_equal(gradients["x"], expected["x"])
    assert gradients["x"].any()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda net: cr.gradients(net, "cross_entropi", X, TRUTHS["cross_entropy"]), "did you mean 'cross_entropy'"),
        (lambda net: cr.gradients("mse", net, X, TRUTHS["mse"]), "takes a chainrule.nn.Module first, got str"),
        (lambda net: cr.gradients(net, "mse", X, TRUTHS["mse"], wrt="weights"), "'inputs' or 'all'"),
        (lambda net: cr.gradients(net, "mse", X[:, :3], TRUTHS["mse"]), "layer '0'"),
        (lambda net: cr.gradients(net, "mse", X, TRUTHS["mse"][:, :1]), "same shape"),
        (lambda net: cr.gradients(net, "cross_entropy", X, TRUTHS["cross_entropy"] + 5), "outside the 3 classes"),
        (lambda net: cr.gradients(net, "mse", X, TRUTHS["mse"], per_sample=True), "mixes the rows of a batch"),
        (lambda net: cr.gradients(net.eval(), "mse", X, TRUTHS["mse"][:5], per_sample=True), "as many targets as rows"),
        (lambda net: cr.gradients(net.eval(), "mse", X[:0], TRUTHS["mse"][:0], per_sample=True), "needs rows"),
        (
            lambda net: cr.gradients(net.eval(), nn.MSELoss(reduction="sum"), X, TRUTHS["mse"], per_sample=True),
            "a loss that is a mean over rows",
        ),
        (lambda net: cr.activations(lambda x: x, X), "takes a chainrule.nn.Module"),
    ],
)
def test_misuse_is_named(call, words):
    with pytest.raises(ChainruleError, match=words) as refused:
        call(pair()[0])
    assert isinstance(refused.value, (ArgumentError, ShapeError, ValueError))


def test_activations_are_those_of_each_layer_in_the_mode_of_the_network():
    net, model = pair()
    for training in (True, False):
        net.train(training), model.train(training)
        before = net.state_dict()
        found = cr.activations(net, X)
        assert list(found) == ["0", "1", "2", "3"]
        value = torch.tensor(X)
        state = {k: v.clone() for k, v in model.state_dict().items()}
        for name, layer in model.named_children():
            value = layer(value)
            np.testing.assert_allclose(found[name], value.detach().numpy(), rtol=1e-10, atol=1e-13, err_msg=name)
        model.load_state_dict(state)
        for name, array in net.state_dict().items():
            np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_activations_of_nested_layers_have_their_full_names():
    net = nn.Sequential(nn.Linear(4, 4), nn.Residual(nn.Linear(4, 4), nn.Tanh()))
    assert list(cr.activations(net, X)) == ["0", "1.body.0", "1.body.1", "1.shortcut"]
