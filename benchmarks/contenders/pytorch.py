"""PyTorch: eager with fused Adam, or with the loss under torch.compile."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.workloads import Workload, epoch_data


def network(workload: Workload) -> nn.Sequential:
    layers: list[nn.Module] = []
    for weight, bias in workload.weights():
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Trained:
    """A module, its optimizer and one batch."""

    def __init__(self, workload: Workload, rows: int, option: str) -> None:
        self.net = network(workload)
        self.optimizer = torch.optim.Adam(self.net.parameters(), 1e-3, fused=True)
        self.first = copy.deepcopy(self.net.state_dict())
        self.x, self.y = map(torch.from_numpy, workload.batch(rows))
        loss = nn.CrossEntropyLoss()
        self.loss = lambda x, y: loss(self.net(x), y)
        if option == "compile":
            self.loss = torch.compile(self.loss)

    def step(self) -> None:
        self.on(self.x, self.y)

    def on(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(x, y).backward()
        self.optimizer.step()

    def reset(self) -> None:
        self.net.load_state_dict(self.first)
        self.optimizer.state.clear()


def epoch(workload: Workload, rows: int, option: str) -> Callable[[], None]:
    x, y, held_x, held_y = map(torch.from_numpy, epoch_data(workload, rows))
    trained = Trained(workload, workload.rows, option)

    def run() -> None:
        order = torch.randperm(rows)
        for start in range(0, rows, workload.rows):
            chosen = order[start : start + workload.rows]
            trained.on(x[chosen], y[chosen])
        with torch.no_grad():
            (trained.net(held_x).argmax(-1) == held_y).float().mean().item()

    return run
