"""Constants: work out what depends on nothing, and keep a number that fills an array as one number."""

from __future__ import annotations

import numpy as np

from chainrule.graph import NUMPY, PRIMITIVES, Graph, Node, Tensor, context
from chainrule.rewrite.pattern import number, settled
from chainrule.spec import TensorSpec

LARGEST = 4096
"""Elements of a result that is worked out now: 32 KiB at most, so that folding never makes a graph heavy."""


def fold(graph: Graph) -> Graph:
    """2 * 3 -> 6; zeros([64, 128]) -> 0 broadcast to [64, 128].

    Changes no bit: the reference does now what it would do later.
    """
    return settled(graph, _folded)


def _folded(node: Node, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    if node.primitive.name in ("broadcast_to", "barrier"):
        return None
    small = sum(s.size for s in node.specs) <= LARGEST
    if inputs and small and all(x.array is not None for x in inputs) and not _has_body(node):
        return _evaluated(node, inputs)
    narrow = tuple(map(_narrow, inputs))
    if all(a is b for a, b in zip(narrow, inputs, strict=True)):
        return None
    made = Node(node.primitive, narrow, node.parameters, node.specs, line=node.line)
    return tuple(made.output(i) for i in range(len(made.specs)))


def _has_body(node: Node) -> bool:
    return any(isinstance(v, Graph) for v in node.parameters.values())


def _evaluated(node: Node, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    with np.errstate(all="ignore"):
        result = node.primitive.evaluate(NUMPY, *(x.array for x in inputs), **node.parameters)
    results = result if node.primitive.several else (result,)
    return tuple(_constant(np.asarray(a, s.dtype)) for a, s in zip(results, node.specs, strict=True))


def _constant(array: np.ndarray) -> Tensor:
    return Tensor(TensorSpec(array.shape, array.dtype), array, constant=True)


def _narrow(x: Tensor) -> Tensor:
    """A constant array of one number as that number, broadcast by a node; anything else as it is."""
    if x.array is None or x.size <= 1 or (value := number(x)) is None:
        return x
    line = context.replaces.line if context.replaces else None
    one = _constant(np.asarray(value, x.dtype))
    return Node(PRIMITIVES["broadcast_to"], (one,), {"shape": x.shape}, (x.spec,), line=line).output(0)
