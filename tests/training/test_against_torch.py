"""What fit does, step by step, is what PyTorch's loop does, in float64."""

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from peers import peer

torch = peer("torch")

GENERATOR = np.random.default_rng(4)
# Numbers that float32 holds, as targets pass through it.
X = GENERATOR.normal(size=(43, 5)).astype(np.float32).astype(np.float64)
TRUTHS = {
    "mse": GENERATOR.normal(size=(43, 3)).astype(np.float32),
    "mae": GENERATOR.normal(size=(43, 3)).astype(np.float32),
    "huber": GENERATOR.normal(size=(43, 3)).astype(np.float32),
    "cross_entropy": GENERATOR.integers(0, 3, 43),
    "binary_cross_entropy_with_logits": (GENERATOR.normal(size=(43, 3)) > 0).astype(np.float32),
}
LOSSES = {
    "mse": torch.nn.MSELoss(),
    "mae": torch.nn.L1Loss(),
    "huber": torch.nn.HuberLoss(),
    "cross_entropy": torch.nn.CrossEntropyLoss(),
    "binary_cross_entropy_with_logits": torch.nn.BCEWithLogitsLoss(),
}
OPTIMIZERS = [
    optim.SGD(0.05),
    optim.SGD(0.05, momentum=0.9, dampening=0.1, weight_decay=0.01),
    optim.SGD(0.05, momentum=0.9, nesterov=True),
    optim.Adagrad(0.05),
    optim.RMSprop(0.01, momentum=0.5, centered=True),
    optim.Adam(0.01),
    optim.Adam(0.01, amsgrad=True, weight_decay=0.01),
    optim.AdamW(0.01),
]
EPOCHS, BATCH = 4, 9  # 5 updates an epoch, the last of 7 rows


def kept(net: nn.Module, seed: int) -> nn.Module:
    """In float64, with first weights that fit does not draw anew."""
    net.to("float64").initialise(seed).load_state_dict(net.state_dict())
    return net


def ours() -> nn.Module:
    # A bias before batch normalisation has the gradient 0, of which adaptive optimizers would enlarge the rounding.
    layers = (
        nn.Linear(5, 7, bias=False),
        nn.BatchNorm1d(7),
        nn.Tanh(),
        nn.Linear(7, 6),
        nn.LayerNorm(6),
        nn.GELU(),
        nn.Linear(6, 3),
    )
    return kept(nn.Sequential(*layers), 2)


def theirs(net: nn.Module) -> Any:
    layers = (
        torch.nn.Linear(5, 7, bias=False),
        torch.nn.BatchNorm1d(7),
        torch.nn.Tanh(),
        torch.nn.Linear(7, 6),
        torch.nn.LayerNorm(6),
        torch.nn.GELU(),
        torch.nn.Linear(6, 3),
    )
    made = torch.nn.Sequential(*layers).double()
    made.load_state_dict({name: torch.tensor(array) for name, array in net.state_dict().items()})
    return made


def loop(model: Any, loss: str, optimizer: optim.Optimizer, **options: Any) -> list[float]:
    """PyTorch's training loop with the options of fit."""
    made = getattr(torch.optim, type(optimizer).__name__)(model.parameters(), **optim.describe(optimizer)["arguments"])
    x, y = torch.tensor(X), torch.tensor(TRUTHS[loss])
    y = y if loss == "cross_entropy" else y.double()
    schedule = options["schedule"](made) if "schedule" in options else None
    losses, parts = [], options.get("accumulate", 1)
    for _ in range(EPOCHS):
        batches = [slice(i, i + BATCH) for i in range(0, 43, BATCH)]
        for first in range(0, len(batches), parts):
            group = batches[first : first + parts]
            rows = sum(len(x[b]) for b in group)
            made.zero_grad()
            total = 0.0
            for batch in group:
                value = LOSSES[loss](model(x[batch]), y[batch])
                weights = [p for p in model.parameters() if p.ndim >= 2]
                value = value + options.get("l1", 0.0) * sum(w.abs().sum() for w in weights)
                value = value + options.get("l2", 0.0) * sum((w**2).sum() for w in weights)
                (value * len(x[batch]) / rows).backward()
                total += value.item() * len(x[batch]) / rows
            if "clip_norm" in options:
                torch.nn.utils.clip_grad_norm_(model.parameters(), options["clip_norm"])
            if "clip_value" in options:
                torch.nn.utils.clip_grad_value_(model.parameters(), options["clip_value"])
            made.step()
            losses.append(total)
        if schedule is not None:
            schedule.step()
    return losses


def compared(loss: str, optimizer: optim.Optimizer, schedule: Any = None, **options: Any) -> None:
    net = ours()
    model = theirs(net)
    expected = loop(model, loss, optimizer, **options, **({"schedule": schedule[1]} if schedule else {}))
    run = cr.fit(net, (X, TRUTHS[loss]), loss=loss, optimizer=optimizer, epochs=EPOCHS, batch_size=BATCH, shuffle=False,
                 learning_rate_schedule=schedule[0] if schedule else None, **options)  # fmt: skip
    np.testing.assert_allclose(run.losses, expected, rtol=1e-10, atol=1e-10)
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(net.state_dict()[name], array.numpy(), rtol=1e-10, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_every_optimizer_in_fit_takes_pytorchs_twenty_steps(optimizer):
    compared("cross_entropy", optimizer)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_in_fit_is_pytorchs(loss):
    compared(loss, optim.SGD(0.05, momentum=0.9))


@pytest.mark.parametrize(
    "options",
    [
        {"clip_norm": 0.1},
        {"clip_value": 0.01},
        {"l1": 1e-3},
        {"l2": 1e-3},
        {"clip_norm": 0.3, "l1": 1e-3, "l2": 1e-3, "accumulate": 2},
    ],
    ids=str,
)
def test_clipping_and_penalties_in_fit_are_pytorchs(options):
    compared("mse", optim.Adam(0.01), **options)


@pytest.mark.parametrize("accumulate", [2, 3, 5])
def test_accumulation_of_uneven_parts_is_pytorchs_weighted_by_rows(accumulate):
    compared("cross_entropy", optim.SGD(0.05, momentum=0.9), accumulate=accumulate)


def test_a_learning_rate_schedule_in_fit_moves_when_pytorchs_does():
    stepped = torch.optim.lr_scheduler.StepLR
    compared("mse", optim.SGD(0.05), schedule=(optim.StepLR(1, gamma=0.5), lambda o: stepped(o, 1, gamma=0.5)))


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("sizes", [(9, 5), (15, 3), (4, 11)], ids=str)
def test_accumulated_parts_equal_one_big_batch(loss, sizes):
    size, parts = sizes  # 43 rows: the last part is smaller, and it counts by its rows
    data = (X, TRUTHS[loss])
    whole, parted = (nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to("float64") for _ in range(2))
    big = cr.fit(whole, data, loss=loss, batch_size=43, epochs=3, l2=1e-3, clip_norm=0.5)
    small = cr.fit(parted, data, loss=loss, batch_size=size, accumulate=parts, epochs=3, l2=1e-3, clip_norm=0.5)
    assert small.step == big.step == 3
    np.testing.assert_allclose(small.losses, big.losses, rtol=1e-12)
    for name, array in whole.state_dict().items():
        np.testing.assert_allclose(parted.state_dict()[name], array, rtol=1e-12, atol=1e-12)


def test_dropout_in_parts_draws_what_one_big_batch_draws():
    made = [nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.4), nn.Linear(7, 3)).to("float64") for _ in range(2)]
    options = {"loss": "cross_entropy", "epochs": 2}
    data = (X, TRUTHS["cross_entropy"])
    big = cr.fit(made[0], data, batch_size=43, **options)
    small = cr.fit(made[1], data, batch_size=9, accumulate=5, **options)
    np.testing.assert_allclose(small.losses, big.losses, rtol=1e-12)


def test_the_loss_of_an_epoch_counts_each_row_once():
    net = kept(nn.Sequential(nn.Linear(5, 3)), 1)
    truth = TRUTHS["cross_entropy"]
    expected = float(cr.cross_entropy(net(X), truth).item())
    run = cr.fit(net, (X, truth), loss="cross_entropy", optimizer=optim.SGD(1e-300), batch_size=9, epochs=2)
    np.testing.assert_allclose(run.history["loss"], expected, rtol=1e-12)


def test_the_validation_loss_does_not_depend_on_the_batch_size():
    found = []
    for size in (1, 300, 599, 600):
        x = np.tile(X, (14, 1))[:600]
        y = np.tile(TRUTHS["cross_entropy"], 14)[:600]
        net = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).to("float64").initialise(1)
        batches = [(X[:9], TRUTHS["cross_entropy"][:9])]
        run = cr.fit(net, batches, loss="cross_entropy", validation=(x, y), batch_size=size)
        found.append(run.metrics["validation_loss"])
    np.testing.assert_allclose(found, found[0], rtol=1e-12)


def test_frozen_parameters_stay_and_the_others_move_as_in_pytorch():
    net = ours()
    model = theirs(net)
    for frozen in (net[0], model[0]):
        frozen.requires_grad_(False)
    before = net.state_dict()
    loop(model, "mse", optim.Adam(0.01))
    cr.fit(
        net, (X, TRUTHS["mse"]), loss="mse", optimizer=optim.Adam(0.01), epochs=EPOCHS, batch_size=BATCH, shuffle=False
    )
    assert net.state_dict()["0.weight"].tobytes() == before["0.weight"].tobytes()
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(net.state_dict()[name], array.numpy(), rtol=1e-10, atol=1e-10, err_msg=name)


def test_a_layer_that_is_used_twice_gets_one_summed_gradient_as_in_pytorch():
    class Ours(nn.Module):
        def __init__(self):
            super().__init__()
            self.tied, self.last = nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.last(cr.ops.tanh(self.tied(cr.ops.tanh(self.tied(x)))))

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tied, self.last = torch.nn.Linear(5, 5), torch.nn.Linear(5, 3)

        def forward(self, x):
            return self.last(torch.tanh(self.tied(torch.tanh(self.tied(x)))))

    net, model = kept(Ours(), 3), Theirs().double()
    model.load_state_dict({name: torch.tensor(array) for name, array in net.state_dict().items()})
    loop(model, "mse", optim.Adam(0.01))
    cr.fit(
        net, (X, TRUTHS["mse"]), loss="mse", optimizer=optim.Adam(0.01), epochs=EPOCHS, batch_size=BATCH, shuffle=False
    )
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(net.state_dict()[name], array.numpy(), rtol=1e-10, atol=1e-10, err_msg=name)
