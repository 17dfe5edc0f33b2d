"""Graph -> callable: the stages in the order in which they run."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from chainrule.compiler.link import link, program_of
from chainrule.compiler.parts import Part
from chainrule.errors import ArgumentError, ChainruleWarning
from chainrule.graph import Graph, collector_paused, evaluator
from chainrule.kernel import Program

BACKENDS = ("native", "reference")


class CompiledGraph(Protocol):
    """A graph as a function of arrays."""

    @property
    def graph(self) -> Graph:
        """What was compiled."""
        ...

    def __call__(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """The outputs, in memory of their own."""
        ...


@collector_paused()
def compile_graph(graph: Graph, backend: str | None = None) -> CompiledGraph:
    """A callable of arrays that does what ``graph`` says. backend: see ``chosen_backend``."""
    return Compiled(graph) if chosen_backend(backend) == "native" else Evaluated(graph, evaluator(graph))


def chosen_backend(backend: str | None) -> str:
    """ "native", "reference", or for None the native one where its packages are installed; ArgumentError otherwise.

    ChainruleWarning: they are not, and everything will be slow.
    """
    if backend is None:
        missing = [n for n in ("llvmlite", "scipy_openblas64") if importlib.util.find_spec(n) is None]
        if not missing:
            return "native"
        warnings.warn(
            f"{' and '.join(missing)} is not installed, so everything runs on the reference, node by node in NumPy: "
            "pip install llvmlite scipy-openblas64",
            ChainruleWarning,
            stacklevel=3,
        )
        return "reference"
    if backend not in BACKENDS:
        raise ArgumentError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    return backend


@dataclass(frozen=True)
class Evaluated:
    """A graph that NumPy evaluates node by node: the reference."""

    graph: Graph
    run: Callable[..., tuple[np.ndarray, ...]]

    def __call__(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(np.asarray(a, y.dtype) for a, y in zip(self.run(*arrays), self.graph.outputs, strict=True))


class Compiled:
    """A graph as machine code; the reader has every stage."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.outputs = [(f"output {i}", y.shape, y.dtype) for i, y in enumerate(graph.outputs)]
        inputs = tuple(f"input {i}" for i in range(len(graph.inputs)))
        self.bound = link((Part(graph, inputs, tuple(name for name, _, _ in self.outputs)),), "native").bind({}, {})

    @property
    def program(self) -> Program:
        """Its loops."""
        return program_of(self.graph)

    @property
    def source(self) -> str:
        """The LLVM IR of every loop nest."""
        from chainrule.backends.native.plan import source

        return source(self.program)

    def __call__(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        for i, (array, x) in enumerate(zip(arrays, self.graph.inputs, strict=True)):
            self.bound.point(f"input {i}", np.ascontiguousarray(array, x.dtype).reshape(x.shape))
        results = tuple(np.empty(shape, dtype) for _, shape, dtype in self.outputs)
        for (name, _, _), result in zip(self.outputs, results, strict=True):
            self.bound.point(name, result)
        self.bound.run(1)
        return results
