"""Apply a primitive: compute at once, and keep the node where a gradient or a trace needs it."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import CapturedTensorError, GraphError
from chainrule.graph.context import context
from chainrule.graph.namespace import NUMPY
from chainrule.graph.primitive import Primitive
from chainrule.graph.source import shown, user_line
from chainrule.graph.tensor import Node, Tensor


def apply(primitive: Primitive, inputs: tuple[Tensor, ...], parameters: dict[str, Any]) -> Any:
    """One application of ``primitive``: a Tensor, or a tuple of them if it has several outputs."""
    trace = context.trace
    if trace is not None:
        inputs = tuple(map(trace.seen, inputs))
    specs = primitive.specs(tuple([x.spec for x in inputs]), parameters)
    if any(x.array is None for x in inputs):
        node = Node(primitive, inputs, parameters, specs, line=_line())
    else:
        arrays = _evaluate(primitive, inputs, parameters, specs)
        if not (context.recording and any(x.requires_grad for x in inputs)):
            outputs = tuple(map(Tensor, specs, arrays))
            return outputs if primitive.several else outputs[0]
        node = Node(primitive, inputs, parameters, specs, arrays, _line())
    outputs = tuple(node.output(i) for i in range(len(specs)))
    return outputs if primitive.several else outputs[0]


def _line() -> tuple[str, int] | None:
    if context.replaces is not None:
        return context.replaces.line
    return context.origin[0].line if context.origin else user_line()


def _evaluate(primitive: Primitive, inputs: Any, parameters: dict, specs: tuple) -> tuple[np.ndarray, ...]:
    with np.errstate(all="ignore"):
        result = primitive.evaluate(NUMPY, *(x.array for x in inputs), **parameters)
    results = result if primitive.several else (result,)
    arrays = tuple(np.asarray(a) for a in results)
    if [a.shape for a in arrays] != [s.shape for s in specs]:
        raise GraphError(
            f"{primitive.name}: its evaluate gives {', '.join(str(list(a.shape)) for a in arrays)} "
            f"where its shape rule says {', '.join(str(list(s.shape)) for s in specs)}: make the two agree"
        )
    return tuple(a.astype(s.dtype, copy=False) for a, s in zip(arrays, specs, strict=True))


def refuse_captured(x: Tensor) -> None:
    """A traced operation met an eager Tensor that the function was not given."""
    name = f" {x.name!r}" if x.name else ""
    where = shown(user_line())
    raise CapturedTensorError(
        f"the traced function reads the Tensor{name} ({x.spec}) that it was not given{where and ', at ' + where}: "
        "its present values would be frozen into the compiled code. Pass it as an argument, or wrap it in "
        "chainrule.constant(...) if freezing is meant."
    )
