"""Random networks against PyTorch in float64: outputs, losses, and gradients of every parameter and of the input."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.graph import Graph, context, evaluate, holding, ones_cotangent, tensor, trace, vjp
from chainrule.ops import dropout_mask, key
from chainrule.spec import TensorSpec
from peers import peer

torch = peer("torch")

# Relative to the largest entry of each gradient (design, section 9).
TOLERANCE = 1e-12
PLAIN = ["Sigmoid", "Tanh", "ReLU", "LeakyReLU", "ELU", "SELU", "GELU", "SiLU", "Mish", "Softplus", "Softsign",
         "Hardtanh", "Hardsigmoid", "Hardswish", "Softmax", "LogSoftmax"]  # fmt: skip


class TorchResidual(torch.nn.Module):
    """What nn.Residual does, under the same names."""

    def __init__(self, body, shortcut):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


class ExactHardsigmoid(torch.nn.Module):
    """torch.nn.Hardsigmoid computes the derivative 1/6 in float32 even for float64 (2e-8 off in torch 2.13)."""

    def forward(self, x):
        return torch.clamp(x + 3, 0, 6) / 6


def activation_pair(random, width):
    name = str(random.choice([*PLAIN, "PReLU"]))
    if name == "PReLU":
        slopes = int(random.choice([1, width]))
        return nn.PReLU(slopes, 0.1), torch.nn.PReLU(slopes, 0.1)
    if name == "Hardsigmoid":
        return nn.Hardsigmoid(), ExactHardsigmoid()
    options = {
        "LeakyReLU": {"negative_slope": 0.2}, "ELU": {"alpha": 0.7}, "Softplus": {"beta": 1.5},
        "GELU": {"approximate": str(random.choice(["none", "tanh"]))}, "Hardtanh": {"min_val": -0.5, "max_val": 0.8},
        "Softmax": {"dim": -1}, "LogSoftmax": {"dim": -1},
    }.get(name, {})  # fmt: skip
    # Above its threshold torch's Softplus leaves out e^-20, which is 2e-9: more than the tolerance here.
    beside = {"threshold": 1e9} if name == "Softplus" else {}
    return getattr(nn, name)(**options), getattr(torch.nn, name)(**options, **beside)


def layer_pairs(random, width):
    """One random layer or block, as pairs (ours, theirs), and the width that comes out."""
    kind = random.choice(["linear", "activation", "batch", "layer", "residual", "dropout", "flatten", "nested"])
    after = int(random.integers(1, 41))
    if kind == "linear":
        bias = bool(random.integers(2))
        return [(nn.Linear(width, after, bias), torch.nn.Linear(width, after, bias))], after
    if kind == "activation":
        return [activation_pair(random, width)], width
    if kind == "batch":
        affine, tracked = bool(random.integers(2)), bool(random.integers(2))
        momentum = (0.1, 0.3, None)[random.integers(3)]
        arguments = {"eps": 1e-3, "momentum": momentum, "affine": affine, "track_running_stats": tracked}
        return [(nn.BatchNorm1d(width, **arguments), torch.nn.BatchNorm1d(width, **arguments))], width
    if kind == "layer":
        arguments = {"eps": 1e-3, "elementwise_affine": bool(random.integers(2)), "bias": bool(random.integers(2))}
        return [(nn.LayerNorm(width, **arguments), torch.nn.LayerNorm(width, **arguments))], width
    if kind == "dropout":
        return [(nn.Dropout(0.0), torch.nn.Dropout(0.0))], width
    if kind == "flatten":
        return [(nn.Flatten(), torch.nn.Flatten())], width
    if kind == "nested":
        ours, theirs = activation_pair(random, after)
        return [(nn.Sequential(nn.Linear(width, after), ours),
                 torch.nn.Sequential(torch.nn.Linear(width, after), theirs))], after  # fmt: skip
    plain = bool(random.integers(2))
    after = width if plain else after
    ours = [nn.Linear(width, after), nn.Tanh()]
    theirs = torch.nn.Sequential(torch.nn.Linear(width, after), torch.nn.Tanh())
    if plain:
        return [(nn.Residual(*ours), TorchResidual(theirs, torch.nn.Identity()))], after
    shortcut = nn.Linear(width, after, bias=False)
    return [(nn.Residual(*ours, shortcut=shortcut),
             TorchResidual(theirs, torch.nn.Linear(width, after, bias=False)))], after  # fmt: skip


def random_pair(random):
    """The same random network twice, in float64 with the same weights, statistics and mode; and its two widths."""
    width = before = int(random.integers(1, 41))
    pairs = []
    for _ in range(int(random.integers(1, 7))):
        more, width = layer_pairs(random, width)
        pairs += more
    last = int(random.integers(1, 12))
    pairs.append((nn.Linear(width, last), torch.nn.Linear(width, last)))
    ours = nn.Sequential(*(a for a, _ in pairs)).to("float64")
    theirs = torch.nn.Sequential(*(b for _, b in pairs)).double()
    values = {
        name: array if array.dtype.kind == "i"
        else random.uniform(0.3, 2, array.shape) if name.endswith("running_var")
        else random.normal(0, 1 / np.sqrt(array.shape[-1] if array.ndim > 1 else 2), array.shape)
        for name, array in ours.state_dict().items()
    }  # fmt: skip
    ours.load_state_dict(values)
    theirs.load_state_dict({name: torch.tensor(array) for name, array in values.items()})
    training = bool(random.integers(2))
    return ours.train(training), theirs.train(training), before, last


def random_loss(random, rows, outputs):
    """(our loss, their loss, target, whether the output must be a probability)."""
    reduction = str(random.choice(["mean", "sum"]))
    kind = random.choice(["mse", "mae", "huber", "indices", "probabilities", "bce", "logits"])
    per_class = random.uniform(0.5, 2, outputs)
    if kind in ("mse", "mae"):
        name = {"mse": "MSELoss", "mae": "L1Loss"}[kind]
        return getattr(nn, name)(reduction), getattr(torch.nn, name)(reduction=reduction), "real"
    if kind == "huber":
        options = {"reduction": reduction, "delta": float(random.uniform(0.3, 2))}
        return nn.HuberLoss(**options), torch.nn.HuberLoss(**options), "real"
    if kind in ("indices", "probabilities"):
        options = {"reduction": reduction, "label_smoothing": float(random.choice([0, 0.1]))}
        if kind == "indices" and random.integers(2):
            options["ignore_index"] = 0 if outputs > 1 else -1
        weight = per_class if random.integers(2) else None
        theirs = torch.nn.CrossEntropyLoss(as_torch(weight), **options)
        return nn.CrossEntropyLoss(weight, **options), theirs, kind
    weight = random.uniform(0.5, 2, (rows, outputs)) if random.integers(2) else None
    if kind == "bce":
        return nn.BCELoss(weight, reduction), torch.nn.BCELoss(as_torch(weight), reduction=reduction), "bce"
    positive = per_class if random.integers(2) else None
    theirs = torch.nn.BCEWithLogitsLoss(as_torch(weight), reduction=reduction, pos_weight=as_torch(positive))
    return nn.BCEWithLogitsLoss(weight, reduction, positive), theirs, "logits"


def as_torch(array):
    return None if array is None else torch.tensor(array)


def random_target(random, kind, rows, outputs):
    if kind == "indices":
        labels = random.integers(0, outputs, rows)
        labels[0] = outputs - 1  # not all are ignored: the mean over none is NaN
        return labels
    if kind == "probabilities":
        return random.dirichlet(np.ones(outputs), rows)
    return random.normal(size=(rows, outputs)) if kind == "real" else random.uniform(0, 1, (rows, outputs))


def assert_near(ours, theirs, what):
    largest = max(float(np.abs(theirs).max(initial=0)), 1e-300)
    worst = float(np.abs(ours - theirs).max(initial=0)) / largest
    assert ours.shape == theirs.shape and worst <= TOLERANCE, f"{what}: {worst:.2e} of the largest entry {largest:.2e}"


@pytest.mark.parametrize("block", range(10))
def test_forward_loss_and_gradients_of_random_networks_equal_those_of_torch(block):
    for seed in range(20 * block, 20 * block + 20):
        random = np.random.default_rng([0x7E, seed])
        net, peer_net, inputs, outputs = random_pair(random)
        rows = int(random.integers(2, 34))
        loss, peer_loss, kind = random_loss(random, rows, outputs)
        target = random_target(random, kind, rows, outputs)
        x_array = random.normal(size=(rows, inputs))

        def objective(x, net=net, loss=loss, target=target, kind=kind):
            y = net(x)
            return loss(y.sigmoid() if kind == "bce" else y, target), y

        before = net.state_dict()
        x = tensor(x_array, requires_grad=True)
        value, y = objective(x)
        value.backward()

        peer_x = torch.tensor(x_array, requires_grad=True)
        peer_y = peer_net(peer_x)
        peer_value = peer_loss(peer_y.sigmoid() if kind == "bce" else peer_y, torch.tensor(target))
        peer_value.backward()

        label = f"network {seed} {net} {loss}"
        assert_near(y.numpy(), peer_y.detach().numpy(), f"output of {label}")
        assert_near(value.numpy(), peer_value.detach().numpy(), f"loss of {label}")
        # An input shift that the network removes has a gradient of rounding errors only: compare on its own scale.
        scale = max(float(p.grad.abs().max()) for p in [peer_x, *peer_net.parameters()] if p.grad is not None)
        parts = [("x", x, peer_x), *((n, p, peer_net.get_parameter(n)) for n, p in net.named_parameters())]
        for name, ours, theirs in parts:
            expected, found = theirs.grad.numpy(), ours.grad.numpy()
            if np.abs(expected).max(initial=0) < 1e-9 * scale:
                assert np.abs(found - expected).max(initial=0) <= TOLERANCE * scale, f"{name} of {label}"
            else:
                assert_near(found, expected, f"gradient by {name} of {label}")
        for name, array in net.state_dict().items():
            assert_near(array, peer_net.state_dict()[name].numpy(), f"state {name} of {label}")

        eager = {name: ours.grad.numpy() for name, ours, _ in parts}
        net.load_state_dict(before)
        for name, array in traced_gradients(net, lambda x, o=objective: o(x)[0], x_array).items():
            assert np.array_equal(array, eager[name]), f"traced gradient by {name} of {label}"


def traced_gradients(net, objective, x_array):
    """Gradients by the traced way: the backward pass written as a graph, then evaluated."""
    traced = trace(objective, TensorSpec(x_array.shape, np.dtype("float64")))
    value, inputs = traced.graph.outputs[0], traced.graph.inputs
    names = {id(p): name for name, p in net.named_parameters()}
    wanted = [("x", inputs[0])] + [
        (names[id(p)], stands) for p, stands in zip(traced.captured, inputs[1:], strict=True) if id(p) in names
    ]
    pulled = vjp([value], [ones_cotangent(value)], [stands for _, stands in wanted])
    arrays = evaluate(Graph(inputs, tuple(pulled)), x_array, *(state.array for state in traced.captured))
    found = dict(zip((name for name, _ in wanted), arrays, strict=True))
    assert found.keys() == {"x", *names.values()}
    return found


def test_dropout_with_the_same_mask_has_the_gradients_of_torch():
    random = np.random.default_rng(3)
    net = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Dropout(0.4), nn.Linear(20, 3)).to("float64").initialise(1)
    first, second = torch.nn.Linear(6, 20).double(), torch.nn.Linear(20, 3).double()
    for layer, i in ((first, "0"), (second, "3")):
        layer.load_state_dict({n: torch.tensor(net.state_dict()[f"{i}.{n}"]) for n in ("weight", "bias")})
    x, step = random.normal(size=(9, 6)), key(5, step=2)
    with holding(key=step):
        mask = dropout_mask(tensor(np.ones((9, 20))), 0.4, step, net[2].next_stream()).numpy()
        (net(x) ** 2).sum().backward()
    assert 0 < (mask == 0).sum() < mask.size
    (second(torch.tanh(first(torch.tensor(x))) * torch.tensor(mask)) ** 2).sum().backward()
    for name, theirs in (("0.weight", first.weight), ("0.bias", first.bias), ("3.weight", second.weight)):
        assert_near(dict(net.named_parameters())[name].grad.numpy(), theirs.grad.numpy(), name)


def test_gradients_of_a_three_axis_batch_equal_those_of_torch():
    random = np.random.default_rng(4)
    ours = nn.Sequential(nn.Linear(5, 4), nn.PReLU(3), nn.LayerNorm((3, 4)), nn.Flatten(), nn.Linear(12, 2))
    theirs = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.PReLU(3), torch.nn.LayerNorm((3, 4)),
                                 torch.nn.Flatten(), torch.nn.Linear(12, 2)).double()  # fmt: skip
    ours.to("float64").load_state_dict(theirs.state_dict())
    x = random.normal(size=(7, 3, 5))
    (ours(x) ** 2).mean().backward()
    (theirs(torch.tensor(x)) ** 2).mean().backward()
    for name, parameter in ours.named_parameters():
        assert_near(parameter.grad.numpy(), theirs.get_parameter(name).grad.numpy(), name)


def test_nothing_of_a_forward_pass_stays_behind():
    net = nn.Sequential(nn.Linear(2, 2))
    net(np.ones((1, 2)))
    with pytest.raises(ValueError, match="layer '0'"):
        net(np.ones((1, 3)))
    assert context.call is None and context.scope == ""


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"eps": 1e-2, "momentum": None}, {"track_running_stats": False}], ids=str)
def test_normalised_images_have_torchs_gradients_and_those_of_differences(options, training):
    random = np.random.default_rng(5)
    ours = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, **options), nn.Tanh(), nn.Conv2d(4, 3, 2),
                         nn.BatchNorm2d(3, affine=False, **options), nn.Flatten(), nn.Linear(18, 2))  # fmt: skip
    theirs = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4, **options), torch.nn.Tanh(),
                                 torch.nn.Conv2d(4, 3, 2), torch.nn.BatchNorm2d(3, affine=False, **options),
                                 torch.nn.Flatten(), torch.nn.Linear(18, 2)).double()  # fmt: skip
    ours.to("float64").load_state_dict({n: t.numpy() for n, t in theirs.state_dict().items()})
    x, target = random.normal(1, 2, (6, 2, 6, 5)), random.normal(size=(6, 2))
    ours(x), theirs(torch.tensor(x))  # statistics that are not those of the beginning
    ours.train(training), theirs.train(training)
    settled = ours.state_dict()

    def loss(x):
        ours.load_state_dict(settled)
        return cr.mse(ours(x), target)

    given = tensor(x, requires_grad=True)
    loss(given).backward()
    wanted = torch.tensor(x, requires_grad=True)
    torch.nn.functional.mse_loss(theirs(wanted), torch.tensor(target)).backward()
    pairs = [(given.grad.numpy(), wanted.grad.numpy())]
    pairs += [(p.grad.numpy(), q.grad.numpy()) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)]
    assert len(pairs) == 9
    for found, right in pairs:
        assert np.abs(found - right).max() <= TOLERANCE * max(np.abs(right).max(), 1e-3)
    for place in [(0, 0, 0, 0), (3, 1, 2, 4), (5, 0, 5, 1)]:
        step = np.zeros_like(x)
        step[place] = 1e-5
        difference = (loss(x + step).item() - loss(x - step).item()) / 2e-5
        assert abs(given.grad.numpy()[place] - difference) <= 1e-8
