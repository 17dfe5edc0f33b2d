"""chainrule through its own front door, ``@chainrule.step``."""

from __future__ import annotations

import threading
from collections.abc import Callable

import chainrule as cr
from benchmarks.workloads import Workload, epoch_data
from chainrule import nn, optim


def network(workload: Workload) -> nn.Sequential:
    layers: list[nn.Module] = []
    for weight, _ in workload.weights():
        layers += [nn.Linear(weight.shape[1], weight.shape[0]), nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    names = [name for name, _ in net.named_parameters()]
    arrays = [array for pair in workload.weights() for array in pair]
    net.load_state_dict(dict(zip(names, arrays, strict=True)))
    return net


def compiled(net: nn.Sequential, backend: str):
    @cr.step(net, optim.Adam(1e-3), backend=backend)
    def step(x, y):
        return cr.cross_entropy(net(x), y)

    return step


class Trained:
    """A network bound to its compiled step."""

    def __init__(self, workload: Workload, rows: int, backend: str) -> None:
        self.x, self.y = workload.batch(rows)
        self.first = [array for pair in workload.weights() for array in pair]
        self.taken = compiled(network(workload), backend)

    def step(self) -> None:
        self.taken(self.x, self.y)

    def reset(self) -> None:
        state = self.taken.inner.state
        for view, array in zip(state.views(state.theta), self.first, strict=True):
            view[...] = array
        for moment in state.moments.values():
            moment[...] = 0
        state.step = 0


def epoch(workload: Workload, rows: int, backend: str) -> Callable[[], None]:
    """One epoch of a ``fit`` that goes on in a thread of its own, waiting before each epoch until it is asked for."""
    x, y, held_x, held_y = epoch_data(workload, rows)
    asked, made = threading.Semaphore(0), threading.Semaphore(0)

    def pause(run: cr.Run, epoch: int, metrics: dict[str, float]) -> None:
        made.release()
        asked.acquire()

    def train() -> None:
        asked.acquire()
        cr.fit(
            network(workload), (x, y), loss="cross_entropy", optimizer=optim.Adam(1e-3), epochs=1_000_000,
            batch_size=workload.rows, validation=(held_x, held_y), callbacks=pause, progress=False, backend=backend,
        )  # fmt: skip

    threading.Thread(target=train, daemon=True).start()

    def run() -> None:
        asked.release()
        made.acquire()

    return run
