"""Which operation first made a value that is not finite, and from what."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import NonFiniteError
from chainrule.graph import NUMPY, Graph, Node, shown


def explain_nonfinite(graph: Graph, inputs: list[np.ndarray], step: int, what: str) -> NonFiniteError:
    """The error that names the first operation of ``graph`` whose result is not finite although its inputs are."""
    for x, array in zip(graph.inputs, inputs, strict=True):
        if _bad(array):
            rows = _bad_rows(array)
            where = f" in rows {rows}" if x.name in ("x", "y") else ""
            return NonFiniteError(
                f"step {step}: {x.name or 'an input'} holds NaN or infinity{where} before the step; the weights were "
                "left as they were: clean the data, or go back to a checkpoint",
                step,
                x.name or "an input",
            )
    values: dict[Any, Any] = {x.key: a for x, a in zip(graph.inputs, inputs, strict=True)}
    for node in graph.nodes():
        arguments = [values.get(x.key, x.array) for x in node.inputs]
        with np.errstate(all="ignore"):
            result = node.primitive.evaluate(NUMPY, *arguments, **node.parameters)
        results = result if node.primitive.several else (result,)
        if any(map(_bad, results)):
            operation, layer = _operation(node), (node.origin[0] if node.origin else node).scope
            return NonFiniteError(_sentence(node, arguments, results, step, what), step, operation, layer)
        values.update({(node, i): r for i, r in enumerate(results)})
    return NonFiniteError(f"step {step}: the norm of the gradient overflows although each entry is finite; the weights "
                          "were left as they were: lower the learning rate or clip by value",
                          step, "norm of the gradient")  # fmt: skip


def _sentence(node: Node, arguments: list[Any], results: tuple, step: int, what: str) -> str:
    largest = [float(np.abs(np.asarray(a, np.float64)).max()) for a in arguments if np.asarray(a).size]
    rows = _bad_rows(next(r for r in results if _bad(r)))
    return (
        f"step {step}: the {what} is not finite. First bad operation: {_operation(node)}, whose inputs were finite "
        f"(largest {max(largest, default=0.0):.3g}); bad rows of the batch: {rows}. The weights were left as they "
        "were: lower the learning rate, clip the gradient (clip_norm=1.0), or scale the inputs"
    )


def _operation(node: Node) -> str:
    """ "exp in layer '3' (net.py:8)" """
    source = node.origin[0] if node.origin else node
    layer = f" in layer {source.scope!r}" if source.scope else ""
    line = f" ({shown(source.line)})" if source.line else ""
    part = f"the backward pass of {source.primitive.name}" if node.origin else source.primitive.name
    return f"{part}{layer}{line}"


def _bad(array: Any) -> bool:
    found = np.asarray(array)
    return found.dtype.kind == "f" and not bool(np.isfinite(found).all())


def _bad_rows(array: Any, most: int = 5) -> str:
    found = np.asarray(array)
    if found.ndim == 0:
        return "all"
    rows = np.flatnonzero(~np.isfinite(found).reshape(len(found), -1).all(axis=1))
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return ", ".join(map(str, rows[:most])) + more
