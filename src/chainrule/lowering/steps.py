"""Loops over time: the statements of a body, repeated on one row of each sequence after another."""

from __future__ import annotations

import math

from chainrule.graph import Graph, Node, Tensor, holding, inline
from chainrule.kernel import Moving, Repeat, Statement
from chainrule.lowering.builder import Builder, copying
from chainrule.lowering.keeping import must_store
from chainrule.lowering.values import Stored
from chainrule.spec import TensorSpec


def scan(builder: Builder, node: Node) -> None:
    """A `Repeat` of the body's statements. Each state has a place that every turn reads first and writes last."""
    p, inputs = node.parameters, node.inputs
    body, carries, sequences = p["body"], p["carries"], p["sequences"]
    initial, xs, fixed = inputs[:carries], inputs[carries : carries + sequences], inputs[carries + sequences :]
    steps = xs[0].shape[0]
    places = [builder.target(node.output(k)) for k in range(len(body.outputs))]
    for x in (*xs, *(x for x in fixed if x.node is not None)):
        builder.in_memory(x)
    for x, place in zip(initial, places, strict=False):
        builder.nest(x.shape, copying(builder, place, x))
    if steps:
        loop = _Loop(builder, steps, p["reverse"])
        state = [loop.stands_for(place) for place in places[:carries]]
        results = loop.body(body, [*state, *(loop.row_of(builder.in_memory(x)) for x in xs), *fixed])
        for place, y in zip(places[carries:], results[carries:], strict=True):
            builder.nest(y.shape, copying(builder, loop.row(place), y))
        loop.put(places[:carries], results[:carries])
        loop.close()
    for k, place in enumerate(places):
        builder.placed(node.output(k), place)


class _Loop:
    """A `Repeat` while it is built: what the builder adds until ``close`` is inside."""

    def __init__(self, builder: Builder, turns: int, reverse: bool) -> None:
        self.builder, self.turns, self.reverse = builder, turns, reverse
        self.moving: list[Moving] = []
        self.before: list[Statement] = builder.statements
        builder.statements = []

    def stands_for(self, place: Stored) -> Tensor:
        """A new tensor that lies at ``place``."""
        x = Tensor(TensorSpec(place.shape, self.builder.values.buffers[place.buffer].dtype))
        self.builder.values.stored[x.key] = place
        return x

    def row_of(self, sequence: Stored) -> Tensor:
        """The row of this turn."""
        return self.stands_for(self.row(sequence))

    def row(self, sequence: Stored) -> Stored:
        """Where the row of this turn lies: in a buffer that moves along the sequence's."""
        shape, step, strides = sequence.shape[1:], sequence.strides[0], sequence.strides[1:]
        reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)] if math.prod(shape) else []
        below, above = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach)
        values = self.builder.values
        spec = TensorSpec((above - below + 1 if math.prod(shape) else 0,), values.buffers[sequence.buffer].dtype)
        buffer = values.add_buffer(spec, "row")
        first = sequence.start + below + ((self.turns - 1) * step if self.reverse else 0)
        self.moving.append(Moving(buffer, sequence.buffer, first, -step if self.reverse else step))
        return Stored(buffer, shape, strides, -below)

    def body(self, body: Graph, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        """Apply a body's nodes to ``inputs`` and lower them at once."""
        with holding(trace=None):
            results = inline(body, inputs)
        made = Graph(tuple(inputs), results)
        self.builder.must_store |= must_store(made)
        for node in made.nodes():
            self.builder.lower_node(self.builder, node)
        return results

    def put(self, places: list[Stored], values: tuple[Tensor, ...]) -> None:
        """New states into their places, all as if at once: what still lies in one of these is copied first."""
        builder, taken = self.builder, {place.buffer for place in places}
        lying = [builder.in_memory(y) for y in values]
        safe = [
            builder.store_copy(y) if view.buffer in taken and view != place else view
            for y, view, place in zip(values, lying, places, strict=True)
        ]
        for place, view in zip(places, safe, strict=True):
            if view != place:
                builder.nest(place.shape, copying(builder, place, self.stands_for(view)))

    def close(self) -> None:
        inside = tuple(self.builder.statements)
        self.builder.statements = [*self.before, Repeat(self.turns, tuple(self.moving), inside)]
