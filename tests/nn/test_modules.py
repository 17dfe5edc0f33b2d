"""What users of PyTorch expect of modules: attributes, modes, names, errors that name the layer, copies."""

import copy
import gc

import numpy as np
import pytest

from chainrule import nn
from chainrule.errors import ArgumentError, ShapeError
from chainrule.graph import context, holding, trace
from chainrule.ops import key, manual_seed, stack
from chainrule.spec import TensorSpec


class Tower(nn.Module):
    """A module of a user's own: layers as attributes and in a list, one of them used twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.floors = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
        self.scale = nn.Parameter((4,), nn.Ones())
        self.units = 4

    def forward(self, x):
        x = self.first(x).relu()
        for floor in self.floors:
            x = self.first(floor(x)) * self.scale
        return x


def names(net):
    return [name for name, _ in net.named_parameters()]


def scopes(net, width=4):
    """The layer names that a trace of ``net`` records, in order."""
    traced = trace(net, TensorSpec((2, width)))
    return [node.scope for node in traced.graph.nodes() if node.primitive.name == "linear"]


def test_parts_of_a_users_module_are_found_by_name():
    net = Tower()
    assert names(net) == ["scale", "first.weight", "first.bias", "floors.0.weight", "floors.0.bias",
                          "floors.1.weight", "floors.1.bias"]  # fmt: skip
    assert [n for n, _ in net.named_modules()] == ["", "first", "floors", "floors.0", "floors.1"]
    assert [type(m).__name__ for m in net.children()] == ["Linear", "ModuleList"]
    assert len(list(net.modules())) == 5 and len(list(net.parameters())) == 7
    assert scopes(net) == ["first", "floors.0", "first", "floors.1", "first"]


def test_a_replaced_layer_takes_the_old_ones_place_and_a_deleted_one_is_gone():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    old = net[0]
    net[0] = nn.Linear(2, 3, bias=False)
    assert names(net) == ["0.weight", "2.weight", "2.bias"]
    assert net(np.ones((1, 2))).shape == (1, 1)
    assert old.weight.numpy().shape == (3, 2)
    with pytest.raises(ShapeError, match=r"layer 2 .* takes 3 features, but layer 0 .* gives 5"):
        net[0] = nn.Linear(2, 5)
    tower = Tower()
    del tower.floors
    tower.scale = None
    assert names(tower) == ["first.weight", "first.bias"]
    with pytest.raises(AttributeError, match="Tower has no attribute 'floors'"):
        tower.floors  # noqa: B018
    tower.first = 3
    assert names(tower) == []


@pytest.mark.parametrize("value", [[nn.Linear(1, 1)], (nn.ReLU(),), {"a": nn.Linear(1, 1)}])
def test_layers_hidden_in_a_plain_collection_are_refused(value):
    net = Tower()
    with pytest.raises(ArgumentError, match=r"Tower\.hidden is a .* use nn\.ModuleList"):
        net.hidden = value


def test_layers_appended_to_a_plain_list_later_are_refused_too():
    net = Tower()
    net.hidden = []
    net.hidden.append(nn.Linear(2, 2))
    with pytest.raises(ArgumentError, match=r"Tower\.hidden is a list holding a Linear"):
        list(net.parameters())


def test_plain_attributes_are_left_alone():
    net = Tower()
    net.sizes, net.table, net.note = [1, 2], {"a": 1}, "text"
    assert net.sizes == [1, 2] and len(names(net)) == 7


def test_a_module_list_grows_and_its_parts_can_be_replaced():
    layers = nn.ModuleList().append(nn.Linear(1, 2)).append(nn.ReLU())
    layers[1] = nn.Tanh()
    assert [type(m).__name__ for m in layers] == ["Linear", "Tanh"] and len(layers) == 2
    assert isinstance(layers[-1], nn.Tanh)
    with pytest.raises(ArgumentError, match="only holds modules"):
        layers(np.ones(2))
    with pytest.raises(ArgumentError, match=r"call the class, as nn\.ReLU"):
        layers.append(nn.ReLU)


def test_a_forgotten_super_call_is_named():
    class Late(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    class Never(nn.Module):
        def __init__(self):
            pass

    with pytest.raises(ArgumentError, match=r"Late.__init__ must call super\(\).__init__\(\) before setting 'layer'"):
        Late()
    with pytest.raises(ArgumentError, match=r"Never.__init__ must call super\(\).__init__\(\)"):
        Never()(np.ones(1))
    with pytest.raises(NotImplementedError, match=r"Module must define forward\(\)"):
        nn.Module()(1.0)


def test_modes_reach_every_part_and_a_block_in_evaluation_mode_puts_each_back():
    net = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    net.eval()
    assert not any(m.training for m in net.modules())
    net.train()[1].eval()
    with pytest.raises(ZeroDivisionError), net.evaluating():
        assert not net[0].training
        raise ZeroDivisionError
    assert net[0].training and not net[1].training and not net[1][0].training


def test_prediction_in_batches_is_the_whole_prediction():
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Tanh(), nn.Linear(5, 2)).initialise(1)
    x = np.random.default_rng(0).normal(size=(23, 3))
    whole = net.eval()(x).numpy()
    net.train()
    before = net.state_dict()
    for batch_size in (1, 4, 23, 100):
        assert np.allclose(net.predict(x, batch_size=batch_size), whole, rtol=1e-6, atol=1e-6)
    assert net.training and all(np.array_equal(a, before[n]) for n, a in net.state_dict().items())
    assert net.predict(x[:0]).shape == (0, 2) and net.predict(x.tolist()[:2]).shape == (2, 2)
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(ArgumentError, match="batch_size is a whole number of at least 1"):
            net.predict(x, batch_size=wrong)
    with pytest.raises(ShapeError, match="predict\\(\\) needs rows"):
        net.predict(3.0)
    with pytest.raises(ShapeError, match="different lengths"):
        net.predict([[1.0], [1.0, 2.0]])


def test_five_hundred_layers_need_no_recursion():
    flat = nn.Sequential(*(nn.Linear(2, 2) for _ in range(500)))
    deep = nn.Linear(2, 2)
    for _ in range(500):
        deep = nn.Sequential(deep)
    for net in (flat, deep):
        x = np.ones((1, 2))
        twin = copy.deepcopy(net)
        assert np.array_equal(net(x).numpy(), twin(x).numpy())
        net(x).sum().backward()
        assert repr(net) == repr(twin) and net.eval().state_dict().keys() == twin.state_dict().keys()
    assert names(deep)[0] == ".".join("0" * 500) + ".weight"


def test_a_slice_is_a_network_of_the_same_layers_and_leaves_the_whole_as_it_was():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh())
    before = scopes(net)
    tail = net[2:]
    assert isinstance(tail, nn.Sequential) and len(tail) == 2 and tail[0] is net[2] and list(tail) == list(net)[2:]
    assert scopes(net) == before == ["0", "2"] and scopes(tail) == ["0"]
    whole = net.state_dict()
    assert np.array_equal(tail.state_dict()["0.weight"], whole["2.weight"])


def test_a_module_shared_by_two_networks_has_its_name_in_each():
    shared = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    first = nn.Sequential(shared, nn.Linear(4, 4)).initialise(3)
    values = first.state_dict()
    second = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), shared)
    assert np.array_equal(second.state_dict()["2.0.weight"], values["0.0.weight"])
    assert scopes(first) == ["0.0", "1"] and scopes(second) == ["0", "2.0"]
    assert all(np.array_equal(a, values[n]) for n, a in first.state_dict().items())
    streams = {n: p.stream for n, p in first.named_parameters()}
    second.initialise(4)
    assert {n: p.stream for n, p in first.named_parameters()} == streams
    values = second.state_dict()
    del first
    gc.collect()
    assert scopes(second) == ["0", "2.0"]
    assert all(np.array_equal(a, values[n]) for n, a in second.state_dict().items())


def test_a_part_of_a_network_that_is_gone_still_draws_and_runs():
    layer = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))[1]
    gc.collect()
    assert layer.weight.numpy().shape == (4, 4) and layer(np.ones((1, 4))).shape == (1, 4)


def test_a_network_that_calls_a_foreign_one_runs():
    teacher = nn.Sequential(nn.Linear(4, 4))

    class Student(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = nn.Linear(4, 4)

        def forward(self, x):
            return self.own(x) - teacher(x)

    assert scopes(Student()) == ["own", "0"]


def test_a_module_cannot_contain_itself():
    net = nn.Sequential(nn.Sequential(nn.ReLU()))
    with pytest.raises(ArgumentError, match="cannot be a part of itself"):
        net[0].extra = net


def test_a_deep_copy_shares_nothing():
    for net in (Tower(), Tower().initialise(2)):
        net.floors[0].weight.requires_grad = False
        twin = copy.deepcopy(net)
        mine, theirs = dict(net.named_parameters()), dict(twin.named_parameters())
        assert mine.keys() == theirs.keys() and twin.root() is twin and twin.first.parents() == [(twin, "first")]
        for name, parameter in theirs.items():
            assert parameter is not mine[name] and parameter.requires_grad == mine[name].requires_grad
            assert np.array_equal(parameter.numpy(), mine[name].numpy())
            assert not np.shares_memory(parameter.array, mine[name].array)
        twin.load_state_dict({n: a + 1 for n, a in twin.state_dict().items()})
        twin.eval()
        assert net.training and not np.array_equal(net.scale.numpy(), twin.scale.numpy())
    part = copy.deepcopy(net.floors)
    assert part.root() is part and np.array_equal(part[0].weight.numpy(), net.floors[0].weight.numpy())


@pytest.mark.parametrize(
    "between",
    [[], [nn.ReLU()], [nn.Dropout()], [nn.BatchNorm1d(4), nn.PReLU()], [nn.LayerNorm(4)], [nn.Flatten()],
     [nn.Residual(nn.Linear(4, 4))], [nn.Sequential(nn.Identity(), nn.GELU())]],
    ids=repr,
)  # fmt: skip
def test_widths_that_do_not_fit_are_refused_with_both_layers_named(between):
    wrong = nn.Sequential(nn.Linear(6, 2))
    with pytest.raises(ShapeError) as caught:
        nn.Sequential(nn.Linear(3, 4), *between, wrong)
    message = str(caught.value)
    assert f"layer {len(between) + 1}.0 (Linear(in_features=6" in message and "takes 6 features" in message
    assert "gives 4: set in_features=4" in message
    assert "but layer " in message


def test_widths_of_normalisation_and_residual_blocks_are_checked():
    with pytest.raises(ShapeError, match=r"layer 1 \(BatchNorm1d.* takes 5 features.*set num_features=4"):
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(5))
    with pytest.raises(ShapeError, match=r"layer 1 \(LayerNorm.* takes 5 features.*set normalized_shape=4"):
        nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(5))
    with pytest.raises(ShapeError, match=r"take 3 features and give 4.*shortcut=Linear\(3, 4\)"):
        nn.Residual(nn.Linear(3, 4), nn.ReLU())
    with pytest.raises(ShapeError, match=r"layer 1 \(Residual\) takes 3 features"):
        nn.Sequential(nn.Linear(3, 4), nn.Residual(nn.Linear(3, 3)))
    nn.Sequential(nn.Linear(5, 4), nn.Flatten(), nn.Linear(12, 2))(np.ones((7, 3, 5)))


def test_an_input_of_the_wrong_width_names_the_layer_by_its_full_path():
    net = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Residual(nn.Linear(3, 3))))
    with pytest.raises(ShapeError, match=r"^layer '1\.0\.body\.0' \(Linear\(in_features=3.*has 5 features.*takes 3"):
        net(np.ones((2, 5)))
    with pytest.raises(ShapeError, match=r"^layer 'floors\.1' \(Linear"):
        tower = Tower()
        tower.floors[1] = nn.Linear(9, 4)
        tower(np.ones((2, 4)))
    with pytest.raises(ShapeError, match=r"^Linear\(in_features=3"):
        nn.Linear(3, 3)(np.ones((2, 5)))
    with pytest.raises(ShapeError, match=r"^layer '0' \(PReLU.*3 slopes need \[rows, 3"):
        nn.Sequential(nn.PReLU(3))(np.ones((2, 1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(0, 2), "in_features must be a whole number of at least 1, got 0"),
        (lambda: nn.Linear(2, 2.0), "out_features must be a whole number"),
        (lambda: nn.Dropout(1.5), "between 0 and 1, got 1.5"),
        (lambda: nn.ReLU(inplace=True), "ReLU takes no arguments, got inplace=True"),
        (lambda: nn.LeakyReLU(0.1, negative_slope=0.2), "LeakyReLU takes negative_slope=0.01"),
        (lambda: nn.ELU("1"), "ELU: alpha must be a finite number, got '1'"),
        (lambda: nn.ELU(float("nan")), "finite number"),
        (lambda: nn.GELU("exact"), "approximate is 'none' or 'tanh', got 'exact'"),
        (lambda: nn.Softmax(1.5), "dim must be a whole number"),
        (lambda: nn.Sequential(nn.Linear(2, 2), np.tanh), "layer 1 is <ufunc 'tanh'>, not a layer"),
        (lambda: nn.Sequential([nn.ReLU()]), r"unpack it, as Sequential\(\*layers\)"),
        (lambda: nn.Residual(nn.ReLU(), shortcut=3), "is 3, not a layer"),
        (lambda: setattr(Tower(), "a.b", nn.ReLU()), "names of parts have no dots"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


class Twice(nn.Module):
    """One dropout used at two places, as is common."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return stack([self.drop(x), self.drop(x)])


def test_a_dropout_used_twice_drops_differently_and_repeats_with_the_key():
    net, x = Twice(), np.ones((8, 16))
    with holding(key=key(1)):
        a, b = net(x).numpy()
        again = net(x).numpy()
    assert not np.array_equal(a, b) and np.array_equal(again, [a, b])
    with holding(key=key(1, step=1)):
        assert not np.array_equal(net(x).numpy()[0], a)
    assert np.array_equal(net.eval()(x).numpy()[0], x)


def test_dropout_layers_of_one_network_drop_differently_and_keep_the_mean():
    manual_seed(0)
    net = nn.Sequential(nn.Dropout(0.3), nn.Dropout(0.3))
    with holding(key=key(1)):
        masks = [layer(np.ones((200, 300))).numpy() for layer in net]
    assert not np.array_equal(*masks)
    for mask in masks:
        assert set(np.unique(mask)) == {0.0, 1 / 0.7}
        assert abs(mask.mean() - 1) < 0.02
    assert (nn.Dropout(1.0)(np.ones((3, 3))).numpy() == 0).all()


def test_the_context_is_as_before_after_an_error():
    with pytest.raises(ShapeError):
        Tower()(np.ones((1, 9)))
    assert context.call is None and context.scope == ""
