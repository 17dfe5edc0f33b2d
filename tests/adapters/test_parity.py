"""The planted PyTorch programs, told to chainrule with the same weights and rows: the same first finding."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops, optim
from peers import peer

torch = peer("torch")

spec = importlib.util.spec_from_file_location("planted", Path(__file__).with_name("test_planted_faults.py"))
assert spec is not None and spec.loader is not None
planted = importlib.util.module_from_spec(spec)
sys.modules["planted"] = planted
spec.loader.exec_module(planted)

INEXPRESSIBLE = {
    "never_zeroed": "gradients are values that a step returns, not memory that has to be zeroed",
    "not_in_optimizer": "fit and step give the optimizer every parameter of the network",
    "evaluation_mode": "fit puts the network into training mode before each epoch",
}


class Detached(nn.Module):
    def __init__(self, features, head):
        super().__init__()
        self.features, self.head = features, head

    def forward(self, x):
        return self.head(ops.relu(cr.stop_gradient(self.features(x))))


def told(module):
    """A torch module as chainrule's, without its weights."""
    if isinstance(module, planted.Detached):
        return Detached(told(module.features), told(module.head))
    if isinstance(module, torch.nn.Sequential):
        return nn.Sequential(*map(told, module))
    if isinstance(module, torch.nn.Linear):
        return nn.Linear(module.in_features, module.out_features)
    return getattr(nn, type(module).__name__)()


def own_cross_entropy(output, truth):
    return ops.cross_entropy(output, truth)


def clamped(output, truth):
    return ops.binary_cross_entropy(ops.clip(output, 0.0, 1.0), truth)


LOSSES = {"softmax_twice": own_cross_entropy, "bce_on_logits": clamped, "unscaled_inputs": "mse"}


def optimizer_like(optimizer):
    found = optimizer.param_groups[0]
    if isinstance(optimizer, torch.optim.Adam):
        return optim.Adam(found["lr"])
    return optim.SGD(found["lr"], momentum=found["momentum"])


@pytest.mark.filterwarnings("ignore::chainrule.errors.UnreachableWarning")  # of detach: said before training, too
@pytest.mark.parametrize(
    "program", [p for p in planted.PLANTED if p.__name__ not in INEXPRESSIBLE], ids=lambda p: p.__name__
)
def test_the_same_network_in_chainrule_gets_the_same_first_finding(program, monkeypatch):
    watched, seen = planted.fit, {}

    def told_here(model, rows, loss, optimizer, steps=300, batch=64):
        net = told(model)
        net.load_state_dict({name: value.numpy().copy() for name, value in model.state_dict().items()})
        x, y = (part.numpy() for part in rows)
        epochs = max(round(steps * batch / len(x)), 1)
        run = cr.fit(net, (x, y), loss=LOSSES.get(program.__name__, "cross_entropy"), progress=False, epochs=epochs,
                     optimizer=optimizer_like(optimizer), batch_size=batch, on_nan="skip")  # fmt: skip
        seen["here"] = run.examine()
        return watched(model, rows, loss, optimizer, steps, batch)

    monkeypatch.setattr(planted, "fit", told_here)
    torch.manual_seed(0)
    there = program()
    here = seen["here"]
    assert here.flags and there.flags, f"{here}\n{there}"
    assert here.flags[0].code == there.flags[0].code, f"chainrule:\n{here}\nPyTorch:\n{there}"


def test_what_a_loop_of_chainrule_cannot_say_is_listed():
    assert set(INEXPRESSIBLE) < {program.__name__ for program in planted.PLANTED}
    assert len(planted.PLANTED) - len(INEXPRESSIBLE) == 9
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).eval()
    before = net.state_dict()["0.running_mean"].copy()
    x = np.random.default_rng(0).normal(5, 1, (64, 3)).astype(np.float32)
    cr.fit(net, (x, (x[:, 0] > 5).astype(int)), loss="cross_entropy", optimizer=optim.SGD(0.1), progress=False)
    assert not np.allclose(net.state_dict()["0.running_mean"], before), "fit trained in evaluation mode"
