"""Write a fault and its cure as a program: once in chainrule, once in PyTorch."""

from __future__ import annotations

from itertools import pairwise

from chainrule.cli.demos.program import Program

XOR = "[[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]", "[[0.0], [1.0], [1.0], [0.0]]"

TORCH_LOSSES = {"cross_entropy": "nn.CrossEntropyLoss()", "mse": "nn.MSELoss()", "mae": "nn.L1Loss()",
                "binary_cross_entropy": "nn.BCELoss()"}  # fmt: skip


def chainrule_script(title: str, look: str, sick: Program, cured: Program, change: str) -> str:
    """Trains the first network, looks at it, asks the doctor, and trains the cured one."""
    picture = "run.flow()" if look == "flow" else f'run.explain("{look}")'
    return "\n".join([
        f'"""{title}"""', "",
        *(["import numpy as np", ""] if sick.data == "xor" else []),
        "import chainrule as cr",
        "from chainrule import data, nn, optim" if sick.data == "digits" else "from chainrule import nn, optim", "",
        *_rows(sick, "np.array({}, np.float32)"), "", "",
        "def score(net, loss):",
        f"    right = {_right(sick, 'net.predict(held_x)', 'argmax(1)')}",
        '    return f"loss {loss(net(x), y).item():.4f}, {right.mean():.1%} right"', "", "",
        "# The network that does not learn.",
        *_chainrule_training(sick),
        f'print("before:", score(net, cr.{sick.loss}))',
        f"print({picture})",
        "print(run.examine())", "",
        f"# The cure. {change}",
        *_new_rows(sick, cured),
        *_chainrule_training(cured),
        f'print("after:", score(net, cr.{cured.loss}))', "",
    ])  # fmt: skip


def pytorch_script(title: str, sick: Program, cured: Program, change: str) -> str:
    """The same in PyTorch, with the three added lines that watch the first training."""
    return "\n".join([
        f'"""{title} The same in PyTorch."""', "",
        "import torch", "from torch import nn", "",
        "import chainrule as cr",
        *(["from chainrule import data"] if sick.data == "digits" else []), "",
        "torch.manual_seed(0)",
        *_rows(sick, "torch.tensor({})"), "", "",
        "def train(model, optimizer, criterion):",
        f"    for _ in range({sick.epochs}):",
        f"        for rows in torch.randperm(len(x)).split({sick.batch_size}):",
        "            optimizer.zero_grad()",
        "            loss = criterion(model(x[rows]), y[rows])",
        "            loss.backward()",
        "            optimizer.step()", "", "",
        "def score(model, criterion):",
        "    with torch.no_grad():",
        f"        right = {_right(sick, 'model(held_x)', 'argmax(1)')}",
        '        return f"loss {criterion(model(x), y).item():.4f}, {right.float().mean().item():.1%} right"', "", "",
        "# The network that does not learn.",
        *_torch_model(sick),
        "with cr.watch(model, optimizer, loss=criterion):",
        "    train(model, optimizer, criterion)",
        'print("before:", score(model, criterion))', "",
        f"# The cure. {change}",
        *_new_rows(sick, cured),
        *_torch_model(cured),
        "train(model, optimizer, criterion)",
        'print("after:", score(model, criterion))', "",
    ])  # fmt: skip


def _rows(program: Program, array: str) -> list[str]:
    if program.data == "xor":
        return [f"x, y = {', '.join(array.format(part) for part in XOR)}", "held_x, held_y = x, y"]
    lines = ['(x, y), (held_x, held_y) = data.load("digits")']
    if "torch" in array:
        lines.append("x, y, held_x, held_y = map(torch.tensor, (x, y, held_x, held_y))")
    if program.inputs_times != 1:
        lines.append(f"x, held_x = x * {program.inputs_times!r}, held_x * {program.inputs_times!r}")
    return lines


def _new_rows(sick: Program, cured: Program) -> list[str]:
    if sick.inputs_times == cured.inputs_times:
        return []
    return [f"x, held_x = x / {sick.inputs_times!r}, held_x / {sick.inputs_times!r}"]


def _right(program: Program, output: str, largest: str) -> str:
    return f"({output} > 0.5) == held_y" if program.data == "xor" else f"{output}.{largest} == held_y"


def _layers(program: Program, options: str) -> list[str]:
    """The lines inside nn.Sequential(...), the same in both worlds but for the initialiser."""
    lines = []
    for i, (inputs, outputs) in enumerate(pairwise(program.widths)):
        after = f", nn.{program.activation}()" if i < program.depth else ""
        lines.append(f"    nn.Linear({inputs}, {outputs}{options}){after},")
    return [*lines, *([f"    nn.{program.last}({TORCH_ROWS[program.last]}),"] if program.last else [])]


TORCH_ROWS = {"Softmax": "-1", "Sigmoid": "", "ReLU": ""}
"""What the last activation is given: PyTorch's softmax asks over which axis."""


def _chainrule_training(program: Program) -> list[str]:
    options = "" if program.init.name == "auto" else f", init={program.init.expression}"
    loss = f"lambda output, truth: cr.{program.loss}(output, truth)" if program.own_loss else f'"{program.loss}"'
    skip = ', on_nan="skip"' if program.on_nan == "skip" else ""
    return [
        "net = nn.Sequential(", *_layers(program, options), ")",
        "run = cr.fit(",
        f"    net, (x, y), loss={loss}, optimizer=optim.{program.optimizer}({program.lr!r}),",
        f"    epochs={program.epochs}, batch_size={program.batch_size}, seed=0, progress=False{skip},",
        ")",
    ]  # fmt: skip


def _torch_model(program: Program) -> list[str]:
    return [
        "model = nn.Sequential(", *_layers(program, ""), ")",
        "for layer in model:",
        "    if isinstance(layer, nn.Linear):",
        f"        {program.init.torch_call(program.activation)}",
        "        nn.init.zeros_(layer.bias)",
        f"optimizer = torch.optim.{program.optimizer}(model.parameters(), lr={program.lr!r})",
        f"criterion = {TORCH_LOSSES[program.loss]}",
    ]  # fmt: skip
