"""The operations as an array namespace: what ``evaluate`` is given to be traced into other primitives."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.graph import OPERATIONS, Primitive, Tensor, trace
from chainrule.ops.broadcasting import as_tensor, cast
from chainrule.spec import FLOAT32, TensorSpec, as_dtype


class OpsNamespace:
    """chainrule's operations under the names and arguments of the array API standard, and this project's extension."""

    def __getattr__(self, name: str) -> Any:
        if name not in OPERATIONS:
            raise AttributeError(f"{name} is not an operation: an evaluate() may use {', '.join(sorted(OPERATIONS))}")
        return OPERATIONS[name]

    @staticmethod
    def sum(x: Any, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
        return OPERATIONS["sum"](x if dtype is None else cast(as_tensor(x), as_dtype(dtype)), axis, keepdims)

    @staticmethod
    def cumulative_sum(x: Any, axis: int = -1, dtype: Any = None) -> Tensor:
        return OPERATIONS["cumsum"](x if dtype is None else cast(as_tensor(x), as_dtype(dtype)), axis)

    @staticmethod
    def argsort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
        return OPERATIONS["argsort"](x, axis, descending)  # always stable

    @staticmethod
    def pad(x: Any, padding: Any, constant_values: float = 0.0) -> Tensor:
        return OPERATIONS["pad"](x, padding, value=constant_values)

    @staticmethod
    def scatter_add(shape: tuple[int, ...], indices: Any, updates: Any) -> Tensor:
        return OPERATIONS["scatter_add"](indices, updates, rows=shape[0])

    @staticmethod
    def zeros(shape: Any, dtype: Any = FLOAT32) -> Tensor:
        return as_tensor(np.zeros(shape, as_dtype(dtype)))

    @staticmethod
    def ones(shape: Any, dtype: Any = FLOAT32) -> Tensor:
        return as_tensor(np.ones(shape, as_dtype(dtype)))

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
