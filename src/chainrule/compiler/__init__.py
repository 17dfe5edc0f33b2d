"""From a graph to something that runs: the stages in order, and the door to them."""

from chainrule.compiler.compile import BACKENDS, CompiledGraph, Evaluated, chosen_backend, compile_graph
from chainrule.compiler.function import CompiledFunction, compile
from chainrule.compiler.link import link
from chainrule.compiler.parts import Part, Parts, Stop

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
