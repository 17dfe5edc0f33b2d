"""What the user meant: tensors, nodes, primitives, tracing, evaluation and the backward pass."""

from chainrule.graph.apply import apply
from chainrule.graph.check import check
from chainrule.graph.collector import collector_paused
from chainrule.graph.context import context, holding, no_grad
from chainrule.graph.draw import Draw
from chainrule.graph.evaluate import evaluate, evaluator
from chainrule.graph.graph import Graph, inline, nodes_between
from chainrule.graph.namespace import NUMPY
from chainrule.graph.primitive import OPERATIONS, PRIMITIVES, Primitive, operation
from chainrule.graph.replace import Rule, replaced
from chainrule.graph.source import shown, user_line
from chainrule.graph.tensor import Node, Tensor, as_array, constant, tensor
from chainrule.graph.trace import Traced, placeholder, trace, write
from chainrule.graph.vjp import ones_cotangent, reason, vjp, zeros_like

__all__ = [
    "NUMPY",
    "OPERATIONS",
    "PRIMITIVES",
    "Draw",
    "Graph",
    "Node",
    "Primitive",
    "Rule",
    "Tensor",
    "Traced",
    "apply",
    "as_array",
    "check",
    "collector_paused",
    "constant",
    "context",
    "evaluate",
    "evaluator",
    "holding",
    "inline",
    "no_grad",
    "nodes_between",
    "ones_cotangent",
    "operation",
    "placeholder",
    "reason",
    "replaced",
    "shown",
    "tensor",
    "trace",
    "user_line",
    "vjp",
    "write",
    "zeros_like",
]
