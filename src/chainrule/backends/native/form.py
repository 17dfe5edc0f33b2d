"""A nest's form: all that its machine code follows from. Nests of one form differ in names, buffers and beginnings."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from chainrule.kernel.program import Accumulate, Buffer, LaneLoop, Nest, SerialLoop, Store
from chainrule.kernel.scalar import Affine, Const, Gather, Load, Local, Op, Scalar, Variable, walk


class Form(NamedTuple):
    """key: equal for nests of one form. numbers: of each buffer, in the order in which the nest comes to them.
    starts: of the buffer of each number, where its first access begins; the key counts positions from there."""

    key: Hashable
    numbers: dict[int, int]
    starts: tuple[int, ...]


def form_of(nest: Nest, buffers: tuple[Buffer, ...]) -> Form:
    """The form of a nest over ``buffers``."""
    reader = _Reader(buffers)
    grid = tuple(map(reader.name, nest.variables))
    loops = tuple(map(reader.lane_loop, nest.loops))
    key = (grid, nest.extents, loops, tuple(reader.nodes), tuple(reader.held))
    return Form(key, reader.numbers, tuple(reader.starts))


class _Reader:
    """Numbers names, buffers and expressions as it meets them."""

    def __init__(self, buffers: tuple[Buffer, ...]) -> None:
        self.buffers = buffers
        self.names: dict[str, int] = {}
        self.numbers: dict[int, int] = {}
        self.starts: list[int] = []
        self.held: list[Hashable] = []
        self.nodes: dict[Hashable, int] = {}
        self.done: dict[Scalar, int] = {}

    def name(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names))

    def buffer(self, buffer: int, start: int = 0) -> int:
        if buffer not in self.numbers:
            self.numbers[buffer] = len(self.numbers)
            self.starts.append(start)
            self.held.append((self.buffers[buffer].size, self.buffers[buffer].dtype.str))
        return self.numbers[buffer]

    def place(self, buffer: int, at: Affine) -> Hashable:
        number = self.buffer(buffer, at.start)
        return number, at.start - self.starts[number], tuple((self.name(v), stride) for v, stride in at.strides)

    def value(self, root: Scalar) -> int:
        for e in walk(root):
            if e not in self.done:
                self.done[e] = self.nodes.setdefault(self._node(e), len(self.nodes))
        return self.done[root]

    def _node(self, e: Scalar) -> Hashable:
        match e:
            case Const():  # as text: 0.0 and -0.0 are equal
                what: tuple[Hashable, ...] = (repr(e.value),)
            case Variable() | Local():
                what = (self.name(e.name),)
            case Load():
                what = (self.place(e.buffer, e.at), None if e.where is None else self.done[e.where], repr(e.other))
            case Gather():
                what = (self.buffer(e.buffer), e.size, self.done[e.at], repr(e.other))
            case Op():
                what = (e.name, tuple(self.done[a] for a in e.arguments))
        return type(e).__name__, e.dtype.str, *what

    def store(self, store: Store) -> Hashable:
        value = self.value(store.value)
        if isinstance(store.at, Scalar):
            return value, self.buffer(store.buffer), self.value(store.at), store.adds
        return value, self.place(store.buffer, store.at), None, store.adds

    def accumulate(self, accumulate: Accumulate) -> Hashable:
        return self.name(accumulate.name), accumulate.how, self.value(accumulate.value)

    def serial_loop(self, loop: SerialLoop) -> Hashable:
        names = tuple(map(self.name, loop.variables))
        return names, loop.extents, tuple(map(self.accumulate, loop.accumulates)), tuple(map(self.store, loop.stores))

    def lane_loop(self, loop: LaneLoop) -> Hashable:
        serial = tuple(map(self.serial_loop, loop.serial))
        stores, accumulates = tuple(map(self.store, loop.stores)), tuple(map(self.accumulate, loop.accumulates))
        return self.name(loop.variable), loop.extent, serial, stores, accumulates
