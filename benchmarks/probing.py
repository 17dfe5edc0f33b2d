"""What probes cost a fit: three of them that take turns, an epoch each, with and without."""

from __future__ import annotations

import statistics
import threading
import time
from typing import Any

import numpy as np

from benchmarks.workloads import Workload

UPDATES = 64
"""Of a turn: short, so that a disturbance hits few turns, and long enough for samples to be among them."""

KINDS = (None, "sampled", "every")


class _Turns:
    """Threads that run one at a time: each epoch ends by handing on to the next thread."""

    def __init__(self, count: int) -> None:
        self.events = [threading.Event() for _ in range(count)]
        self.events[0].set()
        self.last: int | None = None
        """The turn of each thread after which all end."""

    def wait(self, mine: int) -> float:
        """Until it is this thread's turn; when that began."""
        self.events[mine].wait()
        self.events[mine].clear()
        return time.perf_counter()

    def hand_on(self, mine: int) -> None:
        self.events[(mine + 1) % len(self.events)].set()


def overheads(workload: Workload, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """A row for each kind of probes: seconds an update, and its share over those of the fit without."""
    turns, taken = _Turns(len(KINDS)), [[] for _ in KINDS]
    until = time.perf_counter() + seconds * len(KINDS)
    failed: list[BaseException] = []
    threads = [threading.Thread(target=_fit, args=(workload, i, turns, taken, until, rounds, failed), daemon=True)
               for i in range(len(KINDS))]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    count = min(map(len, taken))
    found = [np.array(each[1:count]) / UPDATES for each in taken]  # the first turn compiles
    plain = found[0]
    return [
        {
            "workload": workload.name,
            "probes": str(kind),
            "turns": len(each),
            "min": float(each.min()),
            "median": statistics.median(each.tolist()),
            "overhead": float(each.min() / plain.min() - 1),
            "median_overhead": float(np.median(each / plain) - 1),
        }
        for kind, each in zip(KINDS, found, strict=True)
    ]


def _fit(
    workload: Workload, mine: int, turns: _Turns, taken: list[list[float]], until: float, rounds: int,
    failed: list[BaseException],
) -> None:  # fmt: skip
    import chainrule as cr
    from chainrule import nn, optim

    layers: list[nn.Module] = []
    for a, b in zip(workload.widths, workload.widths[1:], strict=False):
        layers += [nn.Linear(a, b), nn.ReLU()]
    began = turns.wait(mine)

    def ended(run: Any, epoch: int, metrics: dict[str, float]) -> bool:
        nonlocal began
        taken[mine].append(time.perf_counter() - began)
        # All make as many turns: the first decides for the others.
        if mine == 0 and epoch > rounds and time.perf_counter() > until:
            turns.last = epoch
        enough = epoch == turns.last
        turns.hand_on(mine)
        if not enough:
            began = turns.wait(mine)
        return enough

    try:
        # As many epochs as a long run has: the rate of the samples is reckoned from that.
        cr.fit(nn.Sequential(*layers[:-1]), workload.batch(workload.rows * UPDATES), loss="cross_entropy",
               optimizer=optim.Adam(1e-3), epochs=10**6, batch_size=workload.rows, seed=0, progress=False,
               probes=KINDS[mine], callbacks=[ended], keep_rows=0)  # fmt: skip
    except BaseException as error:
        failed.append(error)
        turns.hand_on(mine)
