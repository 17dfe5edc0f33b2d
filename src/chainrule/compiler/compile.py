"""Graph -> callable: the stages in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chainrule.errors import ArgumentError
from chainrule.graph import Graph, evaluator

BACKENDS = ("reference",)


@dataclass(frozen=True)
class Evaluated:
    """A graph that NumPy evaluates node by node: the reference."""

    graph: Graph
    run: Callable[..., tuple[np.ndarray, ...]]

    def __call__(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(np.asarray(a, y.dtype) for a, y in zip(self.run(*arrays), self.graph.outputs, strict=True))


def compile_graph(graph: Graph, backend: str = "reference") -> Evaluated:
    """A callable of arrays that does what ``graph`` says."""
    if backend not in BACKENDS:
        raise ArgumentError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    return Evaluated(graph, evaluator(graph))
