"""Explaining a run at any checkpointed step, without passing anything twice."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import ArgumentError, CheckpointError

DRAW = np.random.default_rng(2)
X, Y = DRAW.normal(size=(64, 5)).astype(np.float32), DRAW.integers(0, 3, 64)


def trained(run_dir=None, **more):
    net = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Dropout(0.2), nn.Linear(7, 3))
    return cr.fit(net, (X, Y), loss="cross_entropy", optimizer=optim.Adam(1e-2), epochs=2, batch_size=16, seed=3,
                  run_dir=run_dir, progress=False, **more)  # fmt: skip


def test_a_run_that_was_loaded_says_the_same_as_the_one_that_was_trained(tmp_path):
    run = trained(tmp_path / "run", learning_rate_schedule=optim.StepLR(1))
    loaded = cr.Run.load(tmp_path / "run")
    assert str(loaded.explain("0.weight[3, 2]")) == str(run.explain("0.weight[3, 2]"))
    assert str(loaded.flow()) == str(run.flow())
    assert run.explain().update.learning_rate == pytest.approx(1e-4)
    assert not run.net.training


def test_the_update_that_is_explained_is_the_one_that_training_made(tmp_path):
    run = trained(tmp_path / "run", checkpoint_every=1, shuffle=False, clip_norm=0.1, l2=0.01)
    earlier = run.explain("0.weight[3, 2]", step=7)
    assert earlier.trace.step == 7
    # In their own order the 8th update's rows are not the kept ones; the weight before it is.
    assert earlier.value == pytest.approx(cr.Run.load(tmp_path / "run", step=7).net.state_dict()["0.weight"][3, 2])
    other = cr.Run.load(tmp_path / "run", step=7)
    assert other.explain("0.weight[3, 2]").update.terms == earlier.update.terms


def test_the_first_update_of_a_run_in_its_own_order_is_explained_to_the_bit():
    net = nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.Linear(4, 3)).to("float64").initialise(3)
    x = X.astype(np.float64)
    start = net.state_dict()["0.weight"][1, 1]
    run = cr.fit(net, (x, Y), loss="cross_entropy", optimizer=optim.SGD(0.5), epochs=1, batch_size=64, seed=3,
                 shuffle=False, progress=False)  # fmt: skip
    moved = net.state_dict()["0.weight"][1, 1] - start
    fresh = nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.Linear(4, 3)).to("float64").initialise(3)
    from chainrule.see.pinned import pinned

    trace = pinned(fresh, cr.cross_entropy, x, Y, seed=3)
    assert -0.5 * trace.gradients["0.weight"][1, 1] == pytest.approx(moved, rel=1e-12)
    assert run.explain("0.weight[1, 1]").trace.step == 1


def test_what_a_run_does_not_have_is_named(tmp_path):
    with pytest.raises(ArgumentError, match=r"kept no rows.*keep_rows=0"):
        trained(keep_rows=0).explain()
    with pytest.raises(CheckpointError, match=r"no directory.*step 8, where it is"):
        trained().explain(step=2)
    run = trained(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 2. There are \[8\]"):
        run.flow(step=2)
    with pytest.raises(ArgumentError, match="nothing is called"):
        run.explain("9.weight[0]")
    with pytest.raises(ArgumentError, match="keep_rows"):
        trained(keep_rows=-1)


def test_a_loss_of_ones_own_serves_in_memory_and_is_asked_for_from_a_directory(tmp_path):
    def twice(prediction, target):
        return 2 * cr.cross_entropy(prediction, target)

    net = nn.Sequential(nn.Linear(5, 3))
    run = cr.fit(net, (X, Y), loss=twice, epochs=1, run_dir=tmp_path / "run", progress=False)
    assert run.explain("0.weight[0, 0]").gradient
    with pytest.raises(ArgumentError, match="a loss of your own, 'twice'"):
        cr.Run.load(tmp_path / "run").explain()
