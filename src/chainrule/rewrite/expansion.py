"""Expansion: a primitive without a lowering of its own becomes what its ``evaluate`` says in other primitives."""

from __future__ import annotations

from chainrule.errors import GraphError
from chainrule.graph import Graph, Node, Tensor, replaced
from chainrule.ops import expansion

_NAMES = """
add subtract multiply divide negative floor_divide remainder pow power equal not_equal less less_equal greater
greater_equal logical_and logical_or logical_xor logical_not isfinite isnan where exp expm1 log log1p sqrt abs sign
floor ceil round sin cos tanh erf maximum minimum clip astype relu identity stop_gradient mean reshape permute_dims
broadcast_to concat slice pad flip split sum max min all any argmax argmin cumsum matmul gather scatter_add sort
counter_bits scan windows windows_add
"""
CORE = frozenset(_NAMES.split())
"""Names of the primitives that have a lowering of their own."""


def expand(graph: Graph, core: frozenset[str] = CORE) -> Graph:
    """softplus(x) -> max(x, 0) + log1p(exp(-|x|)), and so on until only ``core`` and barriers are left.

    Changes no bit: both sides are the same ``evaluate``.
    """
    return replaced(graph, lambda node, inputs: _expanded(node, inputs, core, ()))


def _expanded(
    node: Node, inputs: tuple[Tensor, ...], core: frozenset[str], outer: tuple[str, ...]
) -> tuple[Tensor, ...] | None:
    name = node.primitive.name
    if name in core or name == "barrier":
        return None
    if name in outer:
        raise GraphError(
            f"{name} has no lowering, and its evaluate() is made of itself ({' -> '.join((*outer, name))}): "
            "write it with other operations"
        )
    piece = Graph(_distinct(inputs), expansion(node.primitive, inputs, node.parameters))
    return replaced(piece, lambda n, xs: _expanded(n, xs, core, (*outer, name))).outputs


def _distinct(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple({x.key: x for x in inputs}.values())
