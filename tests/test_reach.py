"""Images, sequences and attention: against PyTorch, and one small network each that learns as machine code."""

import functools
import itertools

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops, optim
from chainrule.data import catalogue
from chainrule.errors import ArgumentError, ShapeError
from peers import peer

RANDOM = np.random.default_rng(11)


def agrees_with_torch(ours, theirs, *arrays):
    """The value, and the gradients at a random cotangent by the reference and by machine code."""
    torch = peer("torch")
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = theirs(*tensors)
    dy = RANDOM.normal(size=tuple(y.shape))
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(ours(*arrays).numpy(), y.detach().numpy(), rtol=1e-12, atol=1e-12)
    for backend in ("reference", "native"):
        gradient = cr.grad(lambda *xs: ops.sum(ours(*xs) * dy), tuple(range(len(arrays))))
        for g, t in zip(cr.compile(gradient, backend=backend)(*arrays), tensors, strict=True):
            np.testing.assert_allclose(g.numpy(), t.grad.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"stride": 2, "padding": 1}, {"stride": (2, 1), "padding": (1, 2), "dilation": 2}, {"padding": "same"},
        {"padding": "valid", "dilation": (1, 2), "groups": 2}, {"stride": 3, "groups": 2}, {"stride": 2, "dilation": 2},
    ],
    ids=str,
)  # fmt: skip
def test_a_convolution_is_pytorchs(options):
    torch = peer("torch")
    arrays = [RANDOM.normal(size=s) for s in ((2, 4, 7, 6), (6, 4 // options.get("groups", 1), 3, 3), (6,))]
    for given in (arrays, arrays[:2]):
        agrees_with_torch(
            functools.partial(ops.conv2d, **options), functools.partial(torch.nn.functional.conv2d, **options), *given
        )


@pytest.mark.parametrize("kind", ["max_pool2d", "avg_pool2d"])
def test_pooling_is_pytorchs_and_the_first_of_equal_elements_gets_the_error(kind):
    functional = peer("torch").nn.functional
    for size, stride, padding in itertools.product((2, (3, 2)), (None, 1), (0, 1)):
        options = {"kernel_size": size, "stride": stride, "padding": padding}
        x = np.round(RANDOM.normal(size=(2, 3, 7, 6)))  # whole numbers, of which many are equal
        agrees_with_torch(
            functools.partial(getattr(ops, kind), **options), functools.partial(getattr(functional, kind), **options), x
        )


@pytest.mark.parametrize("masking", ["none", "causal", "bool", "float"])
def test_attention_is_pytorchs(masking):
    torch = peer("torch")
    shapes = ((2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 3))
    arrays = [RANDOM.normal(size=s) for s in shapes]
    mask = {"bool": RANDOM.integers(2, size=(5, 6)) > 0, "float": RANDOM.normal(size=(3, 5, 6))}.get(masking)
    if masking == "bool":
        mask[1] = False  # a query that may read nothing
    ours = {"attn_mask": mask, "is_causal": masking == "causal"}
    theirs = {**ours, "attn_mask": None if mask is None else torch.tensor(mask)}
    agrees_with_torch(
        functools.partial(ops.scaled_dot_product_attention, **ours),
        functools.partial(torch.nn.functional.scaled_dot_product_attention, **theirs),
        *arrays,
    )


@pytest.mark.parametrize("batch_first", [False, True])
def test_an_lstm_has_pytorchs_names_values_and_gradients(batch_first):
    torch = peer("torch")
    theirs = torch.nn.LSTM(3, 5, batch_first=batch_first).double()
    ours = nn.LSTM(3, 5, batch_first=batch_first).to("float64")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    x, first = RANDOM.normal(size=(4, 2, 3)), RANDOM.normal(size=(2, 1, 4 if batch_first else 2, 5))
    y, (h, c) = theirs(torch.tensor(x), tuple(torch.tensor(first)))
    (y * y).sum().add((h * c).sum()).backward()
    found, (last_h, last_c) = ours(x, (ops.as_tensor(first[0]), ops.as_tensor(first[1])))
    for a, b in ((found, y), (last_h, h), (last_c, c)):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-12, atol=1e-14)
    (ops.sum(found * found) + ops.sum(last_h * last_c)).backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12, atol=1e-12, err_msg=name)


def test_an_lstm_cell_is_pytorchs():
    torch = peer("torch")
    theirs = torch.nn.LSTMCell(3, 5).double()
    x, h, c = (RANDOM.normal(size=s) for s in ((2, 3), (2, 5), (2, 5)))
    weights = [p.detach().numpy() for p in (theirs.weight_ih, theirs.weight_hh, theirs.bias_ih, theirs.bias_hh)]
    wanted = theirs(torch.tensor(x), (torch.tensor(h), torch.tensor(c)))
    for a, b in zip(ops.lstm_cell(x, h, c, *weights), wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-13)


def test_image_layers_have_pytorchs_names_and_shapes_and_come_back_from_their_description():
    torch = peer("torch")

    def made(library):
        return library.Sequential(
            library.Conv2d(4, 8, (3, 2), stride=2, padding=1, dilation=1, groups=2), library.ReLU(),
            library.MaxPool2d(2, stride=1), library.Conv2d(8, 6, 3, padding="same", bias=False),
            library.AvgPool2d(2, padding=1), library.Flatten(), library.Linear(6 * 3 * 3, 5),
        )  # fmt: skip

    ours, theirs = made(nn).to("float64"), made(torch.nn).double()
    assert {n: a.shape for n, a in ours.state_dict().items()} == {n: a.shape for n, a in theirs.state_dict().items()}
    again = nn.sequential_of(nn.description_of(ours)).to("float64")
    again.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    x = RANDOM.normal(size=(3, 4, 9, 8))
    np.testing.assert_allclose(again.predict(x), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-12, atol=1e-13)
    assert again._title() == ours._title() and repr(again) == repr(ours)


def test_first_weights_of_a_convolution_count_its_kernel():
    layer = nn.Sequential(nn.Conv2d(8, 200, 5, groups=2, init=nn.Kaiming(distribution="normal")), nn.ReLU())[0]
    assert layer.weight.numpy().std() == pytest.approx(np.sqrt(2 / (4 * 25)), rel=0.05)
    followed = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.ReLU())
    assert "ReLU follows" in repr(followed)
    bound = 1 / np.sqrt(4 * 25)
    torchs = nn.Conv2d(8, 200, 5, groups=2, init="torch")
    for values in (torchs.weight.numpy(), torchs.bias.numpy()):
        assert 0.9 * bound < np.abs(values).max() <= bound * 1.0001


def test_what_does_not_fit_is_refused_with_what_to_do():
    image = np.zeros((2, 3, 8, 8))
    with pytest.raises(ShapeError, match=r"3 channels.*takes 4.*set in_channels"):
        nn.Conv2d(4, 2, 3)(image)
    with pytest.raises(ShapeError, match=r"four axes.*reshape grey images"):
        nn.Conv2d(1, 2, 3)(np.zeros((8, 8)))
    with pytest.raises(ShapeError, match=r"kernel of \[9, 9\].*does not fit into images of \[8, 8\].*pad more"):
        nn.Conv2d(3, 2, 9)(image)
    with pytest.raises(ArgumentError, match="'same' keeps the size only with stride 1"):
        nn.Conv2d(3, 2, 3, stride=2, padding="same")
    with pytest.raises(ArgumentError, match="do not divide into 2 groups"):
        nn.Conv2d(3, 2, 3, groups=2)
    with pytest.raises(ArgumentError, match="more than half of the window"):
        nn.MaxPool2d(2, padding=2)
    with pytest.raises(ArgumentError, match="padding is a number, a pair, 'same' or 'valid'"):
        nn.Conv2d(3, 2, 3, padding="full")
    with pytest.raises(ShapeError, match=r"takes 5 channels.*gives 4: set in_channels=4"):
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 3))
    with pytest.raises(ShapeError, match=r"takes 10 features.*gives 4"):
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(10, 2))
    nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(6, 2))  # over columns: no channel count to compare with
    with pytest.raises(ShapeError, match=r"LSTM: expected \[time, rows, 3\].*set input_size"):
        nn.LSTM(3, 4)(np.zeros((2, 5, 6)))
    with pytest.raises(ArgumentError, match="attn_mask or is_causal=True, not both"):
        ops.scaled_dot_product_attention(image, image, image, np.ones((8, 8), bool), is_causal=True)


# ------------------------------------------------------------------------------------------------ what learns


def learns(make, loss_of, batches, steps, rate):
    """Losses of the first and last steps by machine code; the reference must agree along the first ones."""
    net, other = make().initialise(0), make().initialise(0)
    native = cr.step(net, optim.Adam(rate))(functools.partial(loss_of, net))
    reference = cr.step(other, optim.Adam(rate), backend="reference")(functools.partial(loss_of, other))
    losses = [native(*batches[k % len(batches)]) for k in range(steps)]
    for k in range(3):
        assert reference(*batches[k % len(batches)]) == pytest.approx(losses[k], rel=1e-4)
    return losses


def test_a_small_convolutional_network_learns_digits():
    pixels, digit = (column.values for column in catalogue.builtin("digits").columns)
    images, labels = (pixels[:512] / 16).astype(np.float32).reshape(-1, 1, 8, 8), digit[:512].astype(np.int64)
    batches = [(images[i : i + 64], labels[i : i + 64]) for i in range(0, 512, 64)]

    def make():
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(16, 10),
        )  # fmt: skip

    losses = learns(make, lambda net, x, y: cr.cross_entropy(net(x), y), batches, 200, 0.01)
    assert losses[0] > 2 and np.mean(losses[-8:]) < 0.15


class Memory(nn.Module):
    """Reads symbols and names the first."""

    def __init__(self):
        super().__init__()
        self.embedding, self.lstm, self.out = nn.Embedding(6, 8), nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 6)

    def forward(self, x):
        _, (h, _) = self.lstm(self.embedding(x))
        return self.out(h[0])


def test_an_lstm_learns_to_remember_the_first_symbol():
    symbols = np.random.default_rng(0).integers(0, 6, (8, 32, 8))
    batches = [(x, x[:, 0].copy()) for x in symbols]
    losses = learns(Memory, lambda net, x, y: cr.cross_entropy(net(x), y), batches, 200, 0.02)
    assert losses[0] > 1.5 and np.mean(losses[-8:]) < 0.05


class CausalBlock(nn.Module):
    """One block of causal self-attention with two heads, between an embedding and the next symbol's scores."""

    def __init__(self, symbols, places, width, heads=2):
        super().__init__()
        self.heads = heads
        self.symbols, self.places = nn.Embedding(symbols, width), nn.Embedding(places, width)
        self.norm, self.mix, self.join = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.out = nn.Linear(width, symbols)

    def forward(self, x):
        rows, time = x.shape
        h = self.symbols(x) + self.places(np.arange(time))
        width = h.shape[2]
        parts = self.mix(self.norm(h)).reshape(rows, time, 3, self.heads, width // self.heads)
        q, k, v = (parts[:, :, i].permute_dims((0, 2, 1, 3)) for i in range(3))
        y = ops.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.join(y.permute_dims((0, 2, 1, 3)).reshape(rows, time, width))
        return self.out(h)


def test_causal_attention_learns_to_go_on_with_a_pattern_and_never_reads_the_future():
    patterns = np.random.default_rng(1).integers(0, 5, (4, 16, 3))
    sequences = np.tile(patterns, (1, 1, 4))
    batches = [(s[:, :-1].copy(), s[:, 1:].copy()) for s in sequences]

    def loss_of(net, x, y):
        scores = net(x)
        return cr.cross_entropy(scores[:, 3:].reshape(-1, 5), y[:, 3:].reshape(-1))

    losses = learns(lambda: CausalBlock(5, 11, 16), loss_of, batches, 250, 0.02)
    assert losses[0] > 1.2 and np.mean(losses[-4:]) < 0.1
    net = CausalBlock(5, 11, 16)
    x = batches[0][0]
    changed = x.copy()
    changed[:, 6:] = (changed[:, 6:] + 1) % 5
    before, after = net.predict(x), net.predict(changed)
    assert before[:, :6].tobytes() == after[:, :6].tobytes() and not np.array_equal(before[:, 6:], after[:, 6:])
