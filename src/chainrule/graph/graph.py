"""A graph: inputs, outputs, and the nodes between them in the order of evaluation."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from chainrule.graph.apply import apply
from chainrule.graph.tensor import Node, Tensor


@dataclass(frozen=True)
class Graph:
    """What a traced function does: from ``inputs`` to ``outputs``."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def nodes(self) -> list[Node]:
        """Nodes that an output needs, each after those it reads."""
        return list(self._nodes)

    @functools.cached_property
    def _nodes(self) -> list[Node]:
        return nodes_between(self.inputs, self.outputs)

    def __str__(self) -> str:
        from chainrule.graph.text import graph_text

        return graph_text(self)


def nodes_between(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Node]:
    """Nodes that ``outputs`` need, stopping at ``inputs``, each after those it reads.

    Creation order is an order of evaluation, so a sort by serial replaces a depth-first order and needs no recursion.
    """
    stops = {x.key for x in inputs}
    found: dict[int, Node] = {}
    stack = [y for y in outputs if y.key not in stops]
    while stack:
        node = stack.pop().node
        if node is None or node.serial in found:
            continue
        found[node.serial] = node
        stack.extend(x for x in node.inputs if x.node is not None and x.key not in stops)
    return [found[serial] for serial in sorted(found)]


def inline(graph: Graph, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Apply the nodes of ``graph`` again, to ``inputs`` in place of its inputs; gives what its outputs became."""
    stands: dict[object, Tensor] = {x.key: given for x, given in zip(graph.inputs, inputs, strict=True)}
    for node in graph.nodes():
        result = apply(node.primitive, tuple(stands.get(x.key, x) for x in node.inputs), node.parameters)
        results = result if node.primitive.several else (result,)
        stands.update({(node, i): y for i, y in enumerate(results)})
    return tuple(stands.get(y.key, y) for y in graph.outputs)
