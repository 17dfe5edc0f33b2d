"""The rewrites in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chainrule.errors import GraphError
from chainrule.graph import Graph, Node, check
from chainrule.rewrite.algebra import simplify
from chainrule.rewrite.constants import fold
from chainrule.rewrite.contraction import contract
from chainrule.rewrite.dead import remove_dead
from chainrule.rewrite.expansion import expand
from chainrule.rewrite.sharing import remove_barriers, share
from chainrule.rewrite.stability import stabilise


@dataclass(frozen=True)
class Rewrite:
    """One stage: its name, what it does, and an example of it in one line."""

    name: str
    function: Callable[[Graph], Graph]

    @property
    def arrow(self) -> str:
        """Such as ``exp(x) - 1 -> expm1(x)``: the first line of the function's docstring."""
        return (self.function.__doc__ or "").partition("\n")[0]


REWRITES: tuple[Rewrite, ...] = (
    Rewrite("stability", stabilise),
    Rewrite("expansion", expand),
    Rewrite("constants", fold),
    Rewrite("algebra", simplify),
    Rewrite("contraction", contract),
    Rewrite("sharing", share),
    Rewrite("dead", remove_dead),
    Rewrite("barriers", remove_barriers),
)
"""Stability needs names that expansion takes away; sharing needs what algebra makes equal, and barriers to respect."""


def rewrite(graph: Graph, observe: Callable[[str, Graph], None] | None = None) -> Graph:
    """``graph`` through every rewrite, checked after each.

    observe: called with the name of each rewrite and the graph that it gave.
    """
    checked: set[Node] = set()
    check(graph, checked)
    for stage in REWRITES:
        before, graph = graph, stage.function(graph)
        try:
            if graph is not before:
                check(graph, checked)
        except GraphError as error:
            raise GraphError(f"the rewrite {stage.name!r} broke the graph: {error}") from error
        if observe is not None:
            observe(stage.name, graph)
    return graph
