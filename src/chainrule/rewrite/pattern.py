"""What the rules look for: who made a value, and constants that are one number."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.graph import PRIMITIVES, Graph, Node, Rule, Tensor, apply, replaced
from chainrule.spec import TensorSpec


def made_by(x: Tensor, name: str) -> Node | None:
    """The node that made ``x`` if it is an application of that primitive."""
    return x.node if x.node is not None and x.node.primitive.name == name else None


def same(a: Tensor, b: Tensor) -> bool:
    """Whether both are the same value. (Keys hold tensors, whose == gives a tensor.)"""
    return a.index == b.index and (a.node or a) is (b.node or b)


def number(x: Tensor) -> Any:
    """The value of a constant whose elements all have the same bits, as a NumPy scalar; None for anything else."""
    stretched = made_by(x, "broadcast_to")
    array = stretched.inputs[0].array if stretched else x.array
    if array is None or array.size == 0:
        return None
    first = array.reshape(-1)[:1] if array.ndim == 0 else array[(slice(0, 1),) * array.ndim].reshape(-1)
    if any(n > 1 and step for n, step in zip(array.shape, array.strides, strict=True)):
        same = array == first[0]
        if not same.all() or (first[0] == 0 and array.dtype.kind == "f" and np.signbit(array).any()):
            return None
    return first[0]


def fitted(x: Tensor, spec: TensorSpec) -> Tensor:
    """``x`` stretched to the shape of ``spec``."""
    return x if x.shape == spec.shape else apply(PRIMITIVES["broadcast_to"], (x,), {"shape": spec.shape})


def reshaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if x.shape == shape else apply(PRIMITIVES["reshape"], (x,), {"shape": shape})


def settled(graph: Graph, rule: Rule) -> Graph:
    """``rule`` applied until it changes nothing."""
    while (after := replaced(graph, rule)) is not graph:
        graph = after
    return graph
