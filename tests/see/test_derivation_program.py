"""The NumPy program of a derivation: run in a fresh process, it has the reference's bits."""

import subprocess
import sys

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.optim.layout import places
from chainrule.training import running
from chainrule.training.options import checked_options
from chainrule.training.step import TrainingStep

RUN = """
import runpy, sys
import numpy as np
for path in sys.argv[1:]:
    program = runpy.run_path(path)
    with np.errstate(all="ignore"):
        found = program["step"](**program["data"]())
    np.savez(path + ".npz", **found)
    assert not [m for m in sys.modules if m.split(".")[0] in ("chainrule", "torch", "jax")], "only NumPy is imported"
"""

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(6, 4)).astype(np.float32)
CLASSES = np.array([0, 2, 1, 2, 0, 1])
IMAGES = RANDOM.normal(size=(3, 2, 6, 6)).astype(np.float32)
SHARES = RANDOM.uniform(0.1, 0.9, size=(6, 3)).astype(np.float32)


def dense(*activation, end=()):
    return nn.Sequential(nn.Linear(4, 5), *(activation or (nn.ReLU(),)), nn.Linear(5, 3), *end)


class Sentences(nn.Module):
    """Embedding, LSTM and attention over tokens."""

    def __init__(self):
        super().__init__()
        self.table, self.lstm, self.last = nn.Embedding(7, 4), nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, tokens):
        states, _ = self.lstm(self.table(tokens))
        read = cr.ops.scaled_dot_product_attention(states, states, states, is_causal=True)
        return self.last(read[:, -1])


class Residual(nn.Module):
    """A shared layer, a skip and a product of two paths: values that are used more than once."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = self.first(x).tanh()
        return self.last(x + self.first(h) * h)


CASES = {
    **{f"loss {name}": (dense, name, X, SHARES) for name in ("mse", "mae", "huber")},
    "loss cross_entropy": (dense, "cross_entropy", X, CLASSES),
    "loss cross_entropy of shares": (dense, "cross_entropy", X, SHARES),
    "loss binary_cross_entropy": (lambda: dense(end=(nn.Sigmoid(),)), "binary_cross_entropy", X, SHARES),
    "loss with logits": (dense, "binary_cross_entropy_with_logits", X, SHARES),
    "loss of one's own": (dense, lambda p, t: cr.mse(p, t) * 0.5 + cr.ops.max(cr.ops.abs(p)), X, SHARES),
    "loss that is a sum": (dense, nn.CrossEntropyLoss(reduction="sum"), X, CLASSES),
    **{
        f"activation {cls.__name__}": (lambda cls=cls: dense(cls()), "cross_entropy", X, CLASSES)
        for cls in (
            nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign, nn.Sigmoid,
            nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Softmax,
        )
    },
    "layer norm and dropout": (lambda: dense(nn.LayerNorm(5), nn.Tanh(), nn.Dropout(0.4)), "mse", X, SHARES),
    "batch norm": (lambda: dense(nn.BatchNorm1d(5), nn.ReLU()), "cross_entropy", X, CLASSES),
    "convolution": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2, stride=2),
                              nn.Flatten(), nn.Linear(3, 3)),
        "cross_entropy", IMAGES, CLASSES[:3],
    ),
    "shared weights": (Residual, "mse", X, SHARES),
    "slopes that learn, pooled by means": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.PReLU(3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 3)),
        "mse", IMAGES, SHARES[:3],
    ),
    "double precision": (lambda: dense(nn.GELU()).to("float64"), "mse", X.astype("d"), SHARES.astype("d")),
    "words in order": (Sentences, "cross_entropy", RANDOM.integers(0, 7, size=(6, 5)), CLASSES),
}  # fmt: skip

OPTIMIZERS = {
    "SGD": optim.SGD(0.1),
    "momentum": optim.SGD(0.1, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "Nesterov": optim.SGD(0.1, momentum=0.9, nesterov=True),
    "climbing": optim.SGD(0.1, maximize=True),
    "Adagrad": optim.Adagrad(0.1, lr_decay=0.1, weight_decay=0.01, initial_accumulator_value=0.1),
    "RMSprop": optim.RMSprop(0.01, momentum=0.5, centered=True, weight_decay=0.01),
    "RMSprop plain": optim.RMSprop(0.01),
    "Adam": optim.Adam(0.01),
    "Adam with amsgrad": optim.Adam(0.01, weight_decay=0.1, amsgrad=True),
    "AdamW": optim.AdamW(0.01),
}


def by_the_reference(make, loss, x, y, optimizer):
    """(loss, parameters after one update, gradients) of the training step on the reference backend."""
    net = make().initialise(0)
    loss = cr.ops.LOSSES[loss] if isinstance(loss, str) else loss
    step = TrainingStep(lambda x, y: loss(net(x), y), net, optimizer, checked_options(None, None, 0, 0), "reference")
    with step.state.training():
        result = step((x, y), optimizer.lr)
    gradients = dict(zip(step.state.names, step.state.views(step.state.gradient), strict=True))
    return result.loss, {n: a.copy() for n, a in net.state_dict().items()}, gradients


def run_in_a_fresh_process(programs, folder):
    paths = []
    for i, text in enumerate(programs):
        path = folder / f"program{i}.py"
        path.write_text(text)
        paths.append(str(path))
    done = subprocess.run([sys.executable, "-c", RUN, *paths], capture_output=True, text=True, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    return [np.load(path + ".npz") for path in paths]


def assert_same_bits(a, b, what):
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype and a.shape == b.shape, what
    assert a.tobytes() == b.tobytes(), f"{what}: {np.abs(a.astype('d') - b.astype('d')).max()}"


def compare(cases, folder):
    derivations, expected = [], []
    for make, loss, x, y, optimizer in cases:
        net = make().initialise(0)
        derivations.append(cr.derivation(net, loss, x, y, optimizer))
        expected.append(by_the_reference(make, loss, x, y, optimizer))
    for d, (loss, weights, gradients), found in zip(
        derivations, expected, run_in_a_fresh_process([d.numpy() for d in derivations], folder), strict=True
    ):
        assert found["L"] == found["L"].dtype.type(loss)
        for name, label in d.names.items():
            if label in gradients:
                assert_same_bits(found[f"d[{name}]"], gradients[label], f"gradient of {label}")
                assert_same_bits(found[f"{name}'"], weights[label], f"{label} after the update")
                assert_same_bits(d.values[f"d[{name}]"], gradients[label], f"value of the line of {label}")
        for name in found.files:
            assert_same_bits(found[name], d.values[name], f"value {name}")


@pytest.fixture(autouse=True)
def the_key_of_gradients(monkeypatch):
    """A training step draws by its own key, a derivation by that of seed 0 and step 0: give both the same."""
    monkeypatch.setattr(running, "key", lambda seed, count=0, first_row=0: cr.ops.key(0))


def test_the_program_of_every_loss_and_layer_has_the_bits_of_the_reference(tmp_path):
    compare([(*case, optim.SGD(0.1)) for case in CASES.values()], tmp_path)


def test_the_program_of_every_optimizer_has_the_bits_of_the_reference(tmp_path):
    make, loss, x, y = CASES["layer norm and dropout"]
    compare([(make, loss, x, y, optimizer) for optimizer in OPTIMIZERS.values()], tmp_path)


def test_a_program_prints_the_loss_when_it_is_run(tmp_path):
    d = cr.derivation(dense().initialise(0), "mse", X, SHARES)
    path = tmp_path / "step.py"
    path.write_text(d.numpy())
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[0] == f"loss {d.values['L'].item():.8g}" or str(d.values["L"]) in done.stdout
    assert done.stderr == ""


def test_numbers_of_a_program_survive_whatever_they_are(tmp_path):
    net = nn.Sequential(nn.Linear(2, 2)).initialise(0)
    x = np.array([[1e-38, -0.0], [3.4e38, 0.1]], np.float32)
    d = cr.derivation(net, "mse", x, x)
    (found,) = run_in_a_fresh_process([d.numpy()], tmp_path)
    assert_same_bits(found["d[W1]"], d.values["d[W1]"], "gradient")


def test_places_are_multiples_of_sixteen_and_do_not_overlap():
    assert places([5, 16, 17]) == ((0, 16, 32), 64)
