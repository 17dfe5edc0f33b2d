"""Probes: what a step measures while it runs, held against the trace of its layers; and that nothing else changes."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import data, nn, optim
from chainrule.errors import ArgumentError, NonFiniteError
from chainrule.optim import Clip
from chainrule.record import Quantity, read_record
from chainrule.see.pinned import pinned
from chainrule.training.head import loss_named
from chainrule.training.options import StepOptions
from chainrule.training.probing import ProbeRate, rate_of
from chainrule.training.step import TrainingStep
from tests.networks import KINDS, ROWS, of_kind

IMAGES = data.load("digits")[0]


def rms(*arrays: np.ndarray) -> float:
    flat = np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays])
    return float(np.sqrt(np.mean(flat**2)))


def one_step(net: nn.Module, loss: str, x, y, optimizer, compiled: bool, backend: str | None = None, **options):
    """({(layer, quantity): value} of one step, the trace of that step, by how much each parameter moved)"""
    function = loss_named(loss)[1]
    step = TrainingStep(lambda x, y: function(net(x), y), net, optimizer, StepOptions(**options), backend, seed=5)
    step.compiles_probes = compiled
    decay = (options.get("l1", 0.0), options.get("l2", 0.0))
    buffers = {n: b.array.copy() for n, b in net.named_buffers()}
    trace = pinned(net, function, x, y, None, seed=5, step=0, decay=decay)
    before = {n: p.array.copy() for n, p in net.named_parameters()}
    for n, b in net.named_buffers():
        assert b.array.tobytes() == buffers[n].tobytes()
    step((x, y), optimizer.lr, measures=True)
    (found,) = step.take()
    assert found.steps.tolist() == [0]
    moved = {n: p.array - before[n] for n, p in net.named_parameters()}
    return {place: float(values[0]) for place, values in found.columns.items()}, trace, moved


def expected(trace, moved) -> dict[tuple[str, Quantity], float]:
    """The quantities by their definitions, from the arrays of a trace, by the layer that owns the weight."""
    found = {}
    layers: dict[str, list] = {}
    for layer in trace.layers:
        layers.setdefault((layer.weight_name or layer.bias_name).rpartition(".")[0], []).append(layer)
    for name, places in layers.items():
        names = [n for n in trace.gradients if n.rpartition(".")[0] == name]
        biases = {p.bias_name for p in places}
        matrices = [n for n in names if trace.parameters[n].ndim > 1]
        names = matrices or [n for n in names if n not in biases] or names
        found[name, Quantity.GRADIENT] = rms(*(trace.gradients[n] for n in names))
        found[name, Quantity.WEIGHT] = rms(*(trace.parameters[n] for n in names))
        found[name, Quantity.UPDATE] = rms(*(moved[n] for n in names))
        flat = np.concatenate([trace.gradients[n].ravel() for n in names])
        found[name, Quantity.ZERO_GRADIENT] = float(np.mean(flat == 0))
        if any(p.form == "none" for p in places) or name == "cells":
            continue
        found[name, Quantity.ERROR] = rms(*(p.delta for p in places))
        if any(p.weight is None for p in places):
            continue
        sizes = [p.size_of_activation() for p in places]
        activation = float(np.sqrt(sum(s for s, _ in sizes) / sum(n for _, n in sizes)))
        found[name, Quantity.ACTIVATION] = activation
        found[name, Quantity.FORWARD_GAIN] = rms(*(p.z for p in places)) / activation
        last = places[-1]
        if last.local_derivative is not None:
            slope = last.local_derivative
            found[name, Quantity.LOCAL_DERIVATIVE] = rms(slope)
            found[name, Quantity.DEAD] = float(np.mean(~(slope.reshape(-1, slope.shape[-1]) != 0).any(axis=0)))
            steepest = {"sigmoid": 0.25, "tanh": 1.0}.get(last.activation)
            if steepest:
                found[name, Quantity.SATURATED] = float(np.mean(np.abs(slope) < 0.05 * steepest))
    return found


@pytest.mark.parametrize(("kind", "compiled"), [*((k, True) for k in KINDS), ("convolution", False), ("lstm", False)])
def test_probes_find_what_the_trace_of_the_layers_holds(kind, compiled):
    net, loss, x, y = of_kind(kind)
    if kind != "batch norm, evaluating":
        net.train()
    found, trace, moved = one_step(net, loss, x, y, optim.SGD(0.1), compiled)
    wanted = expected(trace, moved)
    for place, value in wanted.items():
        assert found[place] == pytest.approx(value, rel=1e-9, abs=1e-14), place
    assert {layer for layer, _ in found} == {n.rpartition(".")[0] for n, _ in net.named_parameters()}
    assert {q for _, q in found} <= {str(q) for q in Quantity}


@pytest.mark.parametrize("kind", ["linear", "positions", "convolution", "shared", "attention", "residual"])
def test_the_gradient_is_the_product_of_its_factors(kind):
    net, loss, x, y = of_kind(kind)
    found, _, _ = one_step(net, loss, x, y, optim.SGD(0.1), True)
    layers = [layer for layer, q in found if q == Quantity.AGREEMENT]
    assert layers
    for layer in layers:
        factors = [found[layer, q] for q in (Quantity.USES, Quantity.ACTIVATION, Quantity.ERROR, Quantity.AGREEMENT)]
        assert np.prod(factors) == pytest.approx(found[layer, Quantity.GRADIENT], rel=1e-12)
        assert 0 <= found[layer, Quantity.AGREEMENT] <= 1 + 1e-12


def test_agreement_leaves_out_what_penalties_add():
    kept = one_step(*of_kind("linear"), optim.SGD(0.1), True)[0]
    net, loss, x, y = of_kind("linear")
    _, _, x, y = of_kind("linear")
    plain = one_step(net, loss, x, y, optim.SGD(0.1), True)[0]
    again = of_kind("linear")[0]
    penalised = one_step(again, loss, x, y, optim.SGD(0.1), True, l1=0.01, l2=0.05)[0]
    assert penalised["0", Quantity.AGREEMENT] == pytest.approx(plain["0", Quantity.AGREEMENT], rel=1e-9)
    assert penalised["0", Quantity.GRADIENT] != pytest.approx(plain["0", Quantity.GRADIENT], rel=1e-3)
    assert kept.keys() == plain.keys()


def test_the_noise_is_the_standard_error_of_the_gradient_over_rows():
    net, loss, x, y = of_kind("linear")
    found, trace, _ = one_step(net, loss, x, y, optim.SGD(0.1), True)
    for layer in trace.layers:
        by_row = layer.delta[:, :, None] * layer.a[:, None, :]
        error = by_row.std(axis=0, ddof=1) / np.sqrt(ROWS)
        assert found[layer.name, Quantity.NOISE] == pytest.approx(rms(error), rel=1e-9)


def test_gains_multiply_to_the_error_of_the_layer_below():
    net, loss, x, y = of_kind("linear")
    found, trace, _ = one_step(net, loss, x, y, optim.SGD(0.1), True)
    lower, upper = trace.layers
    behind = upper.delta @ upper.weight
    assert found["0", Quantity.WEIGHT_GAIN] == pytest.approx(rms(behind) / rms(upper.delta), rel=1e-9)
    gains = found["0", Quantity.WEIGHT_GAIN] * found["0", Quantity.DERIVATIVE_GAIN]
    assert gains == pytest.approx(rms(lower.delta) / rms(upper.delta), rel=1e-9)


@pytest.mark.parametrize("optimizer", [optim.SGD(0.1, momentum=0.9), optim.Adam(0.01)], ids=str)
@pytest.mark.parametrize("options", [{}, {"clip": Clip(norm=0.01)}], ids=["", "clipped"])
def test_the_update_is_by_how_much_the_weights_moved(optimizer, options):
    for compiled in (True, False):
        net, loss, x, y = of_kind("residual")
        found, trace, moved = one_step(net, loss, x, y, optimizer, compiled, **options)
        for name in ("0", "1.0", "3"):
            if (name, "update") in found:
                assert found[name, "update"] == pytest.approx(rms(moved[f"{name}.weight"]), rel=1e-9)
                assert found[name, "weight"] == pytest.approx(rms(trace.parameters[f"{name}.weight"]), rel=1e-12)


def test_the_smallest_errors_in_float32_are_no_zeros():
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    x, y = np.random.default_rng(0).normal(size=(8, 4)).astype("f"), np.ones((8, 3), "f")
    net.initialise(0)
    net.load_state_dict({**net.state_dict(), "2.weight": np.full((3, 5), 1e-25, "f")})
    found, _, _ = one_step(net, "mse", x, y, optim.SGD(0.1), True)
    assert 0 < found["0", Quantity.ERROR] < 1e-24


# ------------------------------------------------------------------------------------------------ the same bits


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Dropout(0.2), nn.Linear(40, 33), nn.BatchNorm1d(33),
                         nn.Sigmoid(), nn.Linear(33, 10))  # fmt: skip


class Pictures(nn.Module):
    def forward(self, x):
        return x.reshape(x.shape[0], 1, 8, 8)


def convolution() -> nn.Module:
    return nn.Sequential(Pictures(), nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(54, 10))  # fmt: skip


def trained(make, probes, **options):
    x, y = IMAGES
    net = make()
    settings = {"loss": "cross_entropy", "optimizer": optim.Adam(1e-2), "epochs": 2, "batch_size": 50, "seed": 3}
    run = cr.fit(net, (x[:330], y[:330]), probes=probes, **{**settings, **options})
    return run, {n: a.tobytes() for n, a in net.state_dict().items()}


@pytest.mark.parametrize(
    ("make", "options"),
    [(mlp, {}), (convolution, {}), (mlp, {"clip_norm": 0.1, "l2": 1e-3}), (convolution, {"optimizer": optim.SGD(0.1)})],
    ids=["mlp", "convolution", "clipped", "sgd"],
)
def test_training_is_the_same_to_the_bit_with_probes_and_without(make, options):
    plain, weights = trained(make, None, **options)
    for probes in ("sampled", "every"):
        run, same = trained(make, probes, **options)
        assert same == weights
        assert run.losses == plain.losses
        assert run.history == plain.history
        assert run.measurements
    assert not plain.measurements


@pytest.mark.parametrize("threads", [1, 3, 4])
def test_probes_change_nothing_with_any_number_of_threads(threads):
    before = cr.threads()
    plain, weights = trained(mlp, None)
    try:
        cr.set_threads(threads)
        run, same = trained(mlp, "every")
    finally:
        cr.set_threads(before)
    assert same == weights
    assert run.losses == plain.losses


def test_a_resumed_run_measures_what_one_without_a_break_measures(tmp_path):
    whole, weights = trained(mlp, "every", run_dir=tmp_path / "whole", epochs=3)

    def broken(run, epoch, metrics):
        if epoch == 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        trained(mlp, "every", run_dir=tmp_path / "broken", epochs=3, callbacks=[broken], checkpoint_every=5)
    again, same = trained(mlp, "every", run_dir=tmp_path / "broken", epochs=3, resume=True, checkpoint_every=5)
    assert same == weights
    assert again.losses == whole.losses
    found, wanted = again.measurements, whole.measurements
    assert found.keys() == wanted.keys()
    for place, each in wanted.items():
        assert found[place].steps.tolist() == list(range(21))
        np.testing.assert_array_equal(found[place].values, each.values)


def test_the_record_of_a_run_holds_what_the_run_in_memory_holds(tmp_path):
    written, _ = trained(mlp, "every", run_dir=tmp_path / "run")
    memory, _ = trained(mlp, "every")
    for place, each in memory.measurements.items():
        np.testing.assert_array_equal(written.measurements[place].values, each.values)
    record = read_record(tmp_path / "run" / "record.sqlite")
    assert record.first("0", Quantity.WEIGHT) == memory.measurements["0", "weight"].first


def test_samples_are_those_of_every_step():
    every, _ = trained(mlp, "every")
    sampled, _ = trained(mlp, "sampled")
    for place, few in sampled.measurements.items():
        whole = every.measurements[place]
        assert few.steps[0] == 0
        assert len(few) < len(whole)
        np.testing.assert_allclose(few.values, whole.values[few.steps], rtol=1e-4, atol=1e-7)


def many(measures, rates, compiled=True):
    """(step, losses, error, what was measured) of updates in one call."""
    net = mlp().initialise(1)
    step = TrainingStep(lambda x, y: cr.cross_entropy(net(x), y), net, optim.Adam(1e-2), StepOptions(), None, seed=3)
    step.compiles_probes = compiled
    order = np.random.default_rng(0).permutation(len(IMAGES[0]))[: 30 * len(rates)].reshape(len(rates), 30)
    losses, error = step.many(IMAGES, order, rates, measures)
    return step, losses, error, step.take()


MIXED = [True, False, False, True, True, False, True, False, False, False, True, False]


@pytest.mark.parametrize("compiled", [True, False])
def test_measured_updates_among_others_in_one_call_are_the_same_to_the_bit(compiled):
    rates = np.linspace(1e-3, 1e-2, len(MIXED)).tolist()
    plain, losses, _, nothing = many((), rates)
    mixed, same, _, (few,) = many(MIXED, rates, compiled)
    every, _, _, (all_,) = many([True] * len(MIXED), rates, compiled)
    assert plain.state.theta.tobytes() == mixed.state.theta.tobytes() == every.state.theta.tobytes()
    assert losses.tobytes() == same.tobytes() and not nothing
    assert few.steps.tolist() == np.flatnonzero(MIXED).tolist()
    for place, values in few.columns.items():
        np.testing.assert_array_equal(values, all_.columns[place][few.steps])


@pytest.mark.parametrize("at", [3, 5])  # a measured one, and one that is not
@pytest.mark.parametrize("compiled", [True, False])
def test_a_refused_update_ends_the_call_whether_it_is_measured_or_not(at, compiled):
    rates = [1e-3] * at + [float("inf")] * (len(MIXED) - at)
    plain, losses, error, _ = many((), rates)
    mixed, same, also, (few,) = many(MIXED, rates, compiled)
    assert losses.tobytes() == same.tobytes() and len(losses) == at
    assert str(error) == str(also) and error.step == at + 1
    assert plain.state.theta.tobytes() == mixed.state.theta.tobytes()
    assert few.steps.tolist() == [s for s in np.flatnonzero(MIXED) if s < at]


# ------------------------------------------------------------------------------------------------ in which steps


def test_the_first_and_the_last_update_are_measured_and_an_end_of_an_epoch_seldom_twice():
    rate = ProbeRate(10, epoch=8)
    assert [s for s in range(25) if rate.due(s, last=s % 8 == 7, final=s == 24)] == [0, 7, 10, 15, 20, 24]
    # Of epochs that are shorter than the way from one measurement to the next one ends in a measurement.
    short = ProbeRate(20, epoch=3)
    assert [s for s in range(45) if short.due(s, last=s % 3 == 2, final=False)] == [0, 11, 20, 32, 40]
    assert not any(ProbeRate(0).due(s, last=True, final=True) for s in range(5))
    assert all(ProbeRate(1).due(s, last=False, final=False) for s in range(5))


def test_small_steps_are_measured_more_seldom():
    large, small = nn.Linear(784, 256).initialise(0), nn.Linear(4, 3).initialise(0)
    x = np.zeros((128, 4))
    assert rate_of("sampled", large, x, 1000, 1000).every < rate_of("sampled", small, x, 1000, 1000).every
    assert rate_of("sampled", large, x, 1000, 1000).compiled
    assert not rate_of("sampled", small, x, 10, 10).compiled


@pytest.mark.parametrize("wrong", ["always", True, 3])
def test_another_word_for_how_often_is_refused(wrong):
    with pytest.raises(ArgumentError, match="probes is 'sampled', 'every' or None"):
        trained(mlp, wrong)


# ------------------------------------------------------------------------------------------------ what follows


def test_the_first_value_that_is_not_finite_is_noted_in_the_record(tmp_path):
    with pytest.raises(NonFiniteError) as error:
        trained(mlp, "sampled", optimizer=optim.SGD(1e30), run_dir=tmp_path / "run")
    bad = read_record(tmp_path / "run" / "record.sqlite").facts.not_finite
    assert (bad.step, bad.operation, bad.layer) == (error.value.step, error.value.operation, error.value.layer)
    assert bad.step == 2
    assert bad.operation
    assert bad.text == str(error.value)


def sick() -> nn.Module:
    net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).initialise(0)
    net.load_state_dict({**net.state_dict(), "0.bias": np.full(16, -1e3, "f")})
    return net


def test_a_dead_layer_is_told_once_where_somebody_looks_and_never_where_nobody_does(capsys):
    trained(sick, "sampled", progress=False)
    assert not capsys.readouterr().out
    trained(sick, "sampled", progress=True, epochs=4)
    lines = [line for line in capsys.readouterr().out.splitlines() if "CR202" in line]
    assert len(lines) == 1
    assert "'0'" in lines[0]


def test_an_examination_keeps_what_the_probes_measured():
    run, _ = trained(mlp, "every")
    record = run.examine().record
    probed = run.measurements["0", "update"]
    assert record.measured("0", Quantity.UPDATE).values.tolist() == probed.values.tolist()
    assert record.first("0", Quantity.TWINS) is not None
