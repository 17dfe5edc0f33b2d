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


def watched(rows, lr=0.1, steps=24, loss=None, each=None, **options):
    """(the model, its optimizer, the watch) after so many updates."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    criterion = torch.nn.CrossEntropyLoss() if loss is None else loss
    watch = cr.watch(model, optimizer, loss=criterion if loss is None else None)
    with watch:
        for i in range(steps):
            x, y = rows[i % len(rows)]
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
            if each is not None:
                each(i, optimizer, watch)
    return model, optimizer, watch


def everything(model, optimizer):
    """All that a trial must leave as it is, as bytes."""
    held = [*model.state_dict().values(), *(p.grad for p in model.parameters())]
    held += [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    modes = [m.training for m in model.modules()]
    random = torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes()
    return [t.detach().numpy().tobytes() for t in held], modes, random, torch.is_grad_enabled()


def test_a_watched_training_is_replayed_from_its_beginning_and_its_rows_without_touching_the_model():
    model, optimizer, watch = watched(moons(), lr=1e-6)
    model.eval()
    before = everything(model, optimizer)
    with torch.no_grad():
        before = (*before[:3], False)
        chosen = (Remedy("scale-learning-rate", "", {"lr": 0.2}),)
        trials = watch.examine().treat(budget=60, on_trial=quiet, remedies=chosen)
        assert everything(model, optimizer) == before
    assert trials.cure is not None and trials.cure.pytorch == "- lr=1e-06\n+ lr=0.2"
    assert any("256 rows" in note for note in trials.notes)


def test_replays_begin_with_the_first_weights_and_not_with_those_that_went_wrong():
    rows = moons()
    model, _, watch = watched(rows, lr=1e-3, steps=3)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(float("nan"))
    chosen = (Remedy("scale-learning-rate", "", {"lr": 0.1}),)
    trials = watch.examine().treat(budget=60, on_trial=quiet, remedies=chosen)
    assert min(trials.trials[0].after) > 0 and all(np.isfinite(trials.trials[0].before))


def test_a_fault_in_a_replay_reaches_the_user_and_leaves_nothing_changed():
    model, optimizer, watch = watched(moons(), lr=1e-3)
    before = everything(model, optimizer)
    report = watch.examine()

    def failing(trial):
        torch.rand(3), np.random.rand(3)
        raise RuntimeError("of the user's own")

    with pytest.raises(RuntimeError, match="own"):
        report.treat(budget=5, on_trial=failing, remedies=(Remedy("clip", "", {"clip_norm": 1.0}),))
    assert everything(model, optimizer) == before


def test_trials_within_the_block_are_no_steps_of_the_watched_loop():
    seen = []

    def look(i, optimizer, watch):
        if i == 8:
            counted = watch.observer.loop.backwards, watch.observer.steps
            report = watch.examine()
            report.treat(budget=3, on_trial=quiet, remedies=(Remedy("clip", "", {"clip_norm": 1.0}),))
            assert (watch.observer.loop.backwards, watch.observer.steps) == counted
            seen.append(report)

    _, _, watch = watched(moons(), lr=1e-3, steps=12, each=look)
    assert seen and watch.observer.loop.backwards == watch.observer.steps == 12
    assert len(watch.observer.loss_values()) == 12 and np.isfinite(watch.observer.loss_values()).all()


def test_what_a_replay_leaves_out_is_said():
    def decayed(i, optimizer, watch):
        optimizer.param_groups[0]["lr"] = 0.1 / (i + 2)

    _, _, watch = watched(moons(), each=decayed)
    trials = watch.examine().treat(budget=5, on_trial=quiet, remedies=(Remedy("clip", "", {"clip_norm": 1.0}),))
    assert any("the learning rate went from 0.1 to" in note for note in trials.notes)


def test_what_was_not_kept_is_named(monkeypatch):
    with pytest.raises(ArgumentError, match="no update was made in the block"):
        watched(moons(), steps=0)[2].examine().treat()
    for own in (lambda p, y: ((p - 2.0) ** 2).mean() + p.exp().mean(), lambda p, y: p.exp().mean()):
        with pytest.raises(ArgumentError, match="loss was not given"):
            watched(moons(), steps=3, loss=own)[2].examine().treat()
    monkeypatch.setattr("chainrule.adapters.pytorch.observer.MOST_KEPT", 10)
    with pytest.raises(ArgumentError, match="weights at the beginning were not kept"):
        watched(moons(), steps=3)[2].examine().treat()


def test_a_report_of_a_record_alone_says_how_it_can_be_treated():
    _, _, watch = watched(moons(), steps=3)
    from chainrule.doctor.settings import settings_from
    from chainrule.doctor.verdict import judge

    with pytest.raises(ArgumentError, match=r"watch.examine\(\).treat\(\)"):
        judge(watch.record(), settings_from()).treat()
