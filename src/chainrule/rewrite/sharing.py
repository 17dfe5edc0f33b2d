"""Sharing: what is worked out twice from the same values is worked out once."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from chainrule.graph import Graph, Node, Tensor, replaced

COMMUTING = frozenset({"add", "multiply", "equal", "not_equal", "logical_and", "logical_or", "logical_xor"})
"""Primitives whose inputs may change places without changing a bit; max and min of two zeros do not qualify."""

COMPARED = 4096
"""Constants of at most so many elements are compared by value, larger ones by place in memory."""


def share(graph: Graph) -> Graph:
    """exp(x) * exp(x) -> e * e with e = exp(x); equal stacked outputs of a scan become one.

    Same primitive, same inputs, same parameters, bodies compared by structure. A barrier equals no other, so that what
    lies behind it is worked out again. Changes no bit.
    """
    graph = replaced(graph, lambda node, inputs: None, bodies=share)
    firsts, rows = _first_of_each(graph)
    if not rows and all(first is node for node, first in firsts.items()):
        return graph
    made: dict[Node, tuple[Tensor, ...]] = {}

    def rule(node: Node, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        first = firsts[node]
        if first is node:
            again = Node(node.primitive, inputs, node.parameters, node.specs, line=node.line)
            made[node] = tuple(again.output(rows.get((node, i), i)) for i in range(len(node.specs)))
        return made[first]

    return replaced(graph, rule, bodies=lambda body: body)


def _first_of_each(graph: Graph) -> tuple[dict[Node, Node], dict[Any, int]]:
    """(node -> the first node that gives the same, (scan, output) -> an earlier output of it that is the same)."""
    values = Values(graph)
    firsts: dict[Node, Node] = {}
    seen: dict[Any, Node] = {}
    rows: dict[Any, int] = {}
    for node in graph.nodes():
        key = values.node_key(node)
        firsts[node] = first = node if node.primitive.name == "barrier" else seen.setdefault(key, node)
        same = _equal_rows(node)
        rows.update({(node, i): j for i, j in same.items() if first is node})
        for i in range(len(node.specs)):
            values.name((node, i), values.known.get((first, same.get(i, i))))
    # A scan that was looked at before reads its own first rows already: nothing to do if nobody reads the others.
    read = {x.key for node in graph.nodes() for x in node.inputs} | {y.key for y in graph.outputs}
    return firsts, {key: j for key, j in rows.items() if key in read}


def _equal_rows(node: Node) -> dict[int, int]:
    """Stacked outputs of a scan that equal an earlier one, by the value of the body that they stack."""
    if node.primitive.name != "scan":
        return {}
    body = node.parameters["body"]
    first: dict[Any, int] = {}
    same: dict[int, int] = {}
    for i, y in enumerate(body.outputs):
        if i >= node.parameters["carries"] and first.setdefault(y.key, i) != i:
            same[i] = first[y.key]
    return same


class Values:
    """Numbers for the values of one graph: equal values that were named together get the same number."""

    def __init__(self, graph: Graph) -> None:
        self.known: dict[Any, int] = {}
        for x in graph.inputs:
            self.name(x.key)

    def name(self, key: Any, same: int | None = None) -> None:
        self.known[key] = len(self.known) if same is None else same

    def of(self, x: Tensor) -> Any:
        found = self.known.get(x.key)
        return _constant_key(x) if found is None else found

    def node_key(self, node: Node) -> Any:
        inputs = [self.of(x) for x in node.inputs]
        if node.primitive.name in COMMUTING:
            inputs.sort(key=repr)
        parameters = tuple((k, _parameter_key(v)) for k, v in sorted(node.parameters.items()))
        return (node.primitive, tuple(inputs), parameters)


def _constant_key(x: Tensor) -> Any:
    array = x.array
    if array is None:
        return x.key
    if array.size <= COMPARED:
        return ("constant", x.spec, array.tobytes())
    return ("memory", x.spec, array.__array_interface__["data"][0], array.strides)


def _parameter_key(value: Any) -> Any:
    """Something hashable that is equal only for parameters that mean the same, so that 0.0 is not -0.0, nor 2 2.0."""
    if isinstance(value, Graph):
        return _graph_key(value)
    if isinstance(value, float):
        return ("float", float(value).hex())
    if isinstance(value, (tuple, list)):
        return ("sequence", tuple(map(_parameter_key, value)))
    if isinstance(value, np.ndarray):
        return ("array", value.shape, value.dtype, value.tobytes())
    return (type(value), value if isinstance(value, Hashable) else id(value))


def _graph_key(graph: Graph) -> Any:
    values, nodes = Values(graph), []
    for node in graph.nodes():
        nodes.append(values.node_key(node))
        for i in range(len(node.specs)):
            values.name((node, i))
    specs = tuple(x.spec for x in graph.inputs)
    return ("graph", specs, tuple(nodes), tuple(map(values.of, graph.outputs)))


def remove_barriers(graph: Graph) -> Graph:
    """barrier(x) -> x, once sharing is done: nothing after this shares again. Changes no bit."""
    return replaced(graph, lambda node, inputs: inputs if node.primitive.name == "barrier" else None)
