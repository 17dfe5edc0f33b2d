"""The reference meaning of a graph: its nodes one by one, by NumPy. Slow, and right by construction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import GraphError
from chainrule.graph.graph import Graph
from chainrule.graph.namespace import NUMPY
from chainrule.graph.tensor import Tensor


def evaluate(graph: Graph, *arrays: np.ndarray, xp: Any = NUMPY) -> tuple[np.ndarray, ...]:
    """Outputs of ``graph`` for ``arrays`` in place of its inputs."""
    return evaluator(graph, xp)(*arrays)


def evaluator(graph: Graph, xp: Any = NUMPY) -> Callable[..., tuple[np.ndarray, ...]]:
    """A function of arrays that evaluates ``graph``; the order of evaluation and the slots are worked out once."""
    slots: dict[Any, int] = {x.key: i for i, x in enumerate(graph.inputs)}
    fixed: list[tuple[int, np.ndarray]] = []

    def slot(x: Tensor) -> int:
        if x.key not in slots:
            if x.array is None:
                raise GraphError(f"the graph reads {x!r}, which is neither an input nor made by one of its nodes")
            slots[x.key] = len(slots)
            fixed.append((slots[x.key], x.array))
        return slots[x.key]

    steps = []
    for node in graph.nodes():
        reads = [slot(x) for x in node.inputs]
        for i in range(len(node.specs)):
            slots[(node, i)] = len(slots)
        steps.append((node, reads, [slots[(node, i)] for i in range(len(node.specs))]))
    results = [slot(y) for y in graph.outputs]
    size, expected = len(slots), len(graph.inputs)
    last_use = {r: k for k, (_, reads, writes) in enumerate(steps) for r in (*reads, *writes)}
    kept = set(results) | set(range(expected)) | {i for i, _ in fixed}
    released = [
        [r for r in {*reads, *writes} if last_use[r] == k and r not in kept]
        for k, (_, reads, writes) in enumerate(steps)
    ]

    def run(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        if len(arrays) != expected:
            raise GraphError(f"the graph has {expected} inputs, got {len(arrays)} arrays")
        values: list[Any] = [*arrays, *[None] * (size - expected)]
        for i, array in fixed:
            values[i] = array
        with np.errstate(all="ignore"):
            for (node, reads, writes), done in zip(steps, released, strict=True):
                result = node.primitive.evaluate(xp, *[values[i] for i in reads], **node.parameters)
                if node.primitive.several:
                    for i, array in zip(writes, result, strict=True):
                        values[i] = array
                else:
                    values[writes[0]] = result
                for i in done:
                    values[i] = None
        return tuple(values[i] for i in results)

    return run
