"""Parameters and buffers by name: moving to and from PyTorch, refusing what does not fit, tied tensors, statistics."""

import copy

import numpy as np
import pytest

from chainrule import nn
from chainrule.errors import ArgumentError, CheckpointError
from chainrule.graph import tensor
from peers import peer


def networks(torch):
    ours = nn.Sequential(
        nn.Linear(5, 4), nn.PReLU(4), nn.BatchNorm1d(4), nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2, bias=False))
    )
    theirs = torch.nn.Sequential(
        torch.nn.Linear(5, 4),
        torch.nn.PReLU(4),
        torch.nn.BatchNorm1d(4),
        torch.nn.Sequential(torch.nn.LayerNorm(4), torch.nn.Linear(4, 2, bias=False)),
    )
    return ours, theirs


def test_names_shapes_dtypes_and_values_move_both_ways():
    torch = peer("torch")
    ours, theirs = networks(torch)
    state = theirs.state_dict()
    assert [(n, a.shape, a.dtype.name) for n, a in ours.state_dict().items()] == [
        (n, tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in state.items()
    ]
    ours.load_state_dict(state)
    for name, array in ours.state_dict().items():
        assert np.array_equal(array, state[name].numpy()), name
    ours.load_state_dict(ours.initialise(3).state_dict() | {"0.bias": np.arange(4)})
    theirs.load_state_dict({n: torch.tensor(a) for n, a in ours.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    assert np.allclose(theirs.eval()(torch.tensor(x)).detach().numpy(), ours.predict(x), atol=1e-6)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in ours.named_buffers()] == [n for n, _ in theirs.named_buffers()]
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]


def small():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_an_error_lists_all_that_does_not_fit_and_changes_nothing():
    net = small().initialise(1)
    before = net.state_dict()
    wrong = {n: a + 1 for n, a in before.items() if n != "0.bias"}
    wrong |= {"0.weight": np.zeros((3, 9)), "5.weight": np.zeros(1), "1.bias": np.array(["a", "b", "c"])}
    wrong |= {"1.num_batches_tracked": np.array(2.5), "1.running_var": np.array([1.0, 1e300, 1.0])}
    with pytest.raises(CheckpointError) as caught:
        net.load_state_dict(wrong)
    message = str(caught.value)
    for part in (
        "0.bias is missing", "5.weight is not a name of this network",
        "0.weight has shape [3, 9], the network needs [3, 2]",
        "1.bias has dtype <U1", "1.num_batches_tracked has 1 values that int64 cannot hold, such as 2.5",
        "1.running_var has 1 values that float32 cannot hold, such as 1e+300",
    ):  # fmt: skip
        assert part in message
    assert all(np.array_equal(a, before[n]) for n, a in net.state_dict().items())


def test_without_strict_only_names_may_differ():
    net = small().initialise(1)
    net.load_state_dict({"0.bias": [1, 2, 3], "elsewhere": np.zeros(2)}, strict=False)
    assert net.state_dict()["0.bias"].tolist() == [1, 2, 3]
    with pytest.raises(CheckpointError, match=r"0\.bias has shape \[2\]"):
        net.load_state_dict({"0.bias": [1, 2]}, strict=False)
    with pytest.raises(ArgumentError, match="mapping of names"):
        net.load_state_dict([1, 2])


def test_the_state_is_a_copy_in_both_directions():
    net = small().initialise(1)
    state = net.state_dict()
    net.load_state_dict(state)
    state["0.weight"][:] = 7
    assert not (net.state_dict()["0.weight"] == 7).any()


def test_torch_parameters_that_require_gradients_are_refused_with_the_remedy():
    torch = peer("torch")
    with pytest.raises(CheckpointError, match=r"0\.weight cannot become an array: .*detach"):
        small().load_state_dict(dict(torch.nn.Sequential(torch.nn.Linear(2, 3)).named_parameters()), strict=False)


class Tied(nn.Module):
    """One weight under two names."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).tanh())


def test_a_tied_parameter_has_one_gradient_and_both_names():
    torch = peer("torch")
    net = Tied().to("float64").initialise(2)
    assert [n for n, _ in net.named_parameters()] == ["first.weight"]
    assert list(net.state_dict()) == ["first.weight", "second.weight"]
    x = np.random.default_rng(0).normal(size=(4, 3))
    net(x).sum().backward()
    w = torch.tensor(net.state_dict()["first.weight"], requires_grad=True)
    (torch.tanh(torch.tensor(x) @ w.T) @ w.T).sum().backward()
    assert np.allclose(net.first.weight.grad.numpy(), w.grad.numpy(), rtol=1e-12)
    with pytest.raises(CheckpointError, match=r"second\.weight and first\.weight are one tensor here"):
        net.load_state_dict({"first.weight": np.zeros((3, 3)), "second.weight": np.ones((3, 3))})
    twin = copy.deepcopy(net)
    assert twin.first.weight is twin.second.weight is not net.first.weight


def test_a_module_used_twice_is_in_the_state_under_both_names():
    torch = peer("torch")
    layer, peer_layer = nn.Linear(3, 3), torch.nn.Linear(3, 3)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    theirs = torch.nn.Sequential(peer_layer, torch.nn.ReLU(), peer_layer)
    assert list(net.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in net.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert len(list(net.children())) == len(list(theirs.children())) == 2
    net.load_state_dict(theirs.state_dict())
    assert "(2): Linear(in_features=3, out_features=3, bias=True)    # the same as 0" in repr(net)
    assert repr(net).endswith("\n12 parameters")


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": None}, {"momentum": 0.3, "affine": False}, {"track_running_stats": False}, {"eps": 0.1}],
    ids=str,
)
@pytest.mark.parametrize(
    ("name", "shape"),
    [("BatchNorm1d", (8, 4)), ("BatchNorm1d", (3, 4, 5)), ("BatchNorm2d", (3, 4, 5, 2)), ("BatchNorm2d", (1, 4, 1, 2))],
    ids=str,
)
def test_running_statistics_after_five_batches_equal_those_of_torch(options, name, shape):
    torch = peer("torch")
    ours, theirs = getattr(nn, name)(4, **options).to("float64"), getattr(torch.nn, name)(4, **options).double()
    random = np.random.default_rng(0)
    for _ in range(5):
        x = random.normal(3, 2, shape)
        assert np.allclose(ours(x).numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-12, atol=1e-12)
    state = {n: t.numpy() for n, t in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    for key, array in ours.state_dict().items():
        assert np.allclose(array, state[key], rtol=1e-13, atol=0), key
    if ours.track_running_stats:
        assert ours.num_batches_tracked.dtype == np.int64 and ours.num_batches_tracked.item() == 5
    ours.eval(), theirs.eval()
    x = random.normal(3, 2, shape)
    assert np.allclose(ours(x).numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-12, atol=1e-12)


def test_a_batch_of_one_row_is_refused_where_it_has_no_variance():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match=r"layer '1' .*one value a feature.*larger batch_size"):
        net(np.ones((1, 2)))
    assert net.eval()(np.ones((1, 2))).shape == (1, 3)
    with pytest.raises(ValueError, match="one value a feature"):
        nn.BatchNorm1d(3, track_running_stats=False).eval()(np.ones((1, 3)))
    with pytest.raises(ValueError, match="BatchNorm2d: a batch of one value a feature"):
        nn.BatchNorm2d(3)(np.ones((1, 3, 1, 1)))
    for layer, shape, wanted in (
        (nn.BatchNorm2d(3), (2, 3), "rows, 3, height, width"), (nn.BatchNorm2d(3), (2, 4, 5, 5), "rows, 3, height"),
        (nn.BatchNorm1d(3), (2, 3, 4, 4), "rows, 3, length"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=wanted):
            layer(np.ones(shape))


def test_converting_to_float64_and_back_keeps_values_and_leaves_counts_alone():
    net = small().initialise(1)
    before = net.state_dict()
    net(np.ones((2, 2))).sum().backward()
    net.to("float64")
    assert net.dtype == np.float64 and net[1].num_batches_tracked.dtype == np.int64
    assert net[0].weight.grad.dtype == np.float64
    assert net([[0.1, 0.2], [0.3, 0.4]]).dtype == np.float64
    net.to("float32").load_state_dict(net.state_dict() | {"1.num_batches_tracked": 0})
    assert net.state_dict()["0.weight"].tobytes() == before["0.weight"].tobytes()
    with pytest.raises(TypeError, match="float32 or float64"):
        net.to("int64")


def test_lists_of_floats_keep_their_digits_in_a_float64_network():
    net = nn.Sequential(nn.Linear(1, 1, init=nn.Ones())).to("float64")
    assert net([[0.1]]).item() == 0.1
    assert net.predict([[0.1]]).item() == 0.1
    assert nn.ReLU()(np.array([0.1])).item() == 0.1


def test_a_gradient_adds_up_until_it_is_forgotten_and_frozen_parameters_get_none():
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    net[0].requires_grad_(False)
    x = tensor(np.ones((4, 2), np.float32), requires_grad=True)
    net(x).sum().backward()
    once = net[2].weight.grad.numpy()
    net(x).sum().backward()
    assert np.array_equal(net[2].weight.grad.numpy(), 2 * once)
    assert net[0].weight.grad is None and x.grad is not None
    net.zero_grad()
    assert net[2].weight.grad is None
    net.requires_grad_()(x).sum().backward()
    assert net[0].weight.grad is not None
