"""Graph -> callable: the stages in the order in which they run."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from chainrule.errors import ArgumentError, ChainruleWarning
from chainrule.graph import Graph, collector_paused, evaluator
from chainrule.kernel import Program
from chainrule.lowering import lower
from chainrule.rewrite import rewrite

if TYPE_CHECKING:
    from chainrule.backends.native.linked import NativeLinked

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
    if chosen_backend(backend) == "reference":
        return Evaluated(graph, evaluator(graph))
    from chainrule.backends.native.runtime_code import begin_runtime

    begin_runtime()
    program = lower(rewrite(graph))
    return Compiled(graph, program, build(program))


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


def build(program: Program) -> NativeLinked:
    """Machine code for one program."""
    from chainrule.backends.native.linked import Named, NativeLinked

    inputs = tuple(f"input {i}" for i in range(len(program.inputs)))
    outputs = tuple(f"output {i}" for i in range(len(program.outputs)))
    return NativeLinked((Named(program, inputs, outputs),))


@dataclass(frozen=True)
class Evaluated:
    """A graph that NumPy evaluates node by node: the reference."""

    graph: Graph
    run: Callable[..., tuple[np.ndarray, ...]]

    def __call__(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(np.asarray(a, y.dtype) for a, y in zip(self.run(*arrays), self.graph.outputs, strict=True))


class Compiled:
    """A graph as machine code; every stage is kept for the reader."""

    def __init__(self, graph: Graph, program: Program, native: NativeLinked) -> None:
        self.graph, self.program, self.native = graph, program, native
        empty = {f"input {i}": np.zeros(x.shape, x.dtype) for i, x in enumerate(graph.inputs)}
        self.outputs = [(f"output {i}", y.shape, y.dtype) for i, y in enumerate(graph.outputs)]
        self.bound = native.bind({**empty, **{n: np.zeros(s, d) for n, s, d in self.outputs}}, {})

    @property
    def source(self) -> str:
        """The LLVM IR of every loop nest."""
        return self.native.source

    def __call__(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        for i, (array, x) in enumerate(zip(arrays, self.graph.inputs, strict=True)):
            self.bound.point(f"input {i}", np.ascontiguousarray(array, x.dtype).reshape(x.shape))
        results = tuple(np.empty(shape, dtype) for _, shape, dtype in self.outputs)
        for (name, _, _), result in zip(self.outputs, results, strict=True):
            self.bound.point(name, result)
        self.bound.run(1)
        return results
