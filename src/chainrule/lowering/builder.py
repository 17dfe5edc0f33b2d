"""The statements of a program while it is built, and what lies where."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from chainrule.graph import Graph, Node, Tensor
from chainrule.kernel import LaneLoop, Nest, Scalar, Statement, Store
from chainrule.lowering.index import Index, along, position, row_major
from chainrule.lowering.keeping import must_store
from chainrule.lowering.values import Stored, Values
from chainrule.spec import TensorSpec


class Builder:
    """The statements made so far, and what lies where."""

    def __init__(self, graph: Graph, lower_node: Callable[[Builder, Node], None]) -> None:
        self.lower_node = lower_node
        self.values = Values()
        self.statements: list[Statement] = []
        self.names = 0
        self.inputs = []
        for x in graph.inputs:
            buffer = self.values.add_buffer(x.spec, "input", x.name)
            self.inputs.append(buffer)
            self.values.place(x.key, buffer, x.shape)
        self.outputs: dict[Any, int] = {}
        self.given: set[int | None] = set()
        """Buffers that are an output already: sharing can make two outputs one value."""
        taken: set[Any] = {x.key for x in graph.inputs}
        for y in graph.outputs:
            if y.node is not None and y.key not in taken:
                self.outputs[y.key] = self.values.add_buffer(y.spec, "output")
                taken.add(y.key)
        self.must_store = must_store(graph)
        self.operations: dict[Any, int] = {}

    # -------------------------------------------------------------------------------------------- nodes

    def store(self, y: Tensor) -> Stored:
        """Put a value that can be read through into memory."""
        if y.key in self.values.stored:
            return self.values.stored[y.key]
        target = self.target(y)
        self.nest(y.shape, lambda index: [(target, index, self.values.read(y, index))])
        return self.values.place(y.key, target.buffer, y.shape)

    def target(self, y: Tensor) -> Stored:
        """Memory for a value: its output, or a buffer of its own."""
        buffer = self.outputs.get(y.key)
        if buffer is None:
            buffer = self.values.add_buffer(y.spec, "scratch")
        return Stored(buffer, y.shape, row_major(y.shape))

    def placed(self, y: Tensor, target: Stored) -> None:
        self.values.place(y.key, target.buffer, y.shape)

    def output(self, y: Tensor) -> int:
        """The buffer of an output; a copy where it is an input, a constant, a view of something else or given twice."""
        held = self.values.stored.get(y.key)
        buffer = self.outputs.get(y.key)
        if buffer in self.given:
            buffer = None
        if held is not None and buffer is not None and held.buffer == buffer:
            self.given.add(buffer)
            return buffer
        if buffer is None:
            buffer = self.values.add_buffer(y.spec, "output")
        target = Stored(buffer, y.shape, row_major(y.shape))
        self.nest(y.shape, lambda index: [(target, index, self.values.read(y, index))])
        self.given.add(buffer)
        return buffer

    def kept(self, y: Tensor) -> Tensor:
        """``y``, made sure to lie in memory."""
        self.in_memory(y)
        return y

    def store_copy(self, x: Tensor) -> Stored:
        """A contiguous copy of a strided view."""
        target = self.buffer_like(x.spec)
        self.nest(x.shape, lambda index: [(target, index, self.values.read(x, index))])
        return target

    def fresh(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    # -------------------------------------------------------------------------------------------- nests

    def nest(self, shape: tuple[int, ...], stores: Callable[[tuple[Index, ...]], list]) -> None:
        """Store values at every position of ``shape``: grid over all axes but the last, lanes along it."""
        if math.prod(shape) == 0:
            return
        grid, lane = self.axes(shape[:-1]), self.fresh("v")
        index = (*map(along, grid), along(lane)) if shape else ()
        found = tuple(store_at(target, at, value) for target, at, value in stores(index))
        loop = LaneLoop(lane, shape[-1] if shape else 1, (), found)
        self.statements.append(Nest(tuple(grid), shape[:-1], (loop,)))

    def axes(self, shape: tuple[int, ...]) -> list[str]:
        return [self.fresh("g") for _ in shape]

    def buffer_like(self, spec: TensorSpec) -> Stored:
        return Stored(self.values.add_buffer(spec, "scratch"), spec.shape, row_major(spec.shape))

    def in_memory(self, x: Tensor) -> Stored:
        """``x`` as a strided view, stored first if it is not one."""
        view = self.values.view(x)
        return view if view is not None else self.store(x)


def store_at(target: Stored, index: tuple[Index, ...], value: Scalar, adds: bool = False) -> Store:
    at = position(index, target.strides, target.start)
    return Store(target.buffer, at.at() if at.affine else at.scalar(), value, adds)


def is_contiguous(view: Stored) -> bool:
    return all(n == 1 or s == r for n, s, r in zip(view.shape, view.strides, row_major(view.shape), strict=True))


def copying(builder: Builder, target: Stored, x: Tensor) -> Callable[[tuple[Index, ...]], list]:
    """Stores for ``Builder.nest`` that copy ``x`` to ``target``."""
    return lambda index: [(target, index, builder.values.read(x, index))]
