"""Reverse mode: write the backward pass next to the forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.errors import GraphError, ShapeError
from chainrule.graph.context import holding
from chainrule.graph.graph import nodes_between
from chainrule.graph.primitive import OPERATIONS
from chainrule.graph.source import shown
from chainrule.graph.tensor import Node, Tensor, as_array
from chainrule.spec import TensorSpec


def vjp(
    outputs: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    wrt: Sequence[Tensor],
    passed: dict[Node, tuple[list[Tensor | None], tuple]] | None = None,
) -> list[Tensor | None]:
    """Pull ``cotangents`` of ``outputs`` back to ``wrt``, as new values of the same graph.

    Gives None where no differentiable path joins an output to an entry of ``wrt``; ``reason`` says why.
    passed: is filled with what passed each node on the way: (cotangents of its outputs, cotangents of its inputs).
    """
    nodes = _depending(wrt, outputs)
    at: dict[Any, Tensor] = {}
    for y, dy in zip(outputs, cotangents, strict=True):
        if dy.shape != y.shape:
            raise ShapeError(f"a cotangent must have the shape of its output: got {dy.spec} for {y.spec}")
        _add(at, y, dy if dy.dtype == y.dtype else OPERATIONS["astype"](dy, y.dtype))
    # Order matters: for b = a + a; c = b + b, pulling b back before c has reported loses half of a's gradient.
    # A node's readers all have larger serials, so going down the serials visits a value after all its readers.
    for node in reversed(nodes):
        dys = [at.pop((node, i), None) for i in range(len(node.specs))]
        if all(dy is None for dy in dys):
            continue
        pulled = pull_back(node, dys)
        if passed is not None:
            passed[node] = (dys, pulled)
        for x, dx in zip(node.inputs, pulled, strict=True):
            if dx is not None:
                _add(at, x, dx)
    return [at.get(x.key) for x in wrt]


def pull_back(node: Node, dys: Sequence[Tensor | None]) -> tuple:
    """Cotangents of a node's inputs from those of its outputs, each new node tagged with this one."""
    ys = tuple(node.output(i) for i in range(len(node.specs)))
    primitive = node.primitive
    with holding(origin=(node, primitive.why), scope=node.scope):
        if primitive.several:
            pulled = primitive.pullback(tuple(dys), ys, *node.inputs, **node.parameters)
        else:
            pulled = primitive.pullback(dys[0], ys[0], *node.inputs, **node.parameters)
    if not isinstance(pulled, tuple) or len(pulled) != len(node.inputs):
        raise GraphError(
            f"the pullback of {primitive.name} must return a tuple of {len(node.inputs)} cotangents, one an input, "
            f"got {type(pulled).__name__}{f' of {len(pulled)}' if isinstance(pulled, tuple) else ''}"
        )
    return tuple(_checked(primitive.name, i, x, dx) for i, (x, dx) in enumerate(zip(node.inputs, pulled, strict=True)))


def _checked(name: str, i: int, x: Tensor, dx: Any) -> Tensor | None:
    """A cotangent that a pullback gave for its input ``i``, in the input's dtype; GraphError where it cannot be one."""
    if dx is None or not x.spec.floating:
        return None
    if not isinstance(dx, Tensor):
        raise GraphError(
            f"the pullback of {name} gave a {type(dx).__name__} for input {i}: write it with chainrule's operations"
        )
    if dx.shape != x.shape:
        raise GraphError(
            f"the pullback of {name} gave a cotangent of shape {dx.shape} "
            f"for input {i} of shape {x.shape}: sum it over broadcast axes"
        )
    return dx if dx.dtype == x.dtype else OPERATIONS["astype"](dx, x.dtype)


def _depending(wrt: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Node]:
    """Nodes between ``wrt`` and ``outputs`` that read ``wrt``, directly or not, in order."""
    sources = {x.key for x in wrt}
    depending: dict[Node, None] = {}
    for node in nodes_between(wrt, outputs):
        if any(x.key in sources or x.node in depending for x in node.inputs):
            depending[node] = None
    return list(depending)


def _add(at: dict[Any, Tensor], x: Tensor, dx: Tensor) -> None:
    at[x.key] = OPERATIONS["add"](at[x.key], dx) if x.key in at else dx


def reason(outputs: Sequence[Tensor], x: Tensor) -> str:
    """Why no gradient reaches ``x`` from ``outputs``, in words."""
    readers = _depending([x], outputs)
    if not readers and x.array is None:
        return "the loss does not use it"
    if not readers:  # eager values keep no history through what gradients do not cross
        return "the loss does not use it, or uses it only through booleans, integers or detached values"
    cuts = [n for n in readers if n.primitive.draw is None]
    cut = cuts[-1] if cuts else readers[-1]
    line = shown(cut.line)
    return f"every path to the loss passes {cut.primitive.name}{line and ' at ' + line}, which no gradient crosses"


def zeros_like(x: Tensor) -> Tensor:
    """The gradient of something that nothing depends on."""
    return Tensor(x.spec, np.zeros(x.shape, x.dtype), constant=True)


def ones_cotangent(y: Tensor) -> Tensor:
    """The cotangent 1 of a scalar; ShapeError for anything else."""
    if y.shape != ():
        raise ShapeError(
            f"a gradient needs a scalar, got {y.spec}: reduce it with mean() or sum(), or give a cotangent"
        )
    if not y.spec.floating:
        raise ShapeError(f"a gradient needs a floating-point scalar, got {y.spec}: nothing flows through {y.dtype}")
    return Tensor(y.spec, np.ones((), y.dtype), constant=True)


def backward(y: Tensor, cotangent: Any = None) -> None:
    """Add dy/dx to ``x.grad`` for every leaf x that requires a gradient (see ``Tensor.backward``)."""
    if not y.requires_grad or (y.node is None and y.array is None):
        raise GraphError(
            f"backward() of a {y.spec} that was not made from anything that requires a gradient: "
            "make the inputs with tensor(..., requires_grad=True); inside grad() or step() no backward() is needed"
        )
    if cotangent is None:
        dy = ones_cotangent(y)
    else:
        array = cotangent.value("backward()") if isinstance(cotangent, Tensor) else as_array(cotangent, y.dtype)
        dy = Tensor(TensorSpec(array.shape, array.dtype), array)
    leaves = {x.key: x for n in nodes_between([], [y]) for x in n.inputs if x.node is None and x.requires_grad}
    if y.node is None:
        leaves[y.key] = y
    with holding(recording=False):
        for x, dx in zip(leaves.values(), vjp([y], [dy], list(leaves.values())), strict=True):
            if dx is not None:
                x.grad = Tensor(dx.spec, np.array(dx.array)) if x.grad is None else OPERATIONS["add"](x.grad, dx)
