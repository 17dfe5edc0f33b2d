"""Products of matrices."""

from __future__ import annotations

import math
from typing import Any

from chainrule.errors import ShapeError
from chainrule.graph import Draw, Primitive, Tensor, operation
from chainrule.ops.broadcasting import as_tensors, meet, unbroadcast
from chainrule.ops.elementwise import multiply
from chainrule.ops.movement import matrix_transpose, reshape, shaped
from chainrule.ops.reduction import sum
from chainrule.spec import TensorSpec


def _matmul_shape(a: TensorSpec, b: TensorSpec) -> TensorSpec:
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            f"matmul: columns of a ({a}) must match rows of b ({b}). "
            "For a layer, check that its in_features equals the width of what it receives."
        )
    return TensorSpec((*meet("matmul", a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), a.dtype)


def _draw_matmul(point: Draw) -> tuple[tuple, dict]:
    rows, inner, columns = point.size(), point.size(), point.size()
    batch = point.choice((), (), (2,), (3, 1))
    a = point.real((*batch, rows, inner), -2, 2)
    b = point.real((*(point.part_of(batch) if point.flag() else ()), inner, columns), -2, 2)
    return (a, b), {}


_matmul: Primitive = Primitive(
    "matmul",
    "y = a b",
    written="{0} @ {1}",
    rule=("{dy} @ {1}.T", "{0}.T @ {dy}"),
    shape=_matmul_shape,
    evaluate=lambda xp, a, b: xp.matmul(a, b),
    pullback=lambda dy, y, a, b: (
        unbroadcast(_matmul(dy, matrix_transpose(b)), a.shape),
        unbroadcast(_matmul(matrix_transpose(a), dy), b.shape),
    ),
    arguments=lambda a, b: (as_tensors("matmul", (a, b)), {}),
    draw=_draw_matmul,
    meaning="The last two axes are matrices; those before broadcast.",
    why=("the error sent back through b", "input times error"),
)


@operation
def matmul(a: Any, b: Any) -> Tensor:
    """a @ b: vectors, matrices and stacks of them, as NumPy. [..., n, k], [..., k, m] -> [..., n, m]."""
    a, b = as_tensors("matmul", (a, b))
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(f"matmul: needs vectors or matrices, got {a.spec} and {b.spec}: use * for numbers")
    if a.ndim == 1 and b.ndim == 1:
        if a.shape != b.shape:
            raise ShapeError(f"matmul: vectors of different lengths, {a.spec} and {b.spec}")
        return sum(multiply(a, b))
    wide = reshape(a, (1, -1)) if a.ndim == 1 else a
    tall = reshape(b, (b.shape[0], 1)) if b.ndim == 1 else b
    y = _matmul(wide, tall)
    if a.ndim == 1:
        return reshape(y, (*y.shape[:-2], y.shape[-1]))
    return reshape(y, y.shape[:-1]) if b.ndim == 1 else y


def _linear_arguments(x: Any, weight: Any, bias: Any = None) -> tuple[tuple, dict]:
    return as_tensors("linear", (x, weight) if bias is None else (x, weight, bias)), {}


def _linear_shape(x: TensorSpec, weight: TensorSpec, bias: TensorSpec | None = None) -> TensorSpec:
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        wanted = weight.shape[1] if weight.ndim == 2 else "?"
        raise ShapeError(
            f"linear: x ({x}) has {x.shape[-1] if x.shape else 0} features, but the weight ({weight}, [out, in]) "
            f"takes {wanted}: set in_features to the width of what the layer receives"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(f"linear: bias ({bias}) must have one entry for each of the {weight.shape[0]} outputs")
    return TensorSpec((*x.shape[:-1], weight.shape[0]), x.dtype)


def _linear(xp: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    y = xp.matmul(x, xp.matrix_transpose(weight))
    return y if bias is None else y + bias


def _linear_pullback(dy: Tensor, y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple:
    rows = shaped(dy, (math.prod(x.shape[:-1]), y.shape[-1]))
    inputs = shaped(x, (rows.shape[0], x.shape[-1]))
    dx = _matmul(dy, weight) if dy.ndim > 1 else reshape(_matmul(rows, weight), x.shape)
    dweight = _matmul(matrix_transpose(rows), inputs)
    return (dx, dweight) if bias is None else (dx, dweight, sum(rows, 0))


def _draw_linear(point: Draw) -> tuple[tuple, dict]:
    inputs, outputs = point.size(1), point.size(1)
    x = point.real((*point.shape(0, 2), inputs), -2, 2)
    arrays = (x, point.real((outputs, inputs), -2, 2), point.real((outputs,), -2, 2))
    return arrays[: point.choice(2, 3)], {}


linear = Primitive(
    "linear",
    "y = x Wᵀ + b",
    written="{0} @ {1}.T{shift}",
    rule=("{dy} @ {1}", "{dy}.T @ {0}", "sum_rows({dy})"),
    terms=lambda x, weight, bias=None: {"shift": "" if bias is None else " + {2}"},
    equations=("BP2", "BP4", "BP3"),
    shape=_linear_shape,
    evaluate=_linear,
    pullback=_linear_pullback,
    arguments=_linear_arguments,
    draw=_draw_linear,
    meaning="x: [..., in], weight: [out, in], bias: [out] or None -> [..., out].",
    why=(
        "the error sent back through the weights",
        "output error x input activation",
        "output error, summed over rows",
    ),
)
