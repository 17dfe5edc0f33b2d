"""The state of training: parameters, gradients and optimizer moments in flat memory, of which arrays are views."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from chainrule.errors import ArgumentError, BusyError
from chainrule.nn import Module, Parameter
from chainrule.optim import Optimizer

LANES = 16
"""Each parameter starts at a multiple of this many elements, so that vectors never straddle two of them."""


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
        sizes = [-(-p.size // LANES) * LANES for p in self.parameters]
        self.offsets = tuple(int(o) for o in np.cumsum([0, *sizes])[:-1])
        self.theta = np.zeros(sum(sizes), self.dtype)
        self.gradient = np.zeros_like(self.theta)
        self.moments = optimizer.initial(self.theta)
        self.bind()
        self.step = 0
        self._busy = threading.Lock()

    def views(self, flat: np.ndarray) -> list[np.ndarray]:
        """The part of a flat array that belongs to each parameter, in its shape."""
        return [flat[o : o + p.size].reshape(p.shape) for o, p in zip(self.offsets, self.parameters, strict=True)]

    def bind(self) -> None:
        """Make the network's arrays views of this memory, with the values that they have.

        Needed again where something else took them over: another state, or a conversion.
        """
        for parameter, view in zip(self.parameters, self.views(self.theta), strict=True):
            if parameter.array.base is not self.theta:
                view[...] = parameter.array
                parameter.array = view

    @contextmanager
    def training(self) -> Iterator[None]:
        """Hold the state for one trainer; BusyError for a second one."""
        if not self._busy.acquire(blocking=False):
            raise BusyError("this network is already training in another thread: wait for it, or train a copy")
        try:
            self.bind()
            yield
        finally:
            self._busy.release()

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
