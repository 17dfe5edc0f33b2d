"""From a graph to something that runs: the stages in order, and the door to them."""

from chainrule.compiler.compile import BACKENDS, CompiledGraph, Evaluated, chosen_backend, compile_graph
from chainrule.compiler.function import CompiledFunction, compile
from chainrule.compiler.link import Part, Parts, Stop, link

__all__ = [
    "BACKENDS",
    "CompiledFunction",
    "CompiledGraph",
    "Evaluated",
    "Part",
    "Parts",
    "Stop",
    "chosen_backend",
    "compile",
    "compile_graph",
    "link",
]
