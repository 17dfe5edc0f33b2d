"""The state of training: parameters, gradients and optimizer moments in flat memory, of which arrays are views."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import numpy as np

from chainrule.errors import ArgumentError, BusyError
from chainrule.graph import Graph
from chainrule.memory import aligned_zeros
from chainrule.nn import Module, Parameter
from chainrule.nn.module import moved
from chainrule.optim import Optimizer
from chainrule.optim.layout import places

Hold = list[frozenset[int]]
"""That somebody trains these tensors: their ids, in a list of its own, so that two holds on the same are two."""

_holds: list[Hold] = []
"""Of each training that is going on: networks may share some of their tensors."""


def tensors_of(net: Module) -> frozenset[int]:
    """The ids of all that training of ``net`` may change."""
    return frozenset(map(id, (*net.parameters(), *net.buffers())))


def hold(tensors: frozenset[int]) -> Hold:
    """Take these tensors for one trainer; BusyError if another one has any of them."""
    own = [tensors]
    _holds.append(own)  # at once, in one operation: of two that come together one sees the other before itself
    if len(_holds) > 1:
        for earlier in list(_holds):
            if earlier is own:
                break
            if not tensors.isdisjoint(earlier[0]):
                release(own)
                raise BusyError("this network is already training, in another thread or around this call: wait until "
                                "that has ended, or train a copy")  # fmt: skip
    return own


def release(held: Hold) -> None:
    """Give back what ``hold`` took."""
    _holds.remove(held)  # or one that is equal, which its own trainer then takes for the other


@contextmanager
def exclusively(tensors: frozenset[int]) -> Iterator[None]:
    """Hold these tensors for the duration of a block."""
    held = hold(tensors)
    try:
        yield
    finally:
        release(held)


def _aligned(values: np.ndarray) -> np.ndarray:
    copy = aligned_zeros(values.shape, values.dtype)
    copy[...] = values
    return copy


class TrainingState:
    """What a step of training reads and writes.

    ``theta`` holds every trainable parameter one after another, ``gradient`` their gradients at the same places, and
    each array of ``moments`` one slot of the optimizer. ``step`` counts the updates made.
    """

    def __init__(self, net: Module, optimizer: Optimizer) -> None:
        net.root().initialise_if_needed()
        self.net, self.optimizer = net, optimizer
        named = [(n, p) for n, p in net.named_parameters() if p.requires_grad]
        if not named:
            raise ArgumentError("the network has no trainable parameters: add a layer with weights, or thaw some with "
                                "requires_grad_(True)")  # fmt: skip
        self.names = tuple(n for n, _ in named)
        self.parameters: tuple[Parameter, ...] = tuple(p for _, p in named)
        dtypes = {p.dtype for p in self.parameters}
        if len(dtypes) > 1:
            listed = ", ".join(sorted(d.name for d in dtypes))
            raise ArgumentError(f"parameters of several dtypes ({listed}): convert them with net.to('float32')")
        self.dtype = dtypes.pop()
        self.offsets, length = places([p.size for p in self.parameters])
        self.theta, self.gradient = aligned_zeros(length, self.dtype), aligned_zeros(length, self.dtype)
        self.moments = {slot: _aligned(values) for slot, values in optimizer.initial(self.theta).items()}
        self._seen, self._kept = -1, False
        self.bind()
        self.counter = np.zeros((), np.int64)
        self._made = self.counter.data
        self.tensors = tensors_of(net)
        self._graphs: dict[Hashable, Graph] = {}

    @property
    def scalars(self) -> tuple[str, ...]:
        """The numbers that an update takes besides arrays."""
        return tuple(self.optimizer.scalars(1, self.optimizer.lr))

    @property
    def step(self) -> int:
        """Updates made. The update itself counts them, so that weights and count never part."""
        return self._made[()]

    @step.setter
    def step(self, made: int) -> None:
        self.counter[...] = made

    def made(self, name: Hashable, make: Callable[[], Graph]) -> Graph:
        """A graph over this state alone, made once: every shape of batch shares it."""
        if name not in self._graphs:
            self._graphs[name] = make()
        return self._graphs[name]

    def views(self, flat: np.ndarray) -> list[np.ndarray]:
        """The part of a flat array that belongs to each parameter, in its shape."""
        return [flat[o : o + p.size].reshape(p.shape) for o, p in zip(self.offsets, self.parameters, strict=True)]

    def bind(self) -> None:
        """Make the network's arrays views of this memory, with the values that they have.

        Needed again where something else took them over: another state, or a conversion.
        """
        if self._seen == moved[0]:
            return
        for name, parameter, view in zip(self.names, self.parameters, self.views(self.theta), strict=True):
            if parameter.dtype != self.dtype or not parameter.requires_grad:
                changed = "was frozen" if parameter.dtype == self.dtype else f"became {parameter.dtype}"
                raise ArgumentError(f"{name} {changed} after the step was made: make the step anew")
            if parameter.array.base is not view.base:
                view[...] = parameter.array
                parameter.array = view
        self._seen = moved[0]

    def begin(self) -> Hold:
        """Hold the state for one trainer until ``end``; BusyError for a second one."""
        held = hold(self.tensors)
        if self._seen != moved[0]:
            try:
                self.bind()
            except BaseException:
                release(held)
                raise
        return held

    def end(self, held: Hold) -> None:
        """Let go of the state."""
        release(held)
        if not self._kept:
            self.keep()

    @contextmanager
    def training(self) -> Iterator[None]:
        """Hold the state for the duration of a block."""
        held = self.begin()
        try:
            yield
        finally:
            self.end(held)

    def keep(self) -> None:
        """Mark what was trained, so that no later ``fit`` draws it anew."""
        if self.step and not self._kept:
            for held in (*self.net.parameters(), *self.net.buffers()):
                held.kept = True
            self._kept = True

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything a checkpoint needs, by name."""
        found = {f"net.{n}": a for n, a in self.net.state_dict().items()}
        for slot, flat in self.moments.items():
            views = self.views(flat)
            found.update({f"optimizer.{slot}.{n}": v.copy() for n, v in zip(self.names, views, strict=True)})
        return found

    def load(self, arrays: dict[str, np.ndarray], step: int) -> None:
        """Take over what ``arrays`` gave."""
        self.net.load_state_dict({n.removeprefix("net."): a for n, a in arrays.items() if n.startswith("net.")})
        for slot, flat in self.moments.items():
            for name, view in zip(self.names, self.views(flat), strict=True):
                view[...] = arrays[f"optimizer.{slot}.{name}"]
        self.step = step
