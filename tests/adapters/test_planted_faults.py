"""Twelve PyTorch programs, each with its planted fault as the top finding; healthy trainings get none."""

import functools
import itertools

import numpy as np
import pytest

from chainrule import data
from chainrule.adapters import diagnose, watch
from chainrule.errors import ArgumentError
from peers import peer

torch = peer("torch")
nn, F = torch.nn, torch.nn.functional


@functools.cache
def digits():
    (x, y), _ = data.load("digits")
    return torch.tensor(np.asarray(x, np.float32)), torch.tensor(np.asarray(y, np.int64))


@functools.cache
def circles():
    random = np.random.default_rng(0)
    x = random.normal(size=(600, 2)).astype(np.float32)
    return torch.tensor(x), torch.tensor((np.linalg.norm(x, axis=1) > 1.18).astype(np.float32))[:, None]


@functools.cache
def line():
    random = np.random.default_rng(1)
    x = random.normal(size=(600, 10)).astype(np.float32)
    y = x @ random.normal(size=(10, 1)).astype(np.float32) + 0.1 * random.normal(size=(600, 1)).astype(np.float32)
    return torch.tensor(x), torch.tensor(y)


def body(width=64, depth=1, act=nn.ReLU, inputs=64, outputs=10, last=()):
    sizes = [inputs, *[width] * depth]
    inner = [m for i, o in itertools.pairwise(sizes) for m in (nn.Linear(i, o), act())]
    return nn.Sequential(*inner, nn.Linear(width, outputs), *last)


def fit(model, rows, loss, optimizer, steps=300, batch=64, each=None):
    """The usual loop, watched; the report at its end. each(model, x, y, optimizer): in place of the loop's body."""
    torch.manual_seed(1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*rows), batch, shuffle=True)
    with watch(model, optimizer, loss=loss) as seen:
        done = 0
        while done < steps:
            for x, y in loader:
                if each is not None:
                    each(model, x, y, optimizer)
                else:
                    optimizer.zero_grad()
                    loss(model(x), y).backward()
                    optimizer.step()
                done += 1
                if done == steps:
                    break
    assert seen.observer.faults == {}
    return seen.examine()


def adam(model, lr=1e-3):
    return torch.optim.Adam(model.parameters(), lr=lr)


def sgd(model, lr=0.1, momentum=0.0):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def vanishing():
    model = body(width=32, depth=6, act=nn.Sigmoid)
    return fit(model, digits(), nn.CrossEntropyLoss(), sgd(model))


def exploding():
    model = body(width=64, depth=8)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(10)
    return fit(model, digits(), nn.CrossEntropyLoss(), sgd(model, 1e-6), steps=150)


def dead_relu():
    model = body(width=64, depth=2)
    with torch.no_grad():
        model[2].bias.fill_(-50)
    return fit(model, digits(), nn.CrossEntropyLoss(), adam(model))


def unscaled_inputs():
    x, y = line()
    model = body(inputs=10, outputs=1, act=nn.Tanh)
    return fit(model, (1000 * x + 5000, y), nn.MSELoss(), adam(model))


def softmax_twice():
    model = body(last=[nn.Softmax(1)])
    return fit(model, digits(), nn.CrossEntropyLoss(), sgd(model))


def bce_on_logits():
    model = body(inputs=2, outputs=1)

    def clamped(p, y):
        return F.binary_cross_entropy(p.clamp(0, 1), y)

    return fit(model, circles(), clamped, adam(model, 1e-2))


def lr_too_high():
    model = body(depth=2)
    return fit(model, digits(), nn.CrossEntropyLoss(), sgd(model, 5.0))


def lr_too_low():
    model = body()
    return fit(model, digits(), nn.CrossEntropyLoss(), sgd(model, 1e-6))


def never_zeroed():
    model = body()

    def each(model, x, y, optimizer):
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return fit(model, digits(), None, sgd(model), each=each)


def not_in_optimizer():
    model = body(depth=2)
    return fit(model, digits(), nn.CrossEntropyLoss(), torch.optim.Adam(model[4].parameters()))


def evaluation_mode():
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10)).eval()
    return fit(model, digits(), nn.CrossEntropyLoss(), sgd(model, 0.01), steps=100)


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.features, self.head = body(outputs=32), nn.Linear(32, 10)

    def forward(self, x):
        return self.head(F.relu(self.features(x)).detach())


def detach():
    model = Detached()
    return fit(model, digits(), nn.CrossEntropyLoss(), adam(model))


PLANTED = {
    vanishing: {"CR203"},
    exploding: {"CR207", "CR204"},
    dead_relu: {"CR202"},
    unscaled_inputs: {"CR101"},
    softmax_twice: {"CR404"},
    bce_on_logits: {"CR406"},
    lr_too_high: {"CR301"},
    lr_too_low: {"CR302"},
    never_zeroed: {"CR604"},
    not_in_optimizer: {"CR603"},
    evaluation_mode: {"CR606"},
    detach: {"CR602"},
}


@pytest.mark.parametrize("program", PLANTED, ids=lambda program: program.__name__)
def test_the_top_finding_names_the_planted_fault(program):
    torch.manual_seed(0)
    report = program()
    assert report.flags, str(report)
    assert report.flags[0].code in PLANTED[program], str(report)


def images():
    model = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip
    return fit(model, digits(), nn.CrossEntropyLoss(), adam(model))


class Reader(nn.Module):
    """An LSTM that reads the rows of a digit."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 48, batch_first=True), nn.Linear(48, 10)

    def forward(self, x):
        return self.head(self.lstm(x.view(-1, 8, 8))[0][:, -1])


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 10)
        self.inner = nn.ModuleList(nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 64), nn.GELU()) for _ in range(4))

    def forward(self, x):
        x = self.first(x)
        for block in self.inner:
            x = x + block(x)
        return self.last(x)


def dense():
    model = body()
    return fit(model, digits(), nn.CrossEntropyLoss(), adam(model))


def deep_dense_with_momentum():
    model = body(width=64, depth=3)
    return fit(model, digits(), nn.CrossEntropyLoss(), sgd(model, 0.05, 0.9))


def recurrent():
    model = Reader()
    return fit(model, digits(), nn.CrossEntropyLoss(), adam(model, 3e-3))


def residual_with_schedule():
    model = Residual()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=300)

    def each(model, x, y, optimizer):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()

    return fit(model, digits(), None, optimizer, each=each)


def regression():
    model = body(inputs=10, outputs=1, act=nn.Tanh)
    return fit(model, line(), nn.MSELoss(), adam(model, 1e-2))


def binary():
    model = body(inputs=2, outputs=1)
    return fit(model, circles(), nn.BCEWithLogitsLoss(), adam(model, 1e-2))


def accumulating_with_dropout():
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10))

    def each(model, x, y, optimizer):
        optimizer.zero_grad()
        for part in (slice(0, 32), slice(32, None)):
            if len(x[part]):
                (F.cross_entropy(model(x[part]), y[part]) / 2).backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            model(x)
        model.train()

    return fit(model, digits(), None, adam(model), each=each)


HEALTHY = [dense, deep_dense_with_momentum, images, recurrent, residual_with_schedule, regression, binary,
           accumulating_with_dropout]  # fmt: skip


def test_inputs_scaled_twice_are_found_while_training_and_before():
    x, y = digits()
    model = body()
    report = fit(model, (x / 255, y), nn.CrossEntropyLoss(), adam(model), steps=60)
    assert report.flags[0].code == "CR103", str(report)
    assert diagnose(model, (x[:256] / 255, y[:256]), loss=nn.CrossEntropyLoss()).flags[0].code == "CR103"


def test_batch_normalisation_over_two_rows_is_found_while_training_and_before():
    model = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    report = fit(model, digits(), nn.CrossEntropyLoss(), adam(model), steps=60, batch=2)
    assert report.flags[0].code == "CR311", str(report)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*digits()), 2, shuffle=True)
    assert diagnose(model, loader, loss=nn.CrossEntropyLoss()).flags[0].code == "CR311"


def test_a_model_without_parameters_is_refused_by_name():
    with pytest.raises(ArgumentError, match="ReLU has no parameters"):
        diagnose(nn.ReLU(), digits(), loss=nn.CrossEntropyLoss())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("program", HEALTHY, ids=lambda program: program.__name__)
def test_a_healthy_training_gets_no_finding(program, seed):
    torch.manual_seed(seed)
    report = program()
    assert report.ok, str(report)
