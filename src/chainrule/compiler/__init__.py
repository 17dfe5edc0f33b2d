"""From a graph to something that runs: the stages in order, and the door to them."""

from chainrule.compiler.compile import BACKENDS, Evaluated, compile_graph
from chainrule.compiler.function import CompiledFunction, compile
from chainrule.compiler.link import Part, Parts, Stop, link

__all__ = ["BACKENDS", "CompiledFunction", "Evaluated", "Part", "Parts", "Stop", "compile", "compile_graph", "link"]
