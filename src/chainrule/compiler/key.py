"""What parts mean, as a key: equal only where the same plan is made of them, in this process or another.

Tracing says what is to be done. Rewriting, lowering and planning follow from that, from chainrule's own files, from
NumPy, which works out constants, and from the processor.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.compiler.parts import Part, Parts, Stop
from chainrule.graph import PRIMITIVES, Graph, Primitive, Tensor
from chainrule.ops import OWN
from chainrule.spec import TensorSpec

log = logging.getLogger("chainrule.compile")

MOST_CONSTANTS = 1 << 20
"""Bytes of constants in graphs that have a key; a plan holds them all."""

FOLDERS = ("backends/native", "compiler", "graph", "kernel", "lowering", "ops", "rewrite")
"""Whose files decide how a graph becomes a plan."""


def key_of(parts: Parts) -> str | None:
    """64 hex digits, the same in each process that would make the same plan of ``parts``.

    None where something in them is not chainrule's own, such as a primitive of the user's, whose code may change, or
    chainrule's own code is not in files.
    """
    from chainrule.backends.native.build import identity

    if not FILES:
        return None
    description = _Description()
    try:
        described = [description.part(part) for part in parts]
    except _UnknownError as reason:
        log.debug("parts without a key: %s", reason)
        return None
    return hashlib.sha256(repr((identity(), np.__version__, FILES, described)).encode()).hexdigest()


def files() -> str:
    """What tells whether a file of `FOLDERS` has changed; empty where they are not files."""
    root = Path(__file__).parent.parent
    try:
        found = [entry for folder in FOLDERS for entry in os.scandir(root / folder) if entry.name.endswith(".py")]
        stats = [(entry.path, entry.stat()) for entry in found]
    except OSError:
        return ""
    return repr(sorted((path, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for path, s in stats))


FILES = files()
"""As they are when this process loads them; what it makes after a change belongs to neither state and is not kept."""


class _UnknownError(Exception):
    """Nobody knows whether another process means the same by it."""


class _Description:
    """Parts as nested tuples of numbers and text, whose ``repr`` is equal only where all is."""

    def __init__(self) -> None:
        self.constants = 0

    def part(self, part: Part | Stop) -> Hashable:
        if isinstance(part, Stop):
            return part.name
        return part.inputs, part.outputs, part.doomed, self.graph(part.graph)

    def graph(self, graph: Graph) -> Hashable:
        known = {x.key: i for i, x in enumerate(graph.inputs)}
        nodes = []
        for node in graph.nodes():
            parameters = [(name, self.value(value)) for name, value in sorted(node.parameters.items())]
            nodes.append((self.primitive(node.primitive), [self.read(x, known) for x in node.inputs], parameters))
            for i in range(len(node.specs)):
                known[node, i] = len(known)
        inputs = [_spec(x.spec) for x in graph.inputs]
        return "graph", inputs, nodes, [(self.read(y, known), _spec(y.spec)) for y in graph.outputs]

    def primitive(self, primitive: Primitive) -> str:
        if primitive.name not in OWN or PRIMITIVES.get(primitive.name) is not primitive:
            raise _UnknownError(f"{primitive.name} is no primitive of chainrule")
        return primitive.name

    def read(self, x: Tensor, known: Mapping[Any, int]) -> Hashable:
        number = known.get(x.key)
        if number is not None:
            return number
        if x.array is None:
            raise _UnknownError(f"{x} comes from outside")
        return "constant", self.value(x.array)

    def value(self, value: Any) -> Hashable:
        """A parameter of a node, or a constant."""
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return "float", value.hex()
        if isinstance(value, (tuple, list)):
            return type(value).__name__, [self.value(v) for v in value]
        if isinstance(value, (np.ndarray, np.generic)):
            self.constants += value.nbytes
            if self.constants > MOST_CONSTANTS or value.dtype.hasobject:
                raise _UnknownError(f"constants take more than {MOST_CONSTANTS:,} bytes")
            return type(value).__name__, value.shape, value.dtype.str, value.tobytes().hex()
        if isinstance(value, np.dtype):
            return "dtype", value.str
        if isinstance(value, TensorSpec):
            return _spec(value)
        if isinstance(value, Graph):
            return self.graph(value)
        raise _UnknownError(f"a parameter is a {type(value).__name__}")


def _spec(spec: TensorSpec) -> Hashable:
    return spec.shape, spec.dtype.str
