"""Which values are worth a place in memory, rather than being worked out again where they are read."""

from __future__ import annotations

from collections import Counter
from typing import Any

from chainrule.graph import Graph, Node
from chainrule.lowering.values import MOVES

CHEAP = {
    "add", "subtract", "multiply", "negative", "relu", "greater", "less", "greater_equal", "less_equal", "equal",
    "not_equal", "where", "astype", "maximum", "minimum", "abs", "sign", "clip", "logical_and", "logical_or",
    "logical_not", "logical_xor",
}  # fmt: skip
"""Elementwise operations that are cheaper to do again than to store and load."""


def must_store(graph: Graph) -> set[Any]:
    """Dear values with several readers, what overlapping windows read, and the sources of reshapes into other axes."""
    readers: Counter[Any] = Counter()
    chosen: set[Any] = set()
    nodes = graph.nodes()
    for node in nodes:
        for x in node.inputs:
            readers[x.key] += 1
        if node.primitive.name == "reshape" and not _only_ones(node.inputs[0].shape, node.specs[0].shape):
            chosen.add(node.inputs[0].key)
        if node.primitive.name == "windows" and _overlap(node):
            chosen.add(node.inputs[0].key)
    dear: dict[Node, int] = {}
    for node in nodes:
        name = node.primitive.name
        cheap = name in CHEAP or name in MOVES
        own = 1 if cheap else 8 if node.primitive.elementwise else 0
        dear[node] = own + sum(dear.get(x.node, 0) for x in node.inputs if x.key not in chosen and x.node is not None)
        if dear[node] > 3 and readers[(node, 0)] > 1 and node.primitive.elementwise:
            chosen.add((node, 0))
        if (node, 0) in chosen:
            dear[node] = 0
    return chosen


def _overlap(node: Node) -> bool:
    """Whether windows share elements, which would be worked out anew for each of them."""
    p = node.parameters
    return any((k - 1) * d >= s for k, s, d in zip(p["sizes"], p["strides"], p["dilations"], strict=True))


def _only_ones(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return [n for n in a if n != 1] == [n for n in b if n != 1]
