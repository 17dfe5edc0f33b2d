"""Random numbers by counter: pure functions of a key, a stream and a position, the same for any batch split.

A key is uint32[4]: seed (two words), step, first row. Two draws differ if their key, stream or position differ, so a
run can be replayed from any step, and the number of workers or the size of the last batch change nothing.
"""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError, GraphError
from chainrule.graph import Primitive, Tensor, context, operation
from chainrule.ops.broadcasting import as_tensor, cast, meet
from chainrule.ops.elementwise import cos, floor_divide, less, log1p, sqrt
from chainrule.ops.indexing import argsort
from chainrule.spec import FLOAT32, FLOAT64, INT64, UINT32, TensorSpec, as_dtype


def key(seed: int, step: int = 0, first_row: int = 0) -> Tensor:
    """The key of a step: ``seed`` is any integer of up to 64 bits, rows are counted from ``first_row``."""
    if not -(2**63) <= seed < 2**64 or step < 0:
        raise ArgumentError(f"a seed has at most 64 bits and a step is not negative, got seed={seed}, step={step}")
    if step >= 2**32 or not 0 <= first_row < 2**32:
        raise ArgumentError(f"a step and a first row have 32 bits, got step={step}, first_row={first_row}")
    words = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF, step & 0xFFFFFFFF, first_row]
    return Tensor(TensorSpec((4,), UINT32), np.array(words, np.uint32), constant=True)


class _EagerKeys:
    """Keys for eager calls outside a step: the next one each time."""

    def __init__(self, seed: int) -> None:
        self.seed, self.steps = seed, count()

    def next(self) -> Tensor:
        return key(self.seed, next(self.steps))


_eager = _EagerKeys(0)


def manual_seed(seed: int) -> None:
    """Start the random numbers of eager calls anew; a step of training has keys of its own."""
    key(seed)
    _eager.__init__(seed)  # type: ignore[misc]


def present_key() -> Tensor:
    """The key of the step that is going on, or the next eager one."""
    if context.key is not None:
        return context.key
    if context.trace is not None:
        raise GraphError(
            "a random operation in a traced function needs the step's key: pass key=..., so that the "
            "compiled code does not repeat one draw forever"
        )
    return _eager.next()


def _bits_shape(row: TensorSpec, column: TensorSpec, key: TensorSpec, *, stream: int) -> tuple[TensorSpec, TensorSpec]:
    spec = TensorSpec(meet("counter_bits", row.shape, column.shape), UINT32)
    return spec, spec


def _bits(xp: Any, row: Any, column: Any, key: Any, *, stream: int) -> tuple:
    rows = (row + xp.astype(key[3], row.dtype)) % 2**32
    stacked = xp.counter_bits((column % 2**32, rows, key[2], np.uint32(stream)), (key[0], key[1]))
    return stacked[0], stacked[1]


counter_bits = Primitive(
    "counter_bits",
    "two random words = Philox(column, row, step, stream; seed)",
    shape=_bits_shape,
    evaluate=_bits,
    pullback=lambda dys, ys, row, column, key, stream: (None, None, None),
    arguments=lambda row, column, key, stream=0: (
        (cast(as_tensor(row), INT64), cast(as_tensor(column), INT64), as_tensor(key)),
        {"stream": int(stream) & 0xFFFFFFFF},
    ),
    meaning="Philox-4x32-10 (Salmon et al. 2011): bit-equal on every machine.",
    several=True,
)


def _words(shape: Any, key: Tensor | None, stream: int) -> tuple[Tensor, Tensor]:
    dims = (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(int(n) for n in shape)
    rows, rest = (dims[0], dims[1:]) if dims else (1, ())
    row = np.arange(rows).reshape((rows,) + (1,) * len(rest)) if dims else np.zeros((), np.int64)
    column = np.arange(math.prod(rest)).reshape(rest)
    return counter_bits(row, column, present_key() if key is None else key, stream=stream)


def _unit(words: tuple[Tensor, Tensor], which: int, dtype: np.dtype) -> Tensor:
    """A number in [0, 1) with as many random bits as the dtype holds."""
    if dtype == FLOAT32:
        return cast(floor_divide(words[which], 256), FLOAT32) * 2.0**-24
    high = cast(floor_divide(words[which], 32), FLOAT64)
    low = cast(floor_divide(words[1 - which], 64), FLOAT64)
    return (high * 2.0**26 + low) * 2.0**-53


def uniform(
    shape: Any, low: float = 0.0, high: float = 1.0, *, dtype: Any = FLOAT32, key: Tensor | None = None, stream: int = 0
) -> Tensor:
    """Independent draws from [low, high); unless low is 0 and high is 1, rounding may give ``high`` itself."""
    u = _unit(_words(shape, key, stream), 0, as_dtype(dtype))
    return u if (low, high) == (0.0, 1.0) else low + u * (high - low)


def normal(
    shape: Any, mean: float = 0.0, std: float = 1.0, *, dtype: Any = FLOAT32, key: Tensor | None = None, stream: int = 0
) -> Tensor:
    """Independent normal draws, by Box & Muller 1958: √(-2 ln(1 - u)) cos(2π v)."""
    found, words = as_dtype(dtype), _words(shape, key, stream)
    radius = sqrt(-2.0 * log1p(-_unit(words, 0, FLOAT32 if found == FLOAT32 else FLOAT64)))
    angle = cast(_unit(words, 1, FLOAT32), found) * (2 * math.pi)
    return mean + std * (radius * cos(angle))


def bernoulli(shape: Any, p: float = 0.5, *, key: Tensor | None = None, stream: int = 0) -> Tensor:
    """True with probability ``p`` (to within 2^-32)."""
    if not 0 <= p <= 1:
        raise ArgumentError(f"bernoulli: a probability is between 0 and 1, got {p}")
    return less(cast(_words(shape, key, stream)[0], INT64), round(p * 2**32))


def permutation(n: int, *, key: Tensor | None = None, stream: int = 0) -> Tensor:
    """0 to n - 1 in random order: the order of n random 63-bit numbers."""
    words = _words((n,), key, stream)
    return argsort(cast(floor_divide(words[0], 2), INT64) * 2**32 + cast(words[1], INT64))


@operation
def dropout_mask(x: Tensor, p: float, key: Tensor, stream: int) -> Tensor:
    """1 / (1 - p) with probability 1 - p, else 0, in x's shape: the factor that dropout multiplies by."""
    kept = cast(bernoulli(x.shape, 1 - p, key=key, stream=stream), x.dtype)
    return kept * (1 / (1 - p) if p < 1 else 0.0)
