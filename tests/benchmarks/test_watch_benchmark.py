"""The benchmark of watching: what it leaves alone is left alone, and what it adds up is what was added."""

import sys
from pathlib import Path

import numpy as np
import pytest

from chainrule.adapters import watch
from peers import peer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import watching

torch = peer("torch")
nn = torch.nn


def small():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 10)), (6,), 4


def test_steps_in_between_are_neither_counted_nor_measured():
    model = small()[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.ones(4, 6)), torch.zeros(4, dtype=torch.long)).backward()
        optimizer.step()

    before = torch.autograd.backward
    with watch(model, optimizer, every=1) as seen:
        hooked = torch.autograd.backward
        step()
        with watching._let_alone(seen.observer):
            assert torch.autograd.backward is before
            assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
            step()
        assert torch.autograd.backward is hooked
        step()
    assert seen.observer.steps == 2
    assert {m.step for m in seen.observer.measurements} == {0, 1}
    assert torch.autograd.backward is before


def test_every_step_is_timed_and_those_that_are_measured_are_named(monkeypatch):
    monkeypatch.setattr(watching, "STEPS", 40)
    seen, unseen, measured = watching._watched(small)
    assert seen.shape == (8, 5)
    assert unseen.shape == (9, 5)
    assert (seen > 0).all() and (unseen > 0).all()
    assert measured[:10] == list(range(10)) and 10 < len(measured) < 40


def test_a_measured_step_counts_for_itself_and_a_disturbance_for_nothing():
    rounds, step = 5, 1.0
    extra = np.full((rounds, watching.STEPS), 0.1)
    extra[:, [0, 200]] = 3.0
    extra[2, 500] = 100.0
    found = watching._costs(extra, step, [0, 200])
    assert found["overhead"] == pytest.approx(0.1 + 2 * 2.9 / watching.STEPS)
    assert found["low"] == pytest.approx(found["high"])
    assert found["each"] == pytest.approx(3.0)
    assert found["long"] == pytest.approx(0.1 + 3.0 / watching.LONG)
