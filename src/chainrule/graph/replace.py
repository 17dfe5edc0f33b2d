"""Rebuild a graph with some of its nodes replaced, each in its place in the order of evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chainrule.errors import GraphError
from chainrule.graph.context import context, holding
from chainrule.graph.graph import Graph
from chainrule.graph.source import shown
from chainrule.graph.tensor import Node, Tensor

Rule = Callable[[Node, tuple[Tensor, ...]], "tuple[Tensor | None, ...] | None"]
"""(node, what its inputs became) -> what its outputs become, or None to keep it.

An entry is None for an output that nobody reads. What a rule applies takes the node's line, origin and scope."""


def replaced(graph: Graph, rule: Rule, bodies: Callable[[Graph], Graph] | None = None) -> Graph:
    """``graph`` with ``rule`` asked about every node; the same object if it kept them all.

    bodies: what is done to the graphs among a node's parameters; None: the same rule.
    Nodes before the first change are kept, all later ones are made anew, so that the order of evaluation stays.
    """
    inside = bodies or (lambda body: replaced(body, rule))
    stands: dict[Any, Tensor] = {}
    changed = False
    with holding(trace=None, recording=False, replaces=None, origin=None, scope=""):
        for node in graph.nodes():
            inputs = tuple([stands.get(x.key, x) for x in node.inputs]) if changed else node.inputs
            parameters = _with_bodies(node.parameters, inside)
            context.replaces, context.origin, context.scope = node, node.origin, node.scope
            asked = node if parameters is node.parameters else _remade(node, inputs, parameters)
            results = rule(asked, inputs)
            if results is None:
                if not changed and asked is node:
                    continue
                made = asked if asked is not node else _remade(node, inputs, parameters)
                results = tuple(made.output(i) for i in range(len(made.specs)))
            changed = True
            _refuse_other_specs(node, results)
            for i, y in enumerate(results):
                if y is not None:
                    stands[node, i] = y
    return Graph(graph.inputs, tuple(stands.get(y.key, y) for y in graph.outputs)) if changed else graph


def _with_bodies(parameters: dict[str, Any], inside: Callable[[Graph], Graph]) -> dict[str, Any]:
    """The same dict unless a body in it changes."""
    for value in parameters.values():  # nearly always without one, and asked of every node
        if isinstance(value, Graph):
            break
    else:
        return parameters
    bodies = {k: inside(v) for k, v in parameters.items() if isinstance(v, Graph)}
    return {**parameters, **bodies} if any(parameters[k] is not v for k, v in bodies.items()) else parameters


def _remade(node: Node, inputs: tuple[Tensor, ...], parameters: dict[str, Any]) -> Node:
    return Node(node.primitive, inputs, parameters, node.specs, line=node.line)


def _refuse_other_specs(node: Node, results: tuple[Tensor | None, ...]) -> None:
    found = tuple([spec if y is None else y.spec for y, spec in zip(results, node.specs, strict=True)])
    if found != node.specs:
        line, given = shown(node.line) or "an unknown line", ", ".join(map(str, node.specs))
        raise GraphError(
            f"{node.primitive.name} at {line} gives {given}, but was rewritten to {', '.join(map(str, found))}: "
            "correct its evaluate(), or report the rewrite"
        )
