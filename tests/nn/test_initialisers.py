"""First weights: sizes as in torch.nn.init, distributions, reasons, and that they are a pure function of the seed."""

import math

import numpy as np
import pytest

from chainrule import nn
from chainrule.errors import ArgumentError
from chainrule.nn.initialisers import gain
from peers import peer

SHAPE = (300, 200)


def drawn(initialiser, shape=SHAPE, seed=0, stream=1):
    return initialiser.draw(shape, seed, stream).astype(np.float64)


def distance(values, distribution):
    """Kolmogorov & Smirnov's: the largest gap between the values' distribution and the one that is meant."""
    ordered = np.sort(values.reshape(-1))
    meant = np.array([distribution(v) for v in ordered])
    steps = np.arange(ordered.size + 1) / ordered.size
    return max(np.abs(meant - steps[1:]).max(), np.abs(meant - steps[:-1]).max())


# Under the meant distribution a sample of 6000 exceeds this with probability 2 exp(-2 6000 0.03^2) = 4e-5.
FARTHEST = 0.03
FEW = (60, 100)


def phi(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))


UNIFORM = [
    (nn.Xavier(), math.sqrt(6 / 500)),
    (nn.Xavier(2.5), 2.5 * math.sqrt(6 / 500)),
    (nn.Kaiming(), math.sqrt(2) * math.sqrt(3 / 200)),
    (nn.Kaiming("tanh", mode="fan_out"), 5 / 3 * math.sqrt(3 / 300)),
    (nn.Kaiming("leaky_relu", 0.3), math.sqrt(2 / 1.09) * math.sqrt(3 / 200)),
    (nn.LeCun(), math.sqrt(3 / 200)),
    (nn.Uniform(-0.3, 0.3), 0.3),
]


@pytest.mark.parametrize(("initialiser", "bound"), UNIFORM, ids=str)
def test_uniform_draws_fill_their_bounds_evenly(initialiser, bound):
    values = drawn(initialiser)
    assert 0.9999 * bound < np.abs(values).max() <= bound * (1 + 1e-7)
    few = drawn(initialiser, FEW)
    scale = bound if isinstance(initialiser, nn.Uniform) else np.abs(few).max()
    assert distance(few, lambda v: (v + scale) / (2 * scale)) < FARTHEST


NORMAL = [
    (nn.Xavier(distribution="normal"), math.sqrt(2 / 500)),
    (nn.Kaiming(distribution="normal", mode="fan_out"), math.sqrt(2 / 300)),
    (nn.LeCun("normal"), math.sqrt(1 / 200)),
    (nn.Normal(0.0, 0.2), 0.2),
]


@pytest.mark.parametrize(("initialiser", "deviation"), NORMAL, ids=str)
def test_normal_draws_have_the_deviation_and_shape_that_are_meant(initialiser, deviation):
    values = drawn(initialiser)
    # The deviation of 60000 draws is itself uncertain by 1/sqrt(2 60000) = 0.3 %.
    assert abs(values.std() / deviation - 1) < 0.012 and abs(values.mean()) < 5 * deviation / math.sqrt(values.size)
    assert distance(values[:60, :100], lambda v: phi(v / deviation)) < FARTHEST


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (nn.Xavier(1.7), lambda init, w: init.xavier_uniform_(w, 1.7)),
        (nn.Kaiming("relu"), lambda init, w: init.kaiming_uniform_(w, nonlinearity="relu")),
        (nn.Kaiming("selu", mode="fan_out"), lambda i, w: i.kaiming_uniform_(w, mode="fan_out", nonlinearity="selu")),
        (nn.Kaiming("leaky_relu", 0.2), lambda init, w: init.kaiming_uniform_(w, 0.2)),
    ],
)
def test_bounds_are_those_of_torch(ours, theirs):
    torch = peer("torch")
    for shape in (SHAPE, (40, 10, 3, 5)):
        expected = torch.empty(shape)
        theirs(torch.nn.init, expected)
        bound = float(expected.abs().max())
        assert abs(np.abs(drawn(ours, shape)).max() / bound - 1) < 2e-3


def test_gains_are_those_of_torch():
    torch = peer("torch")
    for name in ("linear", "sigmoid", "tanh", "relu", "selu"):
        assert gain(name) == torch.nn.init.calculate_gain(name)
    assert gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


def test_torchs_own_first_weights_have_torchs_bounds():
    peer_layer = peer("torch").nn.Linear(50, 400)
    layer = nn.Linear(50, 400, init="torch")
    for name in ("weight", "bias"):
        values, expected = getattr(layer, name).numpy(), getattr(peer_layer, name).detach().numpy()
        assert abs(np.abs(values).max() * math.sqrt(50) - 1) < 0.02 and np.abs(expected).max() <= 1 / math.sqrt(50)
        assert abs(values.std() / expected.std() - 1) < 0.15
    assert "PyTorch's default, which is ±1/√inputs" in repr(layer) and "PyTorch's default, 1/√50" in repr(layer)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (25, 25), (6, 2, 3)], ids=str)
def test_orthogonal_matrices_are_orthogonal(shape):
    matrix = drawn(nn.Orthogonal(1.5), shape).reshape(shape[0], -1)
    small = matrix.T @ matrix if matrix.shape[0] > matrix.shape[1] else matrix @ matrix.T
    assert np.allclose(small, 2.25 * np.eye(len(small)), atol=1e-6)


def test_truncated_normal_stays_inside_its_limits_and_is_normal_there():
    values = drawn(nn.TruncatedNormal(0.5, 2.0, -1.0, 1.0), FEW)
    assert values.min() >= -1 and values.max() <= 1
    low, high = phi(-0.75), phi(0.25)
    assert distance(values, lambda v: (phi((v - 0.5) / 2) - low) / (high - low)) < FARTHEST
    assert np.abs(drawn(nn.TruncatedNormal(std=0.02), FEW)).max() < 0.1


def test_constants_are_constant():
    assert (drawn(nn.Zeros()) == 0).all() and (drawn(nn.Ones()) == 1).all() and (drawn(nn.Constant(2.5)) == 2.5).all()


def mlp(init="auto"):
    return nn.Sequential(nn.Linear(6, 8, init=init), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 8), nn.Linear(8, 2))


def bits(net):
    return {name: array.tobytes() for name, array in net.state_dict().items()}


def test_building_a_network_draws_nothing():
    net = mlp()
    repr(net), list(net.named_parameters()), net.to("float64"), net.eval()
    assert not any(p.drawn for p in net.parameters())
    net(np.ones((1, 6)))
    assert all(p.drawn for p in net.parameters())


def test_first_weights_depend_on_seed_name_and_initialiser_only():
    first = mlp().initialise(4)
    for _ in range(3):
        mlp().initialise(9)(np.ones((2, 6)))
    layers = [nn.Linear(8, 2), nn.Linear(8, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 8)]
    assert bits(first) == bits(mlp().initialise(4)) == bits(nn.Sequential(*reversed(layers)).initialise(4))
    other = mlp().initialise(5)
    weights = [n for n, _ in first.named_parameters() if n.endswith("weight")]
    assert all(bits(first)[n] != bits(other)[n] for n in weights)
    assert bits(mlp()) == bits(mlp().initialise(0))
    assert bits(first) == bits(first.initialise(6).initialise(4))
    assert bits(mlp(nn.Orthogonal()).initialise(4))["0.weight"] != bits(first)["0.weight"]
    assert bits(mlp(nn.Orthogonal()).initialise(4))["3.weight"] == bits(first)["3.weight"]


def test_weights_of_different_layers_differ():
    net = nn.Sequential(*(nn.Linear(5, 5) for _ in range(20))).initialise(0)
    assert len({b for n, b in bits(net).items() if n.endswith("weight")}) == 20


def test_a_layer_put_between_leaves_its_neighbours_as_they_are():
    net = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 5)).initialise(7)
    before = bits(net)
    wider = nn.Sequential(net[0], nn.Linear(5, 5), net[1], net[2])
    after = bits(wider)  # looks at the new weights, which draws them
    assert after["0.weight"] == before["0.weight"]
    assert (after["2.weight"], after["3.weight"]) == (before["1.weight"], before["2.weight"])
    again = bits(wider.initialise(7))
    assert {n: again[n] for n in again if n[0] != "1"} == {n: after[n] for n in after if n[0] != "1"}
    # The new layer is "1.weight", as was the old one whose stream it must not draw from.
    assert again["1.weight"] != again["2.weight"]


def test_copies_of_one_network_side_by_side_are_drawn_apart():
    import copy

    one = mlp().initialise(0)
    both = nn.Sequential(nn.Residual(one[3]), copy.deepcopy(nn.Residual(one[3]))).initialise(1)
    assert bits(both)["0.body.0.weight"] != bits(both)["1.body.0.weight"]


def test_loaded_weights_are_kept_by_a_later_seed():
    net = mlp().initialise(1)
    net.load_state_dict({"0.weight": np.full((8, 6), 3.0)}, strict=False)
    before = bits(net)
    after = bits(net.initialise(2))
    assert after["0.weight"] == before["0.weight"] and after["3.weight"] != before["3.weight"]


@pytest.mark.parametrize("seed", [1.5, "3", None, True, 2**64])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ArgumentError, match="seed"):
        mlp().initialise(seed)


def reason(layer):
    return layer.weight.initialiser.reason


def settled(net):
    net.settle_initialisers()
    return net


@pytest.mark.parametrize(
    "between", [nn.Dropout, nn.Identity, nn.Flatten, lambda: nn.BatchNorm1d(4), lambda: nn.LayerNorm(4)]
)
def test_auto_looks_through_layers_that_only_rescale(between):
    net = settled(nn.Sequential(nn.Linear(3, 4), between(), nn.SELU(), nn.Linear(4, 4), between(), nn.Tanh()))
    assert isinstance(net[0].weight.initialiser, nn.LeCun) and reason(net[0]).startswith("SELU follows")
    assert isinstance(net[3].weight.initialiser, nn.Xavier) and reason(net[3]).startswith("Tanh follows")


def test_auto_looks_into_and_out_of_nested_sequentials():
    net = settled(
        nn.Sequential(
            nn.Sequential(nn.Linear(3, 4)),
            nn.Sequential(nn.Sequential(nn.Dropout(), nn.ReLU()), nn.Linear(4, 4)),
            nn.Residual(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 4), shortcut=nn.Linear(4, 4)),
            nn.Sigmoid(),
        )
    )
    assert reason(net[0][0]).startswith("ReLU follows")
    assert reason(net[1][1]) == "no activation follows"
    assert reason(net[2].body[0]).startswith("GELU follows")
    assert reason(net[2].body[2]).startswith("Sigmoid follows") and reason(net[2].shortcut).startswith("Sigmoid")


def test_auto_looks_at_the_attributes_of_a_users_module_in_their_order():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(3, 4)
            self.second = nn.Linear(4, 4)
            self.act = nn.ReLU()
            self.more = nn.ModuleList([nn.Linear(4, 4), nn.Tanh()])
            self.last = nn.Linear(4, 2)

    net = settled(Net())
    assert [reason(m).split()[0] for m in (net.first, net.second, net.more[0], net.last)] == [
        "ReLU", "ReLU", "Tanh", "no",
    ]  # fmt: skip


def test_what_follows_is_looked_up_anew_in_another_network():
    layer = nn.Linear(3, 3)
    settled(nn.Sequential(layer, nn.ReLU()))
    assert isinstance(layer.weight.initialiser, nn.Kaiming)
    settled(nn.Sequential(layer))
    assert reason(layer) == "no activation follows"


def test_the_text_of_a_network_gives_each_initialiser_its_size_and_its_reason(golden):
    net = nn.Sequential(
        nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.2),
        nn.Residual(nn.Linear(128, 128), nn.LayerNorm(128), nn.SELU()),
        nn.Linear(128, 32, init="torch"), nn.PReLU(), nn.Linear(32, 32, init=nn.Orthogonal()), nn.Tanh(),
        nn.Linear(32, 16, init=nn.TruncatedNormal(std=0.02)), nn.Linear(16, 10, bias=False), nn.LogSoftmax(),
    )  # fmt: skip
    golden("network", repr(net) + "\n")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(2, 2, init="kaiming"), "init is 'auto', 'torch' or an initialiser"),
        (lambda: nn.Kaiming("swish"), "no gain is known for 'swish'"),
        (lambda: nn.Kaiming(mode="fan_avg"), "mode is 'fan_in' or 'fan_out'"),
        (lambda: nn.Xavier(distribution="gauss"), "distribution is 'uniform' or 'normal'"),
        (lambda: nn.LeCun("gauss"), "distribution is 'uniform' or 'normal'"),
        (lambda: nn.TruncatedNormal(std=0.0), "needs std > 0"),
        (lambda: nn.Xavier().draw((3,), 0, 0), "needs a weight of two axes"),
        (lambda: nn.Parameter((2, 2), 0.5), "initialiser of chainrule.nn"),
        (lambda: nn.Parameter(np.ones(3), nn.Zeros()), "takes a shape and an initialiser"),
    ],
)
def test_an_initialiser_that_cannot_be_meant_is_refused(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_a_description_rebuilds_the_network_with_its_initialisers():
    net = nn.Sequential(
        nn.Linear(4, 3, init=nn.TruncatedNormal(std=0.1)), nn.GELU("tanh"), nn.LayerNorm((3,)),
        nn.Sequential(nn.Linear(3, 3, init="torch"), nn.Softmax()), nn.Residual(nn.Linear(3, 3), nn.ELU(0.5)),
        nn.Residual(nn.Linear(3, 2), shortcut=nn.Linear(3, 2, bias=False)),
    )  # fmt: skip
    description = nn.description_of(net)
    twin = nn.sequential_of(description)
    assert repr(twin) == repr(net) and bits(twin.initialise(3)) == bits(net.initialise(3))
    assert nn.description_of(nn.Sequential(Own())) is None
    with pytest.raises(ArgumentError, match="'Own' is not a layer"):
        nn.sequential_of([{"layer": "Own", "options": {}}])


class Own(nn.Module):
    """A class that no description can name."""
