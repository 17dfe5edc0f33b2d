"""Loops over time: the statements of a body once for each step."""

from __future__ import annotations

from chainrule.graph import Graph, Node, Tensor, holding, inline
from chainrule.lowering.builder import Builder, copying
from chainrule.lowering.keeping import must_store
from chainrule.lowering.values import Stored
from chainrule.spec import TensorSpec


def scan(builder: Builder, node: Node) -> None:
    """The body's statements once for each step, over views of the sequences: the machine code is one and the same."""
    p, inputs = node.parameters, node.inputs
    body, carries, sequences = p["body"], p["carries"], p["sequences"]
    state = list(inputs[:carries])
    xs, fixed = inputs[carries : carries + sequences], inputs[carries + sequences :]
    for x in xs:
        builder.in_memory(x)
    steps = xs[0].shape[0]
    stacked = [builder.target(node.output(carries + k)) for k in range(len(body.outputs) - carries)]
    for t in reversed(range(steps)) if p["reverse"] else range(steps):
        rows = [_row(builder, x, t) for x in xs]
        results = inline_nodes(builder, body, [*state, *rows, *fixed])
        for target, y in zip(stacked, results[carries:], strict=True):
            row = Stored(target.buffer, y.shape, target.strides[1:], t * target.strides[0])
            builder.nest(y.shape, copying(builder, row, y))
        state = [builder.kept(y) for y in results[:carries]]
    for k, y in enumerate(state):
        out = node.output(k)
        target = builder.target(out)
        builder.nest(y.shape, copying(builder, target, y))
        builder.placed(out, target)
    for k, target in enumerate(stacked):
        builder.placed(node.output(carries + k), target)


def _row(builder: Builder, x: Tensor, t: int) -> Tensor:
    view = builder.values.view(x)
    assert view is not None
    row = Tensor(TensorSpec(x.shape[1:], x.dtype))
    builder.values.stored[row.key] = Stored(view.buffer, row.shape, view.strides[1:], view.start + t * view.strides[0])
    return row


def inline_nodes(builder: Builder, body: Graph, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Apply a body's nodes to ``inputs`` and lower them at once."""
    with holding(trace=None):
        results = inline(body, inputs)
    made = Graph(tuple(inputs), results)
    builder.must_store |= must_store(made)
    for node in made.nodes():
        builder.lower_node(builder, node)
    return results
