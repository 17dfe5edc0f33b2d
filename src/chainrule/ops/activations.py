"""Activation functions, under PyTorch's names and defaults."""

from __future__ import annotations

import math
from typing import Any

from chainrule.errors import ArgumentError, ShapeError
from chainrule.graph import Draw, Primitive, Tensor, operation
from chainrule.kernel import Const, op
from chainrule.ops.broadcasting import as_tensors, unbroadcast
from chainrule.ops.elementwise import (
    abs,
    elementwise,
    erf,
    exp,
    greater,
    greater_equal,
    less,
    less_equal,
    logical_and,
    tanh,
    where,
)
from chainrule.ops.movement import reshape
from chainrule.ops.namespace import OPS
from chainrule.spec import TensorSpec


def _sigmoid(xp: Any, x: Any) -> Any:
    # e^-|x| never overflows: 1/(1 + e^-x) for x >= 0, and e^x/(1 + e^x), the same number, for x < 0.
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1 / (1 + e), e / (1 + e))


sigmoid = elementwise(
    "sigmoid",
    "y = 1 / (1 + e^-x)",
    rule=("{dy} * ({y} * (1 - {y}))",),
    domain=(-6, 6),
    evaluate=_sigmoid,
    pullback=lambda dy, y, x: (dy * (y * (1 - y)),),
    why=("local derivative y (1 - y), at most 1/4",),
)
relu = elementwise(
    "relu",
    "y = x where x > 0, else 0",
    rule=("{dy} * ({0} > 0)",),
    kinks=(0.0,),
    result="same",
    evaluate=lambda xp, x: xp.maximum(x, 0),
    pullback=lambda dy, y, x: (where(greater(x, 0), dy, 0),),
    convention="0 at x = 0.",
    lower=lambda spec, x: op("maximum", x, Const(x.dtype, 0)),
    why=("local derivative 1 where z > 0, else 0",),
)
leaky_relu = elementwise(
    "leaky_relu",
    "y = x where x > 0, else slope x",
    rule=("where({0} > 0, {dy}, {negative_slope} * {dy})",),
    kinks=(0.0,),
    evaluate=lambda xp, x, *, negative_slope=0.01: xp.where(x > 0, x, negative_slope * x),
    pullback=lambda dy, y, x, negative_slope: (where(greater(x, 0), dy, negative_slope * dy),),
    convention="The slope at x = 0.",
    negative_slope=(0.0, 0.5),
    why=("local derivative 1 where z > 0, else the slope",),
)
elu = elementwise(
    "elu",
    "y = x where x > 0, else alpha (e^x - 1)",
    rule=("where({0} > 0, {dy}, {alpha} * exp({0}) * {dy})",),
    domain=(-4, 4),
    kinks=(0.0,),
    evaluate=lambda xp, x, *, alpha=1.0: xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0))),
    pullback=lambda dy, y, x, alpha: (where(greater(x, 0), dy, dy * (alpha * exp(_negative_part(x)))),),
    convention="alpha at x = 0.",
    alpha=(0.5, 2.0),
    why=("local derivative 1 where z > 0, else alpha e^z",),
)


def _negative_part(x: Tensor) -> Tensor:
    return where(less(x, 0), x, 0.0)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
"""Klambauer et al. 2017, "Self-Normalizing Neural Networks", equation 14: the fixed point of mean 0, variance 1."""

selu = elementwise(
    "selu",
    "y = s x where x > 0, else s alpha (e^x - 1)",
    rule=("where({0} > 0, {scale} * {dy}, {below} * exp({0}) * {dy})",),
    terms=lambda x: {"scale": round(SELU_SCALE, 4), "below": round(SELU_SCALE * SELU_ALPHA, 4)},
    domain=(-4, 4),
    kinks=(0.0,),
    evaluate=lambda xp, x: SELU_SCALE * xp.where(x > 0, x, SELU_ALPHA * xp.expm1(xp.minimum(x, 0))),
    pullback=lambda dy, y, x: (
        where(greater(x, 0), dy * SELU_SCALE, dy * (SELU_SCALE * SELU_ALPHA * exp(_negative_part(x)))),
    ),
    convention="s alpha at x = 0. s = 1.0507, alpha = 1.6733 (Klambauer et al. 2017, equation 14).",
    why=("local derivative s where z > 0, else s alpha e^z",),
)
_gelu = elementwise(
    "gelu",
    "y = x Φ(x)",
    rule=("{dy} * (normal_cdf({0}) + {0} * normal_density({0}))",),
    domain=(-4, 4),
    evaluate=lambda xp, x: 0.5 * x * (1 + xp.erf(x * math.sqrt(0.5))),
    pullback=lambda dy, y, x: (
        dy * (0.5 * (1 + erf(x * math.sqrt(0.5))) + x * ((1 / math.sqrt(2 * math.pi)) * exp(-0.5 * x * x))),
    ),
    meaning="Φ is the normal distribution function (Hendrycks & Gimpel 2016).",
    why=("local derivative Φ(z) + z φ(z)",),
)
_GELU_SCALE = math.sqrt(2 / math.pi)


def _gelu_tanh_pullback(dy: Tensor, y: Tensor, x: Tensor) -> tuple:
    t = tanh(_GELU_SCALE * (x + 0.044715 * x * x * x))
    return (dy * (0.5 * (1 + t) + 0.5 * x * ((1 - t * t) * (_GELU_SCALE * (1 + 3 * 0.044715 * x * x)))),)


_gelu_tanh = elementwise(
    "gelu_tanh",
    "y = x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))",
    rule=("{dy} * gelu_tanh_slope({0})",),
    domain=(-4, 4),
    evaluate=lambda xp, x: 0.5 * x * (1 + xp.tanh(_GELU_SCALE * (x + 0.044715 * x * x * x))),
    pullback=_gelu_tanh_pullback,
    meaning="The tanh form of gelu (Hendrycks & Gimpel 2016).",
    why=("local derivative of gelu's tanh form",),
)


@operation
def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x Φ(x); approximate="tanh" is the form with tanh, as in PyTorch."""
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f"gelu: approximate is 'none' or 'tanh', got {approximate!r}")
    return _gelu_tanh(x) if approximate == "tanh" else _gelu(x)


silu = elementwise(
    "silu",
    "y = x / (1 + e^-x)",
    rule=("{dy} * sigmoid({0}) * (1 + {0} * (1 - sigmoid({0})))",),
    domain=(-6, 6),
    evaluate=lambda xp, x: x * _sigmoid(xp, x),
    pullback=lambda dy, y, x: (dy * (sigmoid(x) * (1 + x * (1 - sigmoid(x)))),),
    why=("local derivative σ(z) (1 + z (1 - σ(z)))",),
)


def _softplus(xp: Any, x: Any) -> Any:
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


softplus = elementwise(
    "softplus",
    "y = ln(1 + e^(beta x)) / beta",
    rule=("{dy} * sigmoid({beta} * {0})",),
    domain=(-6, 6),
    evaluate=lambda xp, x, *, beta=1.0: _softplus(xp, beta * x) / beta,
    pullback=lambda dy, y, x, beta: (dy * sigmoid(beta * x),),
    beta=(0.5, 2.0),
    why=("local derivative σ(beta z)",),
)
mish = elementwise(
    "mish",
    "y = x tanh(ln(1 + e^x))",
    rule=("{dy} * mish_slope({0})",),
    domain=(-6, 6),
    evaluate=lambda xp, x: x * xp.tanh(_softplus(xp, x)),
    pullback=lambda dy, y, x: (dy * _mish_slope(x, tanh(softplus(x))),),
    why=("local derivative t + z (1 - t^2) σ(z), t = tanh(softplus(z))",),
)


def _mish_slope(x: Tensor, t: Tensor) -> Tensor:
    return t + x * ((1 - t * t) * sigmoid(x))


softsign = elementwise(
    "softsign",
    "y = x / (1 + |x|)",
    rule=("{dy} / (1 + abs({0})) ** 2",),
    kinks=(0.0,),
    domain=(-8, 8),
    evaluate=lambda xp, x: x / (1 + xp.abs(x)),
    pullback=lambda dy, y, x: (dy / ((1 + abs(x)) * (1 + abs(x))),),
    why=("local derivative 1 / (1 + |z|)^2",),
)
hardtanh = elementwise(
    "hardtanh",
    "y = x, but at least min_val and at most max_val",
    rule=("{dy} * inside({0}, {min_val}, {max_val})",),
    kinks=(-1.0, 1.0),
    domain=(-3, 3),
    evaluate=lambda xp, x, *, min_val=-1.0, max_val=1.0: xp.clip(x, min_val, max_val),
    pullback=lambda dy, y, x, min_val, max_val: (where(logical_and(greater(x, min_val), less(x, max_val)), dy, 0.0),),
    convention="0 at both limits, as in PyTorch.",
    why=("local derivative 1 inside the limits, else 0",),
)
hardsigmoid = elementwise(
    "hardsigmoid",
    "y = x/6 + 1/2, but at least 0 and at most 1",
    rule=("{dy} * inside({0}, -3, 3) / 6",),
    kinks=(-3.0, 3.0),
    domain=(-5, 5),
    evaluate=lambda xp, x: xp.clip(x + 3, 0, 6) / 6,
    pullback=lambda dy, y, x: (where(logical_and(greater(x, -3), less(x, 3)), dy / 6, 0.0),),
    convention="0 at x = -3 and 3.",
    why=("local derivative 1/6 inside, else 0",),
)
hardswish = elementwise(
    "hardswish",
    "y = x hardsigmoid(x)",
    rule=("{dy} * where({0} <= -3, 0, where({0} >= 3, 1, {0} / 3 + 1 / 2))",),
    kinks=(-3.0, 3.0),
    domain=(-5, 5),
    evaluate=lambda xp, x: x * xp.clip(x + 3, 0, 6) / 6,
    pullback=lambda dy, y, x: (where(less_equal(x, -3), 0.0, where(greater_equal(x, 3), dy, dy * (x / 3 + 0.5))),),
    convention="0 at x = -3 and 1 at x = 3, as in PyTorch.",
    why=("local derivative z/3 + 1/2 inside, 0 below, 1 above",),
)


def _prelu_shape(x: TensorSpec, weight: TensorSpec) -> TensorSpec:
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.shape not in ((1,), (channels,)):
        raise ShapeError(f"prelu: weight must be [1] or one slope for each of the {channels} channels (axis 1) of {x}, "
                         f"got {weight}: set num_parameters to 1 or {channels}")  # fmt: skip
    return x


def _prelu_slopes(xp: Any, x: Any, weight: Any) -> Any:
    # PyTorch's rule: one slope for all, or one a channel, and channels are axis 1.
    if weight.shape == (1,) or x.ndim < 2:
        return weight
    return xp.reshape(weight, (weight.shape[0],) + (1,) * (x.ndim - 2))


def _prelu_pullback(dy: Tensor, y: Tensor, x: Tensor, weight: Tensor) -> tuple:
    slopes = _prelu_slopes(OPS, x, weight)
    dslopes = unbroadcast(where(greater(x, 0), 0.0, dy * x), slopes.shape)
    return where(greater(x, 0), dy, dy * slopes), reshape(dslopes, weight.shape)


def _draw_prelu(point: Draw) -> tuple[tuple, dict]:
    x = point.real((point.size(), point.size(1) or 1, *point.shape(0, 1)), kinks=(0.0,))
    return (x, point.real((point.choice(1, x.shape[1]),), 0.05, 0.5)), {}


prelu = Primitive(
    "prelu",
    "y = x where x > 0, else w x",
    rule=("where({0} > 0, {dy}, {1} * {dy})", "sum_copies({dy} * {0} * ({0} <= 0))"),
    shape=_prelu_shape,
    evaluate=lambda xp, x, weight: xp.where(x > 0, x, _prelu_slopes(xp, x, weight) * x),
    pullback=_prelu_pullback,
    arguments=lambda x, weight: (as_tensors("prelu", (x, weight)), {}),
    draw=_draw_prelu,
    meaning="weight: [1] or [channels], the slope of negative x; channels are axis 1.",
    convention="The slope at x = 0.",
    why=("local derivative 1 where z > 0, else w", "error x z where z <= 0"),
)
