"""A step joined to the memory of its state, with the tables that it walks from step to step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.compiler import Parts, link
from chainrule.graph import Traced
from chainrule.ops import key
from chainrule.optim import Optimizer
from chainrule.training.probed_update import matrix_shape
from chainrule.training.probes import Probes
from chainrule.training.state import TrainingState
from chainrule.training.step_graphs import captured_names

AHEAD = 256
"""Steps whose scalars are worked out at once."""


Taken = tuple[Probes, np.ndarray, np.ndarray]
"""(what was measured, updates made before each step, sums [tables, steps])"""


class Running:
    """A step joined to the memory of its state, with the tables that it walks."""

    def __init__(
        self, place: Any, traced: Traced, parts: Parts, state: TrainingState, backend: str, own: dict[str, np.ndarray],
        ahead: int, updates: bool, batch_size: int = 0, probes: Probes | None = None,
    ) -> None:  # fmt: skip
        self.part, self.mode, self.measures = place[:3]
        self.probes = probes
        self.traced, self.updates, self.ahead = traced, updates, ahead
        self.memory = {**own, "gradient": state.gradient, "parameters": state.theta, **state.moments}
        self.memory |= {f"gradient.{n}": v for n, v in zip(state.names, state.views(state.gradient), strict=True)}
        named = captured_names(traced)
        self.memory |= {named[id(x)]: x.value("a step") for x in traced.captured}
        self.memory |= {"share": np.zeros((), state.dtype), "updates": state.counter}
        self.names = state.scalars
        self.tables = {n: np.zeros(ahead, state.dtype) for n in ("loss", *((*self.names, "norm") if updates else ()))}
        # Entries of a memoryview are Python's floats, at a tenth of the price of an array's.
        self.losses = self.tables["loss"].data
        self.norms = self.tables.get("norm", np.full(ahead, np.nan, state.dtype)).data
        self.batch = tuple((name, a.shape, a.dtype) for name, a in own.items())
        self.held: list[np.ndarray | None] = list(own.values())
        self.tables["key"] = np.zeros((ahead, 4), np.uint32)
        if probes is not None:
            flat = {"parameters": state.theta, "gradient": state.gradient, **state.moments}
            flat["before"] = self.memory["before"] = np.zeros_like(state.theta)
            for kind, array in flat.items():
                for n, view in zip(state.names, state.views(array), strict=True):
                    self.memory[f"{kind} of {n}"] = view.reshape(matrix_shape(view.shape))
            self.tables |= {n: np.zeros(ahead) for n in (*probes.tables, *probes.update_tables)}
        if batch_size:
            self.tables["order"] = np.zeros((ahead, batch_size), np.int64)
        self.bound = link(parts, backend).bind(self.memory, self.tables)
        self.forget()

    def takes(self, batch: tuple[np.ndarray, ...], part: str, mode: int) -> bool:
        """Whether this is made for such a batch; if so, the next step reads it."""
        if part != self.part or mode != self.mode or len(batch) != len(self.batch):
            return False
        for i, (_, shape, dtype) in enumerate(self.batch):  # a good part of what a call of a small step costs
            array = batch[i]
            if array.shape != shape:
                return False
            if array is not self.held[i]:
                if array.dtype is not dtype:  # one that is equal and not the same goes the long way, which does no harm
                    return False
                self._point(i, array)
        return True

    def point(self, batch: tuple[np.ndarray, ...]) -> None:
        """The next step reads these arrays."""
        for i, array in enumerate(batch):
            self._point(i, array)

    def _point(self, i: int, array: np.ndarray) -> None:
        contiguous = array.flags.c_contiguous
        self.bound.point(self.batch[i][0], array if contiguous else np.ascontiguousarray(array))
        self.held[i] = array if contiguous else None

    def run(self, steps: int) -> int:
        """Run ``steps`` times; how many were whole."""
        try:
            return self.bound.run(steps)
        except BaseException:  # nobody knows how far the tables have been walked
            self.forget()
            raise

    def taken(self, made: np.ndarray, t: int) -> Taken:
        """What the probes left in the entries of the tables from ``t`` on. made: updates made before each. [entries]"""
        assert self.probes is not None
        names = (*self.probes.tables, *self.probes.update_tables)
        return self.probes, made, np.array([self.tables[n][t : t + len(made)] for n in names])

    def forget(self) -> None:
        """What stands in the tables holds no more."""
        self.first, self.expected = 0, -1
        self.filled_lr, self.filled_row = math.nan, -1

    def ready(self, state: TrainingState, lr: float, seed: int, first_row: int) -> int:
        """Make the next entry of the tables that of the next step, and say which it is."""
        t = state.step - self.first
        if t != self.expected or t >= self.ahead or lr != self.filled_lr or first_row != self.filled_row:
            steps = state.step + np.arange(self.ahead)
            self.fill(steps, state.optimizer, [lr] * self.ahead, seed, first_row)
            self.first, self.filled_lr, self.filled_row, t = state.step, lr, first_row, 0
        self.expected = t + 1
        return t

    def fill(self, made: np.ndarray, optimizer: Optimizer, lrs: list[float], seed: int, first_row: int) -> None:
        """The tables, from their beginning, for a step after each number of updates ``made``. int64 [steps]"""
        steps = made.tolist()
        numbers = [optimizer.scalars(s + 1, lr) for s, lr in zip(steps, lrs, strict=True)] if self.updates else []
        with np.errstate(over="ignore"):  # a learning rate beyond float32 becomes infinity, which the gate finds
            for name in self.names if self.updates else ():
                self.tables[name][: len(lrs)] = [n[name] for n in numbers]
        self.tables["key"][: len(lrs)] = key(seed, steps[0] + 1, first_row).value("a step")
        self.tables["key"][: len(lrs), 2] += (made - made[0]).astype(np.uint32)
        self.forget()
        self.bound.rewind()
