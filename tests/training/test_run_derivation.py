"""The derivation of a run: its settings, the optimizer's memory, clipping and penalties of the next update."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import ArgumentError

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(16, 4)), RANDOM.integers(0, 3, size=16)


def trained(tmp_path, epochs, **settings):
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    return cr.fit(
        net, (X, Y), loss="cross_entropy", epochs=epochs, batch_size=16, shuffle=False, backend="reference",
        run_dir=tmp_path, **settings,
    )  # fmt: skip


SETTINGS = [
    {"optimizer": optim.SGD(0.1)},
    {"optimizer": optim.Adam(0.01), "l2": 0.01, "l1": 0.001},
    {"optimizer": optim.SGD(0.1, momentum=0.9), "clip_norm": 0.05},
    {"optimizer": optim.RMSprop(0.01), "clip_value": 0.01, "clip_norm": 0.02},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_next_update_is_the_one_that_training_makes(tmp_path, settings):
    early = trained(tmp_path / "early", 2, **settings)
    late = trained(tmp_path / "late", 3, **settings)
    d = cr.Run.load(tmp_path / "early").derivation(X.astype(np.float32), Y)
    assert d.loss == pytest.approx(late.losses[-1], rel=1e-6)
    assert early.step == 2 and late.step == 3
    for name, label in d.names.items():
        np.testing.assert_array_equal(d.values[f"{name}'"], late.net.state_dict()[label])
    if "clip_norm" in settings:
        assert "norm(d)" in str(d) and "clipped from" in d.change.steps[0]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_program_of_a_run_has_the_bits_of_its_derivation(tmp_path, settings):
    import runpy

    trained(tmp_path / "run", 2, **settings)
    d = cr.Run.load(tmp_path / "run").derivation(X.astype(np.float32), Y)
    (tmp_path / "step.py").write_text(d.numpy())
    program = runpy.run_path(str(tmp_path / "step.py"))
    for name, value in program["step"](**program["data"]()).items():
        np.testing.assert_array_equal(value, d.values[name], err_msg=name)


def test_without_rows_lines_have_shapes_and_values_are_refused(tmp_path):
    d = trained(tmp_path, 1, optimizer=optim.Adam(0.01), keep_rows=0).derivation()
    assert next(line for line in d.lines if line.name == "z1").shape == (16, 5)
    assert d.loss is None and d.change is None
    assert "Adam, learning rate 0.01" in str(d)
    with pytest.raises(ArgumentError, match="made from shapes"):
        d.values  # noqa: B018  reading it is the test
    with pytest.raises(ArgumentError, match="both x and y"):
        cr.Run.load(tmp_path).derivation(X)


def test_the_mode_of_the_network_is_left_as_it_was(tmp_path):
    run = trained(tmp_path, 1, optimizer=optim.SGD(0.1))
    run.net.eval()
    run.derivation(X.astype(np.float32), Y)
    assert not any(module.training for module in run.net.modules())
