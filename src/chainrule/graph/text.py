"""Graph -> text, for people and for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.graph.graph import Graph
from chainrule.graph.source import shown
from chainrule.graph.tensor import Tensor


def graph_text(graph: Graph) -> str:
    """One line a node: ``v3: float32[64, 10] = linear v2, 2.weight, 2.bias    train.py:9``."""
    names: dict[Any, str] = {}
    for i, x in enumerate(graph.inputs):
        names[x.key] = x.name or f"in{i}"

    def read(x: Tensor) -> str:
        if x.key in names:
            return names[x.key]
        return _constant(x) if x.array is not None else f"<unbound {x.spec}>"

    lines = [f"input {names[x.key]}: {x.spec}" for x in graph.inputs]
    for i, node in enumerate(graph.nodes()):
        made = [f"v{i}"] if len(node.specs) == 1 else [f"v{i}.{k}" for k in range(len(node.specs))]
        names.update({(node, k): name for k, name in enumerate(made)})
        arguments = ", ".join(map(read, node.inputs))
        parameters = "".join(f" {k}={_parameter(v)}" for k, v in node.parameters.items())
        results = ", ".join(f"{n}: {s}" for n, s in zip(made, node.specs, strict=True))
        line = shown(node.line)
        lines.append(f"{results} = {node.primitive.name} {arguments}{parameters}{'    ' + line if line else ''}")
    return "\n".join([*lines, "return " + ", ".join(map(read, graph.outputs))])


def _constant(x: Tensor) -> str:
    assert x.array is not None
    return f"{x.array.item():g}" if x.array.size == 1 else f"constant {x.spec}"


def _parameter(value: Any) -> str:
    if isinstance(value, Graph):
        return f"<body of {len(value.nodes())} nodes>"
    return value.name if isinstance(value, np.dtype) else str(value)
