"""Treating a PyTorch model: what its loop can change is proven on copies, and the model stays as it was."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import data
from chainrule.doctor import Remedy
from chainrule.errors import ArgumentError
from peers import peer

torch = peer("torch")


def quiet(trial):
    """What is called with each trial, and says nothing."""


def moons(scale=1.0, batches=True):
    x, y = data.generated.moons(256, seed=0)
    x, y = torch.tensor(x.astype(np.float32) * np.float32(scale)), torch.tensor(y)
    return list(zip(x.split(32), y.split(32), strict=True)) if batches else (x, y)


def diagnosed(rows, lr=0.1, kind=torch.optim.SGD):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
    optimizer = kind(model.parameters(), lr=lr)
    return model, optimizer, cr.diagnose(model, rows, loss=torch.nn.CrossEntropyLoss(), optimizer=optimizer)


@pytest.mark.parametrize("batches", [True, False])
def test_scaled_inputs_are_the_cure_of_tiny_ones_and_nothing_of_the_model_changes(batches):
    model, optimizer, report = diagnosed(moons(0.002, batches))
    weights = {n: v.clone() for n, v in model.state_dict().items()}
    state, mode = torch.get_rng_state().clone(), model.training
    came = []
    trials = report.treat(budget=60, on_trial=came.append)
    assert trials.cure is not None and trials.cure.remedies[0].id == "standardise-inputs", str(trials)
    assert trials.cure.proven and min(trials.cure.after) > max(trials.cure.before) and came == list(trials)
    assert "x = (x - mean) / std" in str(trials)
    assert torch.equal(state, torch.get_rng_state()) and model.training is mode and not optimizer.state
    assert all(torch.equal(weights[n], v) for n, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_rate_that_is_too_low_is_cured_by_a_higher_one_or_another_optimizer():
    _, _, report = diagnosed(moons(), lr=1e-5)
    chosen = (Remedy("scale-learning-rate", "", {"lr": 0.5}),)
    trials = report.treat(budget=60, on_trial=quiet, remedies=chosen)
    assert trials.cure is not None and trials.cure.pytorch == "- lr=1e-05\n+ lr=0.5"
    trials = report.treat(
        budget=60, on_trial=quiet, remedies=(Remedy("change-optimizer", "", {"optimizer": "Adam", "lr": 0.02}),)
    )
    assert trials.cure is not None and "torch.optim.Adam(model.parameters(), lr=0.02)" in trials.cure.pytorch


def test_a_treatment_that_helps_nothing_is_not_proven_and_one_of_layers_is_named():
    _, _, report = diagnosed(moons(), lr=0.5)
    trials = report.treat(budget=60, on_trial=quiet, remedies=(Remedy("clip", "", {"clip_norm": 1000.0}),))
    assert trials.cure is None and [t.verdict for t in trials] == ["no effect"] and trials.trials[0].effect == 0
    layers = Remedy("change-activation", "", {"activation": "ReLU"})
    trials = report.treat(budget=60, on_trial=quiet, remedies=(layers,))
    assert not trials.trials and "yours to change" in trials.not_applicable[0]


def test_the_report_of_a_watched_model_says_how_it_can_be_treated():
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    criterion = torch.nn.CrossEntropyLoss()
    with cr.watch(model, optimizer, loss=criterion) as watch:
        for x, y in moons():
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
    with pytest.raises(ArgumentError, match=r"diagnose\(model, loader, loss=criterion"):
        watch.examine().treat()
