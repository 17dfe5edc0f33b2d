"""Faults of a PyTorch user's own loop, over data sets, widths, seeds and optimizers; the same loop without them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from chainrule import data
from chainrule.adapters import watch
from peers import peer

torch = peer("torch")
nn, F = torch.nn, torch.nn.functional

TURNS = ((0, 64), (1, 24), (2, 96))
"""Seed and width; the seed chooses data set and optimizer as well."""

STEPS = 150


def rows(seed: int) -> Any:
    """Digits, four blobs or two moons."""
    if seed == 0:
        (x, y), _ = data.load("digits")
    else:
        x, y = data.generated.blobs(600, seed=seed) if seed == 1 else data.generated.moons(600, seed=seed)
    return torch.tensor(np.asarray(x, np.float32)), torch.tensor(np.asarray(y, np.int64))


@dataclass
class Loop:
    """What a body works on."""

    model: Any
    optimizer: Any
    x: Any
    y: Any
    schedule: Any = None
    scaler: Any = None

    @property
    def loss(self) -> Any:
        return F.cross_entropy(self.model(self.x), self.y)


def usual(it: Loop) -> None:
    it.optimizer.zero_grad()
    it.loss.backward()
    it.optimizer.step()


def never_zeroed(it: Loop) -> None:
    it.loss.backward()
    it.optimizer.step()


def zeroed_before_step(it: Loop) -> None:
    it.loss.backward()
    it.optimizer.zero_grad()
    it.optimizer.step()


def without_backward(it: Loop) -> None:
    it.optimizer.zero_grad()
    _ = it.loss
    it.optimizer.step()


def without_graph(it: Loop) -> None:
    it.optimizer.zero_grad()
    torch.tensor(it.loss.item(), requires_grad=True).backward()
    it.optimizer.step()


def schedule_first(it: Loop) -> None:
    it.schedule = it.schedule or torch.optim.lr_scheduler.ExponentialLR(it.optimizer, 0.9)
    it.schedule.step()
    usual(it)


def scaled_too_far(it: Loop) -> None:
    it.scaler = it.scaler or torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=0.999)
    it.optimizer.zero_grad()
    it.scaler.scale(1e3 * it.loss).backward()
    it.scaler.step(it.optimizer)
    it.scaler.update()


def watched(seed: int, width: int, body: Any = usual, *, held: Any = None, evaluate: bool = False, bad: bool = False,
            same: bool = False) -> Any:  # fmt: skip
    """The report on a loop. held: the part of the model whose parameters the optimizer holds. bad: inputs with NaN.
    same: one batch over and over."""
    torch.manual_seed(seed)
    x, y = rows(seed)
    if bad:
        x = x.clone()
        x[::7, 0] = float("nan")
    inner = (nn.Linear(x.shape[1], width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1))
    model = nn.Sequential(*inner, nn.Linear(width, int(y.max()) + 1))
    model.train(not evaluate)
    parameters = (model if held is None else model[held]).parameters()
    optimizer = torch.optim.SGD(parameters, 0.1) if seed == 1 else torch.optim.Adam(parameters, 5e-3)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 32, shuffle=not same)
    with watch(model, optimizer, loss=F.cross_entropy) as seen:
        it, done = Loop(model, optimizer, None, None), 0
        while done < STEPS:
            for it.x, it.y in loader:
                body(it)
                done += 1
                if same or done == STEPS:
                    break
    assert seen.observer.faults == {}
    return seen.examine()


PLANTED = {
    "data-not-finite": {"bad": True},
    "parameters-not-held": {"held": 4},
    "gradients-never-zeroed": {"body": never_zeroed},
    "zeroed-before-step": {"body": zeroed_before_step},
    "evaluation-mode-left-on": {"evaluate": True},
    "loss-without-graph": {"body": without_graph},
    "schedule-misused": {"body": schedule_first},
    "loss-scaling-skips": {"body": scaled_too_far},
    "same-batch": {"same": True},
    "step-without-backward": {"body": without_backward},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("seed, width", TURNS)
@pytest.mark.parametrize("name", PLANTED)
def test_a_fault_of_the_loop_is_flagged(name, seed, width):
    report = watched(seed, width, **PLANTED[name])
    flagged = {f.name for cause in report.flags for f in (cause, *cause.symptoms)}
    assert name in flagged, str(report)


@pytest.mark.parametrize("seed, width", TURNS)
def test_the_loop_without_a_fault_is_not_flagged(seed, width):
    report = watched(seed, width)
    named = {f.name for cause in report.findings for f in (cause, *cause.symptoms)}
    assert report.ok and not named & set(PLANTED), str(report)
