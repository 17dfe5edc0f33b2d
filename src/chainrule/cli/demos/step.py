"""The demonstration ``step``: the whole pipeline of backpropagation on a 2-2-1 network, in numbers."""

from __future__ import annotations

from typing import Any

from chainrule.cli.demos.demo import Demo
from chainrule.cli.output import Output

ETA = 0.5

SCRIPT = '''\
"""One training step of a 2-2-1 network: data, forward, loss, backward, update, and the loss again."""

import numpy as np

import chainrule as cr
from chainrule import nn, optim

net = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1), nn.Sigmoid()).to("float64")
net.load_state_dict(
    {
        "0.weight": np.array([[0.1, 0.4], [-0.3, 0.2]]),
        "0.bias": np.array([0.0, 0.1]),
        "2.weight": np.array([[0.5, -0.6]]),
        "2.bias": np.array([0.05]),
    }
)
x, y = np.array([[1.0, 0.5]]), np.array([[1.0]])
eta = 0.5

step = cr.derivation(net, "mse", x, y, optim.SGD(eta), inputs=True)
print(step)

for name, value in step.values.items():
    print(f"{name:6} {np.array2string(value, precision=6)}")

gradients = [step.values[f"d[{name}]"] for name in ("W1", "b1", "W2", "b2")]
predicted = step.loss - eta * sum(float((g * g).sum()) for g in gradients)
net.load_state_dict({label: step.values[f"{name}'"] for name, label in step.names.items()})
observed = cr.mse(net(x), y).item()
print(f"loss {step.loss:.6f}, predicted {predicted:.6f}, observed {observed:.6f}")
'''


def run(output: Output) -> dict[str, Any]:
    """Show the pipeline in one screen; its numbers as plain data."""
    found = numbers()
    output.show("\n".join(lines(found)))
    return {"schema": 1, "demo": DEMO.name, **found}


def numbers() -> dict[str, Any]:
    """Every value of the step by its name, as lists; the loss before, predicted and after."""
    import numpy as np

    import chainrule as cr
    from chainrule import nn, optim

    net = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1), nn.Sigmoid()).to("float64")
    weights = ([[0.1, 0.4], [-0.3, 0.2]], [0.0, 0.1], [[0.5, -0.6]], [0.05])
    net.load_state_dict({n: np.array(w) for n, w in zip(net.state_dict(), weights, strict=True)})
    x, y = np.array([[1.0, 0.5]]), np.array([[1.0]])
    step = cr.derivation(net, "mse", x, y, optim.SGD(ETA), inputs=True)
    values = {name: value.tolist() for name, value in step.values.items() if name != "key"}
    gradients = [step.values[f"d[{name}]"] for name in step.names]
    squares = sum(float((g * g).sum()) for g in gradients)
    before = float(step.values["L"])
    net.load_state_dict({label: step.values[f"{name}'"] for name, label in step.names.items()})
    observed = cr.mse(net(x), y).item()
    return {
        "eta": ETA,
        "values": values,
        "loss": {"before": before, "predicted": before - ETA * squares, "observed": observed},
        "squared_gradient": squares,
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The pipeline, one part after another."""
    v, loss = found["values"], found["loss"]
    x, z1, a1, delta1, dx = (v[n][0] for n in ("x", "z1", "a1", "d[z1]", "d[x]"))
    y, z2, f, df, delta2 = (v[n][0][0] for n in ("y", "z2", "a2", "d[a2]", "d[z2]"))
    w2, slopes = v["W2"][0], [a * (1 - a) for a in a1]
    chain = (df, f * (1 - f), w2[0], slopes[0], x[0])
    w, new_w, g = v["W1"][0][0], v["W1'"][0][0], v["d[W1]"][0][0]
    return [
        f"One training step of a 2-2-1 network: sigmoid neurons, mean squared error, eta = {found['eta']}",
        "",
        *_part("data", [("x", x, "the input"), ("y", y, "the truth")]),
        *_part("weights", [("W1, b1", [*v["W1"], v["b1"]], ""), ("W2, b2", [w2, v["b2"]], "")]),
        *_part("forward", [
            ("z1 = W1 x + b1", z1, "weighted sums"),
            ("a1 = sigmoid(z1)", a1, "activations"),
            ("z2 = W2 a1 + b2", z2, ""),
            ("f  = sigmoid(z2)", f, "the output, or prediction"),
        ]),
        *_part("residual", [("f - y", f - y, "output - truth")]),
        *_part("loss", [("L = (f - y)^2", loss["before"], "the mean of one square")]),
        *_part("local", [
            ("dL/df   = 2 (f - y)", df, "how the loss follows the output"),
            ("df/dz2  = f (1 - f)", f * (1 - f), "the slope, at most 1/4"),
            ("dz2/da1 = W2", w2, ""),
            ("da1/dz1 = a1 (1 - a1)", slopes, ""),
            ("dz1/dW1 = x,  dz1/dx = W1", [x, *v["W1"]], ""),
        ]),
        *_part("errors", [
            ("dL/dz2 = dL/df · df/dz2", delta2, "the chain rule, first link"),
            ("dL/dz1 = dL/dz2 · W2 · da1/dz1", delta1, "carried back through W2"),
        ]),
        *_part("gradients", [
            ("dL/dW2 = dL/dz2 · a1", v["d[W2]"][0], "output error x input activation"),
            ("dL/db2 = dL/dz2", v["d[b2]"], ""),
            ("dL/dW1 = dL/dz1 · x", v["d[W1]"], "error x input"),
            ("dL/db1 = dL/dz1", v["d[b1]"], ""),
            ("dL/dx  = dL/dz1 · W1", dx, "both paths added up"),
        ]),
        f"one weight w = W1[0, 0]: dL/dw = {' · '.join(_number(c) for c in chain)} = {_number(g)}",
        "           dL/df · df/dz2 · dz2/da1 · da1/dz1 · dz1/dw",
        f"update     w = w - eta · dL/dw: {_number(w)} - {found['eta']} · ({_number(g)}) = {_number(new_w)}",
        *_part("", [("new W1, b1", [*v["W1'"], v["b1'"]], ""), ("new W2, b2", [v["W2'"][0], v["b2'"]], "")]),
        f"new loss   predicted  L - eta · |dL/dw|^2 = {_number(loss['before'])} - {found['eta']} · "
        f"{_number(found['squared_gradient'])} = {_number(loss['predicted'])}",
        f"           observed   {_number(loss['observed'])}: the loss fell by "
        f"{_number(loss['before'] - loss['observed'])}, as the gradient said",
    ]  # fmt: skip


def _part(title: str, entries: list[tuple[str, Any, str]]) -> list[str]:
    rows = []
    for i, (formula, value, words) in enumerate(entries):
        line = f"{title if i == 0 else '':10} {formula:30} {_shown(value):26} {words}"
        rows.append(line.rstrip())
    return rows


def _number(value: float) -> str:
    return f"{value:.4f}"


def _shown(value: Any) -> str:
    """A number, a vector in brackets, or several of them side by side."""
    if not isinstance(value, list):
        return f"{value:8.4f}"
    if any(isinstance(entry, list) for entry in value):
        return "  ".join(_shown(entry).strip() for entry in value)
    return f" [{', '.join(_number(entry) for entry in value)}]"


DEMO = Demo(
    "step",
    "one training step on a 2-2-1 network: forward, residual, loss, chain rule, update, new loss",
    run,
    {"chainrule": SCRIPT},
    ("demo", "step", "--code"),
)
