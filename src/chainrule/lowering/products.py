"""Matrix products: operands as BLAS can read them, and batches as strides."""

from __future__ import annotations

import math

import numpy as np

from chainrule.graph import Node, Tensor
from chainrule.kernel import Gemm, Matrix
from chainrule.lowering.builder import Builder
from chainrule.lowering.values import Stored


def matmul(builder: Builder, node: Node) -> None:
    a, b = node.inputs
    (spec,) = node.specs
    y = node.output(0)
    target = builder.target(y)
    left, right = (_readable(builder, x) for x in (a, b))
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    batch = spec.shape[:-2]
    builder.placed(y, target)
    if spec.size == 0:
        return
    lefts, rights = (_stretched(v, batch) for v in (left, right))
    if batch and not any(rights) and _rows_join(left, batch, m):
        m, batch = (
            m * math.prod(batch),
            (),
        )  # one matrix for all rows: the rows of every batch entry are one tall matrix
    outer, inner = (batch[:-1], batch[-1]) if batch else ((), 1)
    for where in np.ndindex(*outer):
        starts = [
            v.start + sum(int(i) * s for i, s in zip(where, strides, strict=False))
            for v, strides in ((left, lefts), (right, rights), (target, target.strides[: len(batch)]))
        ]
        builder.statements.append(
            Gemm(
                m, n, k,
                Matrix(left.buffer, starts[0], left.strides[-2], left.strides[-1], lefts[-1] if batch else 0),
                Matrix(right.buffer, starts[1], right.strides[-2], right.strides[-1], rights[-1] if batch else 0),
                Matrix(target.buffer, starts[2], target.strides[-2], 1, target.strides[len(batch) - 1] if batch else 0),
                inner,
            )
        )  # fmt: skip


def _readable(builder: Builder, x: Tensor) -> Stored:
    """A matrix operand as BLAS can read it: one of its two strides is 1 and the other spans it."""
    view = builder.values.view(x)
    if view is not None:
        rows, columns = view.shape[-2:]
        row, column = view.strides[-2:]
        row, column = (column * max(columns, 1), column) if rows == 1 and column == 1 else (row, column)
        row, column = (row, row * max(rows, 1)) if columns == 1 and row == 1 else (row, column)
        if (column == 1 and row >= max(columns, 1)) or (row == 1 and column >= max(rows, 1)):
            return Stored(view.buffer, view.shape, (*view.strides[:-2], row, column), view.start)
        target = builder.buffer_like(x.spec)
        builder.nest(x.shape, lambda index: [(target, index, builder.values.read(x, index))])
        return target
    return builder.store(x)


def _stretched(view: Stored, batch: tuple[int, ...]) -> tuple[int, ...]:
    own, strides = view.shape[:-2], view.strides[:-2]
    extra = len(batch) - len(own)
    return (0,) * extra + tuple(0 if n == 1 else s for n, s in zip(own, strides, strict=True))


def _rows_join(left: Stored, batch: tuple[int, ...], m: int) -> bool:
    """Whether batch axes and rows of the left operand are one run of rows."""
    if left.shape[:-2] != batch or left.strides[-1] != 1:
        return False
    stride = left.strides[-2]
    for n, s in zip(reversed((*batch, m)), reversed(left.strides[:-1]), strict=True):
        if n != 1 and s != stride:
            return False
        stride *= n
    return True
