"""Where two runs part: settings, losses, weights, and their flows."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import ArgumentError, CheckpointError

DRAW = np.random.default_rng(5)
X, Y = DRAW.normal(size=(32, 4)).astype(np.float32), DRAW.integers(0, 3, 32)


def trained(run_dir=None, rate=0.1, seed=1, x=X, loss="cross_entropy", width=5, **more):
    net = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))
    return cr.fit(net, (x, Y), loss=loss, optimizer=optim.SGD(rate, momentum=0.9), epochs=2, batch_size=8, seed=seed,
                  run_dir=run_dir, progress=False, **more)  # fmt: skip


def test_runs_of_the_same_seed_are_the_same_to_the_last_bit(tmp_path):
    found = cr.compare(trained(tmp_path / "a"), trained(tmp_path / "b"))
    assert found.same and found.settings == () and found.parting is None and found.difference is None
    assert str(found.flows[0]) == str(found.flows[1])
    assert "the same to the last bit in all 8 updates" in str(found)


def test_another_learning_rate_shows_in_the_second_loss_and_in_the_weights(tmp_path):
    a, b = trained(tmp_path / "a", checkpoint_every=1), trained(tmp_path / "b", 0.2, checkpoint_every=1)
    found = cr.compare(tmp_path / "a", str(tmp_path / "b"))
    assert [(s.name, s.first, s.second) for s in found.settings] == [("optimizer.arguments.lr", 0.1, 0.2)]
    # One update from the same weights: the first losses are the same, the second ones not.
    assert (found.parting.step, found.parting.first, found.parting.second) == (2, a.losses[1], b.losses[1])
    assert found.rows is None and not found.same
    name, index = found.difference.name, found.difference.index
    assert found.checkpoint == found.checkpoints[0]
    assert found.difference.first == cr.Run.load(tmp_path / "a", step=found.checkpoint).net.state_dict()[name][index]
    assert found.difference.second == cr.Run.load(tmp_path / "b", step=found.checkpoint).net.state_dict()[name][index]
    assert [flow.trace.step for flow in found.flows] == [8, 8]
    assert "optimizer.arguments.lr: 0.1 and 0.2" in str(found) and "until update 1, not in 2" in str(found)


def test_only_the_later_half_of_a_run_parts_from_where_its_rate_changed(tmp_path):
    a = trained(tmp_path / "a", checkpoint_every=4)
    b = trained(tmp_path / "b", checkpoint_every=4, learning_rate_schedule=optim.StepLR(1))
    found = cr.compare(a, b)
    # Four updates an epoch; the rate falls after the first, which the loss of update 6 is the first to see.
    assert found.parting.step == 6 and a.losses[:5] == b.losses[:5] and a.losses[5] != b.losses[5]
    assert found.checkpoints == (4, 8) and found.checkpoint == 8
    assert "the same after update 4; not after update 8" in str(found)


def test_other_rows_are_found_in_what_both_kept(tmp_path):
    x = X.copy()
    x[:, 2] += 1
    found = cr.compare(trained(tmp_path / "a"), trained(tmp_path / "b", x=x))
    assert found.rows.name == "0.x" and found.rows.index == (0, 2)
    assert found.parting.step == 1 and "from the first update on" in str(found)


def test_runs_in_memory_are_compared_by_their_losses_and_present_weights():
    found = cr.compare(trained(), trained(seed=2))
    assert found.names == ("the first run", "the second run") and found.checkpoints == (8,)
    assert found.difference.name == "0.weight" and found.parting.step == 1


def test_runs_of_other_lengths_and_widths_are_shown_at_their_own_last_steps(tmp_path):
    long = cr.fit(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (X, Y), loss="cross_entropy",
                  optimizer=optim.SGD(0.1), epochs=5, batch_size=8, progress=False)  # fmt: skip
    found = cr.compare(trained(), long)
    assert found.checkpoints == () and found.checkpoint is None
    assert [flow.trace.step for flow in found.flows] == [8, 20]
    assert "no step is common" in str(found)
    same = cr.compare(trained(tmp_path / "a"), trained(tmp_path / "b", width=6))
    assert same.difference.reason == "shape" and same.settings


def test_a_loss_of_ones_own_is_compared_without_flows(tmp_path):
    def twice(prediction, target):
        return 2 * cr.cross_entropy(prediction, target)

    trained(tmp_path / "a", loss=twice)
    found = cr.compare(tmp_path / "a", tmp_path / "a")
    assert found.same and found.flows is None and "a loss of your own, 'twice'" in str(found)


def test_lines_keep_to_the_width(tmp_path):
    found = cr.compare(trained(), trained(seed=2))
    assert max(map(len, found.text(80).splitlines())) <= 80


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(ArgumentError, match="runs or their directories, got dict"):
        cr.compare({}, {})
    with pytest.raises(ArgumentError, match="nothing"):
        cr.compare(tmp_path / "nothing", tmp_path)
    trained(tmp_path / "a")
    for path in (tmp_path / "a" / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        cr.compare(tmp_path / "a", tmp_path / "a")
