"""The flow: logarithms that add up, links on any graph, and the first link at which the error is lost."""

import json
import subprocess
import sys

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.record.trace import LOSS, LayerTrace, Link, NetworkTrace, patches_of, rms
from chainrule.see import explain_trace, flow_trace
from chainrule.see.pinned import pinned
from networks import KINDS, of_kind
from peers import peer


@pytest.mark.parametrize("kind", KINDS)
def test_logarithms_add_up_for_every_parameter_and_link(kind):
    net, loss, x, y = of_kind(kind)
    flow = cr.flow(net, loss, x, y)
    _, gradients = cr.gradients(net, loss, x, y)
    assert {row["name"] for row in flow.table()} == set(gradients)
    for row in flow.rows:
        assert row.gradient == pytest.approx(np.sqrt(np.mean(gradients[row.name] ** 2)), rel=1e-10, abs=1e-18)
        if row.logs is not None:
            assert sum(row.logs.values()) == pytest.approx(np.log10(row.gradient), abs=1e-12)
        if row.agreement is not None and row.form in ("linear", "matmul"):
            assert row.agreement <= 1 + 1e-12
    for link in flow.links:
        if link.logs is not None:
            assert sum(link.logs.values()) == pytest.approx(np.log10(link.gain), abs=1e-12)
    assert json.loads(json.dumps(flow.to_dict(), allow_nan=True))["first_trouble"] == flow.first_trouble
    assert len(str(flow).splitlines()) > 5


def test_factors_are_the_root_mean_squares_of_the_layer():
    net, loss, x, y = of_kind("linear")
    trace = pinned(net, cr.mse, x, y)
    row = cr.flow(net, loss, x, y).table()[2]
    layer = trace.layers[1]
    assert row["name"] == "2.weight"
    assert row["activation"] == pytest.approx(np.sqrt((layer.a**2).mean()), rel=1e-12)
    assert row["error"] == pytest.approx(np.sqrt((layer.delta**2).mean()), rel=1e-12)
    both = np.array([[np.mean(layer.a[:, i] * layer.delta[:, j]) for i in range(5)] for j in range(3)])
    assert row["gradient"] == pytest.approx(np.sqrt((both**2).mean()), rel=1e-10)


def test_what_arrives_over_both_branches_of_a_residual_link_is_the_error():
    net, _, x, y = of_kind("residual")
    trace = pinned(net, cr.mse, x, y)
    names = [layer.name for layer in trace.layers]
    fed_by_first = {names[k.child] for k in trace.links if k.parent == 0 and k.child != LOSS}
    assert fed_by_first == {"1.body.0", "3"}
    assert explain_trace(trace, "0.bias[1]").paths[0].name


def test_ten_sigmoid_layers_lose_the_error_and_the_first_such_link_is_named():
    layers = [part for _ in range(10) for part in (nn.Linear(8, 8), nn.Sigmoid())]
    net = nn.Sequential(*layers, nn.Linear(8, 1)).to("float64").initialise(0)
    draw = np.random.default_rng(0)
    flow = cr.flow(net, "mse", draw.normal(size=(32, 8)), draw.normal(size=(32, 1)))
    local = [link.local for link in flow.links if "sigmoid" in link.through]
    assert len(local) == 10 and max(local) <= 0.25
    assert "is lost between" in flow.first_trouble and "the local derivative shrinks it most" in flow.first_trouble
    arrived = [link.arrived for link in flow.links if link.source in flow.first_trouble.split("between ")[1]]
    assert min(arrived) < 1e-3


def test_large_weights_explode_and_zero_weights_lose_all():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(16, 8)), draw.normal(size=(16, 1))
    big = nn.Sequential(*[nn.Linear(8, 8, init=nn.Normal(std=9.0)) for _ in range(4)], nn.Linear(8, 1))
    assert "the error is exploding between" in cr.flow(big, "mse", x, y).first_trouble
    nil = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 1, init=nn.Zeros()))
    assert "exactly 0 arrives, as its weights are 0" in cr.flow(nil, "mse", x, y).first_trouble


def test_a_trace_alone_is_enough_and_loads_neither_networks_nor_compilers():
    program = """
import sys
import numpy as np
from chainrule.record.trace import LOSS, LayerTrace, Link, NetworkTrace
from chainrule.see import explain_trace, flow_trace
draw = np.random.default_rng(0)
x, w1, w2 = draw.normal(size=(5, 3)), draw.normal(size=(4, 3)), draw.normal(size=(2, 4))
z1 = x @ w1.T; a1 = np.tanh(z1); z2 = a1 @ w2.T
d2 = 2 * z2 / 2; d1 = d2 @ w2 * (1 - a1**2)
size = lambda a: float(np.sqrt(np.mean(a**2)))
layers = (LayerTrace("0", "Linear", x, z1, d1, w1, activation="tanh", local_derivative=1 - a1**2),
          LayerTrace("2", "Linear", a1, z2, d2, w2))
links = (Link(0, 1, size(d2), size(d2 @ w2), size(d1), 1 - a1**2, ("tanh",)), Link(1, LOSS, 1.0, 1.0, size(d2)))
trace = NetworkTrace(layers, float((z2**2).mean()), 5, x=x, links=links,
                     gradients={"0.weight": d1.T @ x / 5, "2.weight": d2.T @ a1 / 5})
it = explain_trace(trace, "0.weight[1, 2]")
assert abs(it.by_sample.sum() - it.gradient) < 1e-15
assert abs(it.chain.value + it.chain.others - it.by_sample[it.sample]) < 1e-15
assert abs(sum(p.value for p in it.paths) - it.gradient) < 1e-15 and str(it) and str(flow_trace(trace))
print([m for m in sys.modules if m.startswith(("chainrule.nn", "chainrule.compiler", "chainrule.graph", "llvmlite"))])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_windows_are_what_a_convolution_multiplies_with():
    torch = peer("torch")
    draw = np.random.default_rng(0)
    images, kernel = draw.normal(size=(2, 3, 7, 6)), draw.normal(size=(4, 3, 3, 2))
    cut = patches_of(images, (3, 2), (2, 1), ((1, 1), (0, 0)), (1, 2))
    ours = np.einsum("nijckl,ockl->noij", cut, kernel)
    theirs = torch.nn.functional.conv2d(torch.tensor(images), torch.tensor(kernel), None, (2, 1), (1, 0), (1, 2))
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-12)


def test_sizes_that_leave_float32_are_no_infinite_errors():
    assert rms(np.full(4, 1e25, np.float32)) == pytest.approx(1e25, rel=1e-6)
    assert rms(np.full(4, 1e-30, np.float32)) == pytest.approx(1e-30, rel=1e-6)
    assert rms(np.zeros(0)) == 0


def test_it_can_be_drawn():
    matplotlib = peer("matplotlib")
    matplotlib.use("Agg")
    net, loss, x, y = of_kind("linear")
    axes = cr.flow(net, loss, x, y).plot()
    assert axes.get_yscale() == "log" and len(axes.get_lines()) == 5
    matplotlib.pyplot.close(axes.figure)


def test_a_link_of_nothing_has_no_gain():
    link = Link(0, 1, 0.0, 0.0, 0.0)
    assert (link.gain, link.weights, link.local, link.cross) == (0, 0, 0, 0)
    layer = LayerTrace("0", "Linear", np.ones((2, 1)), np.ones((2, 1)), np.zeros((2, 1)), np.ones((1, 1)))
    flow = flow_trace(NetworkTrace((layer,), 0.0, 2, gradients={"0.weight": np.zeros((1, 1))}))
    assert flow.table()[0]["logs"] is None
