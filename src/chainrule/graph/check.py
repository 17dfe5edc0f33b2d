"""Is a graph legal? What every stage may rely on, and every rewrite has to keep."""

from __future__ import annotations

from typing import Any

from chainrule.errors import GraphError
from chainrule.graph.context import holding
from chainrule.graph.graph import Graph
from chainrule.graph.source import shown
from chainrule.graph.tensor import Node, Tensor


def check(graph: Graph, checked: set[Node] | None = None) -> None:
    """GraphError with the first node that breaks the rules of a graph, bodies included.

    Every value read is an input, a constant or made by an earlier node; serials are an order of evaluation; shapes and
    dtypes are those that the primitive's shape rule gives.
    checked: nodes whose shapes and dtypes are known to be right, to which those of this graph are added.
    """
    checked = set() if checked is None else checked
    known: set[Any] = {x.key for x in graph.inputs}
    if len(known) != len(graph.inputs):
        raise GraphError(f"a graph names one value twice among its {len(graph.inputs)} inputs")
    with holding(trace=None, recording=False):
        for node in graph.nodes():
            for i, x in enumerate(node.inputs):
                made = x.node
                if (
                    made is None
                    or x.key not in known
                    or made.serial >= node.serial
                    or made.specs[x.index] is not x.spec
                ):
                    _check_read(node, i, x, known)
            if node not in checked:
                _check_specs(node)
                for body in node.parameters.values():
                    if isinstance(body, Graph):
                        check(body, checked)
                checked.add(node)
            known.update((node, i) for i in range(len(node.specs)))
    for i, y in enumerate(graph.outputs):
        if y.key not in known and y.array is None:
            raise GraphError(f"output {i}, {y!r}, is neither an input, a constant nor made by a node of the graph")


def _check_read(node: Node, i: int, x: Tensor, known: set[Any]) -> None:
    if x.key not in known and x.array is None:
        raise GraphError(f"{_name(node)} reads {x!r} as input {i}, which no earlier node makes and is no input")
    if x.node is not None and x.node.serial >= node.serial:
        raise GraphError(f"{_name(node)} reads input {i} from {_name(x.node)}, which comes after it")
    if x.node is not None and x.node.specs[x.index] != x.spec:
        raise GraphError(
            f"{_name(node)} reads input {i} as {x.spec}, but {_name(x.node)} makes {x.node.specs[x.index]}"
        )


def _check_specs(node: Node) -> None:
    specs = node.primitive.specs(tuple([x.spec for x in node.inputs]), node.parameters)
    if specs != tuple(node.specs):
        raise GraphError(
            f"{_name(node)} claims to make {', '.join(map(str, node.specs))}, but its shape rule gives "
            f"{', '.join(map(str, specs))}"
        )


def _name(node: Node) -> str:
    line = shown(node.line)
    return f"{node.primitive.name} (node {node.serial}{', ' + line if line else ''})"
