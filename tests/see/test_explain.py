"""Explanations: parts add up to the gradient of the step, for every layer; factors multiply to it; PyTorch agrees."""

import gc
import json
import warnings
import weakref

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops, optim
from chainrule.errors import ArgumentError, ShapeError
from chainrule.see import explain_trace
from chainrule.see.pinned import _variants, pinned
from chainrule.training.options import checked_options
from chainrule.training.step import TrainingStep
from networks import KINDS, MIXING, gradients_of_the_step, of_kind, random_network
from peers import peer

BOUND = {"float64": 1e-12, "float32": 1e-5}
"""Relative to the sum of the absolute parts."""


def entries(trace, most=3, seed=0):
    """Names of a few entries of every parameter."""
    draw = np.random.default_rng(seed)
    for name, gradient in trace.gradients.items():
        for _ in range(min(most, gradient.size)):
            index = [int(draw.integers(n)) for n in gradient.shape]
            yield f"{name}[{', '.join(map(str, index))}]"


def sizes_of_parts(explanation):
    """Σ of the absolute values of all products that make the derivative."""
    products = [np.abs(u.activation * u.error).sum() / explanation.trace.rows for _, u in explanation._uses]
    return float(sum(products)) + float(np.abs(explanation.by_sample).sum()) + 1e-300


def check_that_it_adds_up(trace, name, bound):
    it = explain_trace(trace, name)
    whole = sizes_of_parts(it)
    assert abs(it.by_sample.sum() + it.penalty - it.gradient) <= bound * whole, name
    if it.factors is not None:
        assert abs(it.factors.product - it.by_sample.sum()) <= bound * whole, name
        assert abs(it.factors.agreement) <= 1 + 1e-12
    if it.gradient and abs(it.gradient) > 1e3 * bound * whole:
        shares = 100 * np.append(it.by_sample, it.penalty) / it.gradient
        assert shares.sum() == pytest.approx(100, rel=bound * whole / abs(it.gradient))
    if it.paths:
        size = sum(abs(p.value) for p in it.paths) + whole
        # Sums over samples and units above cancel among themselves, behind a norm most of all.
        assert abs(sum(p.value for p in it.paths) - it.gradient) <= 1e4 * bound * size, name
        for path in it.paths:
            if path.above:
                size = sum(abs(p.value) for p in path.above) + whole
                assert abs(sum(p.value for p in path.above) - path.value) <= 1e4 * bound * size, (name, path.name)
    if it.chain is not None:
        assert it.chain.value == pytest.approx(np.prod([f.value for f in it.chain.factors]), rel=1e-12, abs=1e-300)
        size = abs(it.chain.value) + abs(it.chain.others) + whole
        assert abs(it.chain.value + it.chain.others - it.by_sample[it.sample]) <= bound * size
    return it


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("seed", range(20))
def test_parts_add_up_to_the_gradient_that_the_compiled_step_used(seed, dtype):
    net, loss, x, y = random_network(seed, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cr.errors.UnreachableWarning)
        found = gradients_of_the_step(net, loss, x, y)
    for name, gradient in found["trace"].gradients.items():
        np.testing.assert_array_equal(gradient, found["used"][name], err_msg=name)
    for name in entries(found["trace"], 2, seed):
        check_that_it_adds_up(found["trace"], name, BOUND[dtype])


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer_adds_up(kind, dtype):
    net, loss, x, y = of_kind(kind, dtype)
    trace = pinned(net, cr.ops.LOSSES[loss], x, y)
    explained = {name for layer in trace.layers for name in layer.parameters()}
    assert explained == set(trace.gradients)
    for name in entries(trace):
        check_that_it_adds_up(trace, name, BOUND[dtype])


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in MIXING])
def test_what_a_sample_adds_is_its_own_gradient(kind):
    net, loss, x, y = of_kind(kind)
    _, alone = cr.gradients(net, loss, x, y, per_sample=True)
    trace = pinned(net, cr.ops.LOSSES[loss], x, y)
    for name in entries(trace):
        it = explain_trace(trace, name)
        np.testing.assert_allclose(it.by_sample, alone[it.place.name][(slice(None), *it.place.index)], rtol=1e-9,
                                   atol=1e-14, err_msg=name)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_finite_difference_beside_it_agrees(kind):
    net, loss, x, y = of_kind(kind)
    names = list(entries(pinned(net, cr.ops.LOSSES[loss], x, y), 1))
    for name in names:
        it = cr.explain(net, loss, x, y, name)
        assert it.finite_difference == pytest.approx(it.gradient, rel=1e-5, abs=1e-8), name


@pytest.mark.parametrize("kind", ["linear", "convolution", "residual", "layer norm", "shared", "lstm"])
def test_inputs_pre_activations_and_activations_are_explained_like_weights(kind):
    net, loss, x, y = of_kind(kind)
    trace = pinned(net, cr.ops.LOSSES[loss], x, y)
    first = {"convolution": "x[1, 2, 3]", "lstm": "x[4, 1]"}.get(kind, "x[2]")
    for name in (first, "z1[0]", "a1[1]"):
        it = check_that_it_adds_up(trace, name, 1e-12)
        assert it.finite_difference == pytest.approx(it.gradient, rel=1e-5, abs=1e-8), name
    _, gradients = cr.gradients(net, loss, x, y, wrt="inputs")
    it = explain_trace(trace, first)
    np.testing.assert_allclose(it.by_sample, gradients["x"][(slice(None), *it.place.index)], rtol=1e-10, atol=1e-15)


def test_native_and_reference_say_the_same():
    net, loss, x, y = of_kind("attention")
    a, b = (pinned(net, cr.ops.LOSSES[loss], x, y, backend) for backend in ("native", "reference"))
    for name in entries(a):
        np.testing.assert_allclose(explain_trace(a, name).by_sample, explain_trace(b, name).by_sample, rtol=1e-9,
                                   atol=1e-14)  # fmt: skip


def test_activations_errors_and_gradients_are_those_of_pytorchs_hooks():
    torch = peer("torch")
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).double()
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).to("float64")
    net.load_state_dict({n: t.numpy() for n, t in model.state_dict().items()})
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(7, 4)), draw.integers(0, 3, 7)
    seen = {}
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_hook(lambda m, i, o, name=name: seen.update({name: [i[0].detach(), o.detach()]}))
            layer.register_full_backward_hook(lambda m, i, o, name=name: seen[name].append(o[0]))
    given = torch.tensor(x, requires_grad=True)
    torch.nn.functional.cross_entropy(model(given), torch.tensor(y)).backward()
    trace = cr.explain(net, "cross_entropy", x, y).trace
    for layer in trace.layers:
        for ours, theirs in zip((layer.a, layer.z, layer.delta / 7), seen[layer.name], strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-15)
    for name, p in model.named_parameters():
        np.testing.assert_allclose(trace.gradients[name], p.grad.numpy(), rtol=1e-11, atol=1e-15)


OPTIMIZERS = [
    optim.SGD(0.1), optim.SGD(0.1, momentum=0.9, dampening=0.2, weight_decay=0.01),
    optim.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01), optim.SGD(0.1, maximize=True),
    optim.Adagrad(0.1, weight_decay=0.01), optim.RMSprop(0.1, momentum=0.5, centered=True, weight_decay=0.01),
    optim.Adam(0.1), optim.Adam(0.1, weight_decay=0.1, amsgrad=True), optim.AdamW(0.1, weight_decay=0.1),
]  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("clipping", [{}, {"clip_norm": 0.05}, {"clip_value": 0.003}], ids=str)
def test_the_terms_of_an_update_add_up_to_what_the_weight_does(optimizer, clipping):
    net, loss, x, y = of_kind("linear")
    run = cr.fit(net, (x, y), loss=loss, optimizer=optimizer, epochs=3, batch_size=3, shuffle=False, seed=5, l2=0.01,
                 progress=False, **clipping)  # fmt: skip
    it = run.explain("0.weight[2, 1]")
    before = net.state_dict()["0.weight"][2, 1]
    step = TrainingStep(
        lambda x, y: cr.mse(net(x), y), net, optimizer,
        checked_options(clipping.get("clip_norm"), clipping.get("clip_value"), 0.0, 0.01), None, 5,
    )  # fmt: skip
    for slot, flat in step.state.moments.items():
        for name, view in zip(step.state.names, step.state.views(flat), strict=True):
            view[...] = run.kept.moments[slot][name]
    step.state.step = run.step
    step(run.kept.batches[0], optimizer.lr)
    moved = net.state_dict()["0.weight"][2, 1] - before
    assert sum(it.update.terms.values()) == pytest.approx(moved, rel=1e-9, abs=1e-15)
    assert it.update.before == before and it.update.after == pytest.approx(before + moved, rel=1e-12)
    named = set(it.update.terms)
    assert {"this gradient", "penalty"} <= named
    assert ("older batches" in named) == bool(set(optimizer.slots) & {"momentum_buffer", "exp_avg"})
    assert ("decay" in named) == bool(getattr(optimizer, "weight_decay", 0))


def test_reasons_for_exact_zeros_are_counted():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).to("float64")
    net.load_state_dict({"0.weight": [[1.0, 1.0], [1.0, -1.0]], "0.bias": [0.0, 0.0], "2.weight": [[1.0, 1.0]],
                         "2.bias": [0.0]})  # fmt: skip
    x = np.array([[0.0, 1.0], [-3.0, 1.0], [2.0, 1.0], [0.5, 0.0]])
    it = cr.explain(net, "mse", x, np.array([[0.0], [0.0], [0.0], [0.5 + 0.5]]), "0.weight[0, 0]")
    assert it.zeros == {"input is 0": 1, "relu is off": 1, "no error arrives": 1}
    assert "exactly 0: input is 0" in str(it)
    assert cr.explain(net, "mse", x, np.zeros((4, 1)), "2.weight[0, 1]").zeros == {
        "its input activation is 0: relu is off below": 2
    }


def test_the_chain_is_the_lectures_product():
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Sigmoid()).to("float64")
    net.load_state_dict({"0.weight": [[0.5]]})
    chain = cr.explain(net, "mse", [[2.0]], [[1.0]], "W1[0, 0]").chain
    a = 1 / (1 + np.exp(-1.0))
    assert [f.symbol for f in chain.factors] == ["dL/df", "df/dz1[0]", "dz1[0]/dW1[0, 0]"]
    np.testing.assert_allclose([f.value for f in chain.factors], [2 * (a - 1), a * (1 - a), 2.0], rtol=1e-12)


def test_a_module_and_an_index_a_layer_and_top_are_names_too():
    net, loss, x, y = of_kind("linear")
    same = {str(cr.explain(net, loss, x, y, n)) for n in ("0.weight[1, 2]", "W1[1,2]", "0[1, 2]", (net[0], (1, 2)))}
    assert len(same) == 1
    whole = cr.explain(net, loss, x, y)
    flat = np.concatenate([g.ravel() for g in whole.trace.gradients.values()])
    assert len(whole.largest) == 10 and whole.gradient == flat[np.abs(flat).argmax()]
    three = cr.explain(net, loss, x, y, "2.top(3)")
    assert len(three.largest) == 3 and all(n.startswith("2.") for n, _ in three.largest)
    assert cr.explain(net, loss, x, y, "2.weight").name == cr.explain(net, loss, x, y, "W2").name


@pytest.mark.parametrize(
    "name, words",
    [
        ("0.wait[1, 2]", "did you mean '0.weight'.*0.weight \\[5, 4\\].*W1"),
        ("0.weight[5, 0]", "index 5 is out of range.*axis 0 goes from 0 to 4"),
        ("0.weight[1]", "has 2 axes"), ("0.weight[a, b]", "whole numbers"), ("z9[1]", "nothing is called 'z9'"),
        ("7.top(2)", "no layer is called '7': there are 0, 2"), ((nn.ReLU(), 1), "one of the network's modules"),
    ],
)  # fmt: skip
def test_unknown_names_list_what_there_is(name, words):
    net, loss, x, y = of_kind("linear")
    with pytest.raises(ArgumentError, match=words):
        cr.explain(net, loss, x, y, name)


def test_misuse_is_named():
    net, loss, x, y = of_kind("linear")
    with pytest.raises(ArgumentError, match="sample is a row of the batch, from 0 to 5"):
        cr.explain(net, loss, x, y, "0.weight[0, 0]", sample=6)
    with pytest.raises(ArgumentError, match="explain takes a chainrule"):
        cr.explain(loss, net, x, y)
    with pytest.raises(ShapeError, match="needs rows"):
        cr.explain(net, loss, x[:0], y[:0])
    net[0].requires_grad_(False)
    with pytest.raises(ArgumentError, match=r"0\.weight is frozen"):
        cr.explain(net, loss, x, y, "0.weight[0, 0]")


def test_a_weight_without_a_path_says_so():
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.cut = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.used(x) + cr.stop_gradient(self.cut(x))

    it = cr.explain(Cut(), "mse", np.ones((3, 4)), np.ones((3, 3)), "cut.weight[0, 1]")
    assert it.gradient == 0 and "stop_gradient" in it.sensitivity and not it.by_sample.any()
    assert "stop_gradient" in next(iter(it.zeros))


def test_explanations_are_plain_data_for_programs():
    for kind in ("linear", "own", "lstm"):
        net, loss, x, y = of_kind(kind)
        it = cr.explain(net, loss, x, y, optimizer=optim.Adam())
        again = json.loads(json.dumps(it.to_dict(), allow_nan=False))
        assert again["gradient"] == it.gradient and sum(again["by_sample"]) == pytest.approx(it.gradient)
        assert all(len(line) < 130 for line in str(it).splitlines()) and len(str(it).splitlines()) < 45


def test_a_second_look_traces_nothing_and_all_goes_with_the_network():
    net, loss, x, y = of_kind("linear")
    first = cr.explain(net, loss, x, y)
    held = dict(_variants[net])
    net[0].weight.array[...] += 0.1
    second = cr.explain(net, loss, x, y)
    assert _variants[net] == held and second.trace.loss != first.trace.loss
    alive = weakref.ref(net)
    del net, first, second, held
    gc.collect()
    assert alive() is None


def test_looking_changes_nothing():
    net, loss, x, y = of_kind("batch norm")
    before = net.state_dict()
    str(cr.explain(net, loss, x, y)), str(cr.flow(net, loss, x, y))
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_a_loop_of_ones_own_is_explained_by_time_step():
    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.u = nn.Parameter((3, 3), nn.Normal(0.5)), nn.Parameter((3, 2), nn.Normal(0.5))

        def forward(self, x):
            def step(h, row):
                h = ops.tanh(ops.linear(h, self.w) + ops.linear(row, self.u))
                return h, h

            last, _ = cr.scan(step, ops.as_tensor(np.zeros((x.shape[0], 3))), x.permute_dims((1, 0, 2)))
            return last

    net = Cell().to("float64")
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(4, 5, 2)), draw.normal(size=(4, 3))
    it = cr.explain(net, "mse", x, y, "w[0, 1]")
    assert it.factors.uses == 5 and it.trace.layers[0].uses == "time step"
    _, alone = cr.gradients(net, "mse", x, y, per_sample=True)
    np.testing.assert_allclose(it.by_sample, alone["w"][:, 0, 1], rtol=1e-10)
