"""The operations as an array namespace: what ``evaluate`` is given to be traced into other primitives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.graph import OPERATIONS, Primitive, Tensor, as_array, trace
from chainrule.ops.broadcasting import as_tensor, cast
from chainrule.spec import DTYPES, FLOAT32, TensorSpec, as_dtype


class OpsNamespace:
    """chainrule's operations under the names of the array API standard."""

    def __getattr__(self, name: str) -> Any:
        if name not in OPERATIONS:
            raise AttributeError(f"{name} is not an operation: an evaluate() may use {', '.join(sorted(OPERATIONS))}")
        return OPERATIONS[name]

    def __init__(self) -> None:
        for dtype in DTYPES.values():
            setattr(self, dtype.name, dtype)
        self.bool, self.pi, self.e, self.inf, self.nan = DTYPES["bool"], math.pi, math.e, math.inf, math.nan

    @staticmethod
    def full(shape: Any, value: Any, dtype: Any = None) -> Tensor:
        """One value everywhere, kept once in memory: float32 unless ``dtype`` or the value's kind says otherwise."""
        held = as_array(value, None if dtype is None else as_dtype(dtype))
        return as_tensor(np.broadcast_to(held, (shape,) if isinstance(shape, int) else tuple(shape)))

    @staticmethod
    def zeros(shape: Any, dtype: Any = FLOAT32) -> Tensor:
        return OpsNamespace.full(shape, 0, dtype)

    @staticmethod
    def ones(shape: Any, dtype: Any = FLOAT32) -> Tensor:
        return OpsNamespace.full(shape, 1, dtype)

    @staticmethod
    def zeros_like(x: Tensor, dtype: Any = None) -> Tensor:
        return OpsNamespace.full(x.shape, 0, dtype or x.dtype)

    @staticmethod
    def ones_like(x: Tensor, dtype: Any = None) -> Tensor:
        return OpsNamespace.full(x.shape, 1, dtype or x.dtype)

    @staticmethod
    def full_like(x: Tensor, value: Any, dtype: Any = None) -> Tensor:
        return OpsNamespace.full(x.shape, value, dtype or x.dtype)

    @staticmethod
    def arange(*limits: Any, dtype: Any = None) -> Tensor:
        return as_tensor(as_array(np.arange(*limits), None if dtype is None else as_dtype(dtype)))

    @staticmethod
    def asarray(x: Any, dtype: Any = None) -> Tensor:
        found = as_tensor(x)
        return found if dtype is None else cast(found, as_dtype(dtype))

    @staticmethod
    def sum(x: Tensor, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
        return OPERATIONS["sum"](OpsNamespace.asarray(x, dtype), axis, keepdims)

    @staticmethod
    def prod(x: Tensor, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
        return OPERATIONS["prod"](OpsNamespace.asarray(x, dtype), axis, keepdims)

    @staticmethod
    def cumulative_sum(x: Tensor, axis: int = -1, dtype: Any = None) -> Tensor:
        return OPERATIONS["cumsum"](OpsNamespace.asarray(x, dtype), axis)

    @staticmethod
    def argsort(x: Tensor, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
        """Always stable, whatever is asked."""
        return OPERATIONS["argsort"](x, axis, descending)

    @staticmethod
    def pad(x: Tensor, pad_width: Any, constant_values: float = 0.0) -> Tensor:
        return OPERATIONS["pad"](x, pad_width, value=constant_values)

    @staticmethod
    def scatter_add(shape: tuple[int, ...], indices: Tensor, updates: Tensor) -> Tensor:
        """Zeros of ``shape``, with ``updates[k]`` added at row ``indices[k]`` of the first axis, in order of k."""
        return OPERATIONS["scatter_add"](indices, updates, rows=shape[0])


OPS = OpsNamespace()


def expansion(primitive: Primitive, inputs: tuple[Tensor, ...], parameters: dict[str, Any]) -> tuple[Tensor, ...]:
    """What a primitive is in terms of others: its ``evaluate``, read with operations on tensors."""
    result = primitive.evaluate(OPS, *inputs, **parameters)
    return tuple(result) if primitive.several else (result,)


def expanded_specs(evaluate: Any, specs: tuple[TensorSpec, ...], parameters: dict[str, Any]) -> tuple[TensorSpec, ...]:
    """Shapes and dtypes of what ``evaluate`` gives for inputs of ``specs``."""
    traced = trace(lambda *xs: evaluate(OPS, *xs, **parameters), *specs)
    return tuple(y.spec for y in traced.graph.outputs)
