"""Who is timed: each module builds the same training step with one library."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.workloads import Workload


class Training(Protocol):
    """A network in training."""

    x: Any
    y: Any
    """The batch, as the library holds it."""

    def step(self) -> None:
        """One whole step on the workload's batch, finished when this returns."""

    def reset(self) -> None:
        """Weights and moments as at the start, so that long timings do not end in denormal numbers."""


@dataclass(frozen=True)
class Contender:
    """A library and how it is used."""

    name: str
    module: str
    option: str = ""
    needs: tuple[str, ...] = ()
    """Packages without which it is left out."""
    largest: int = 10**9
    """Weights beyond which nobody would use it."""

    @property
    def installed(self) -> bool:
        return all(importlib.util.find_spec(name) for name in self.needs)

    def takes(self, workload: Workload) -> bool:
        return sum(w.size for w, _ in workload.weights()) <= self.largest

    def training(self, workload: Workload, rows: int) -> Training:
        return self._module().Trained(workload, rows, self.option)

    def epoch(self, workload: Workload, rows: int) -> Callable[[], None]:
        """A function that does one epoch over ``rows`` rows and a validation."""
        return self._module().epoch(workload, rows, self.option)

    def _module(self) -> Any:
        return importlib.import_module(f"benchmarks.contenders.{self.module}")


PEERS = (
    Contender("torch", "pytorch", "eager", ("torch",)),
    Contender("torch-compile", "pytorch", "compile", ("torch",)),
    Contender("jax", "xla", "loop", ("jax", "optax")),
    Contender("jax-scan", "xla", "scan", ("jax", "optax")),
    Contender("sklearn", "scikit", "", ("sklearn",), largest=300_000),
)


def ours() -> tuple[Contender, ...]:
    """chainrule, once for each of its backends."""
    from chainrule.compiler import BACKENDS

    return tuple(Contender(f"chainrule-{backend}", "chained", backend) for backend in BACKENDS)


def named(name: str) -> Contender:
    return next(c for c in (*PEERS, *ours()) if c.name == name)
