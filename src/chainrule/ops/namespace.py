"""The operations as an array namespace: what ``evaluate`` is given to be traced into other primitives."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.graph import OPERATIONS, Primitive, Tensor, trace
from chainrule.ops.broadcasting import as_tensor
from chainrule.spec import TensorSpec


class OpsNamespace:
    """chainrule's operations under the names of the array API standard."""

    def __getattr__(self, name: str) -> Any:
        if name not in OPERATIONS:
            raise AttributeError(f"{name} is not an operation: an evaluate() may use {', '.join(sorted(OPERATIONS))}")
        return OPERATIONS[name]

    @staticmethod
    def zeros_like(x: Tensor) -> Tensor:
        return as_tensor(np.zeros(x.shape, x.dtype))

    @staticmethod
    def ones_like(x: Tensor) -> Tensor:
        return as_tensor(np.ones(x.shape, x.dtype))


OPS = OpsNamespace()


def expansion(primitive: Primitive, inputs: tuple[Tensor, ...], parameters: dict[str, Any]) -> tuple[Tensor, ...]:
    """What a primitive is in terms of others: its ``evaluate``, read with operations on tensors."""
    result = primitive.evaluate(OPS, *inputs, **parameters)
    return tuple(result) if primitive.several else (result,)


def expanded_specs(evaluate: Any, specs: tuple[TensorSpec, ...], parameters: dict[str, Any]) -> tuple[TensorSpec, ...]:
    """Shapes and dtypes of what ``evaluate`` gives for inputs of ``specs``."""
    traced = trace(lambda *xs: evaluate(OPS, *xs, **parameters), *specs)
    return tuple(y.spec for y in traced.graph.outputs)
