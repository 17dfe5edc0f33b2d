"""What is run one after another on named memory: graphs, and stops between them."""

from __future__ import annotations

from dataclasses import dataclass

from chainrule.graph import Graph


@dataclass(frozen=True)
class Part:
    """A graph whose inputs and outputs are wired by name: the same name is the same memory.

    A name may be among the inputs and the outputs of one part: it is read first and written then.
    doomed: (output, input of the same shape): soon after this part has written the one, a later part writes the other
    in the same order, as an update writes a parameter after its gradient. It helps threads and changes no value.
    """

    graph: Graph
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    doomed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Stop:
    """Unless the bool called ``name`` is true, the run ends here."""

    name: str


Parts = tuple[Part | Stop, ...]
