"""Graph -> program: a statement for each value that has to lie in memory; then joined, turned, scheduled and placed."""

from __future__ import annotations

from collections.abc import Callable

from chainrule.errors import GraphError
from chainrule.graph import Graph, Node
from chainrule.kernel import Program
from chainrule.kernel.check import check
from chainrule.lowering.builder import Builder
from chainrule.lowering.fusion import fused
from chainrule.lowering.memory import planned
from chainrule.lowering.narrow import turned
from chainrule.lowering.overlaps import windows_add
from chainrule.lowering.positions import concat, gather, scatter_add, sort
from chainrule.lowering.products import matmul
from chainrule.lowering.reductions import cumsum, extreme, reduction
from chainrule.lowering.schedule import scheduled
from chainrule.lowering.steps import scan
from chainrule.lowering.values import MOVES

DEEPEST = 40
"""An expression of more operations than this is stored, so that no loop body grows without end."""


def lower(graph: Graph) -> Program:
    """The program of a graph of core primitives (see ``is_core``)."""
    builder = Builder(graph, lower_node)
    for node in graph.nodes():
        lower_node(builder, node)
    outputs = tuple(builder.output(y) for y in graph.outputs)
    made = Program(tuple(builder.values.buffers), tuple(builder.statements), tuple(builder.inputs), outputs)
    made = check(fused(check(made, "lowering")), "fusion")
    made = check(turned(made), "turning")
    return planned(check(scheduled(made), "scheduling"))


def is_core(node: Node) -> bool:
    """Whether a node needs no expansion."""
    primitive = node.primitive
    if primitive.elementwise and primitive.lower is not None:
        return True
    return primitive.name in MOVES or primitive.name in STATEMENTS


def lower_node(builder: Builder, node: Node) -> None:
    """Make the statements of a node, or leave it to be read through."""
    if not is_core(node):
        raise GraphError(f"{node.primitive.name} has no lowering of its own and was not expanded")
    name = node.primitive.name
    if name in STATEMENTS:
        STATEMENTS[name](builder, node)
        return
    for i in range(len(node.specs)):
        y = node.output(i)
        operations = 1 + max((builder.operations.get(x.key, 0) for x in node.inputs), default=0)
        builder.operations[y.key] = operations
        if y.key in builder.must_store or y.key in builder.outputs or operations > DEEPEST:
            builder.store(y)
            builder.operations[y.key] = 0


STATEMENTS: dict[str, Callable[[Builder, Node], None]] = {
    "matmul": matmul, "sum": reduction("sum"), "mean": reduction("sum"), "max": reduction("maximum"),
    "min": reduction("minimum"), "all": reduction("all"), "any": reduction("any"), "argmax": extreme("maximum"),
    "argmin": extreme("minimum"), "cumsum": cumsum, "gather": gather, "scatter_add": scatter_add,
    "concat": concat, "sort": sort, "scan": scan, "windows_add": windows_add,
}  # fmt: skip
"""Primitives that become statements of their own."""
