"""Losses as functions of (prediction, target), under PyTorch's arguments, defaults and constants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError, DataError, DTypeError, ShapeError
from chainrule.graph import Draw, Primitive, Tensor, operation
from chainrule.ops.activations import sigmoid, softplus
from chainrule.ops.broadcasting import as_tensor, as_tensors, cast, floated, meet
from chainrule.ops.declare import primitive
from chainrule.ops.elementwise import abs, less_equal, log, maximum, not_equal, sign, where
from chainrule.ops.indexing import one_hot, take_along_axis
from chainrule.ops.movement import permute_dims, reshape
from chainrule.ops.reduction import log_softmax, mean, softmax, sum
from chainrule.spec import INT64, TensorSpec

REDUCTIONS = ("mean", "sum", "none")
DEFAULT_IGNORED = -100
"""PyTorch's default for ``ignore_index``."""


def reduced(name: str, values: Tensor, reduction: str) -> Tensor:
    """The mean, the sum, or each value."""
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"{name}: reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    if reduction == "none":
        return values
    return mean(values) if reduction == "mean" else sum(values)


def _share(name: str, size: int, reduction: str) -> float:
    """The factor with which one value enters the reduced loss."""
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"{name}: reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    return 1.0 / size if reduction == "mean" and size else 1.0


def pointwise_loss(
    name: str,
    formula: str,
    *,
    evaluate: Callable,
    pullback: Callable,
    meaning: str,
    convention: str = "",
    why: tuple[str, ...] = (),
    rule: tuple[str, ...] = (),
    domains: tuple = ((-2, 2), (-2, 2)),
    apart: float = 0.0,
    **defaults: float,
) -> Primitive:
    """Declare a loss that is a mean, sum or array of one value an element of prediction and target.

    evaluate: (xp, prediction, target, **parameters) -> value of each element.
    pullback: (prediction, target, **parameters) -> its derivatives by prediction and by target.
    """

    def whole(xp: Any, prediction: Any, target: Any, *, reduction: str = "mean", **parameters: Any) -> Any:
        values = evaluate(xp, prediction, target, **parameters)
        if reduction == "none":
            return values
        return xp.mean(values) if reduction == "mean" else xp.sum(values)

    def shape(prediction: TensorSpec, target: TensorSpec, *, reduction: str, **_: Any) -> TensorSpec:
        same_shape(name, prediction, target)
        _share(name, 1, reduction)
        if reduction == "mean" and prediction.size == 0:
            raise ShapeError(f"{name}: the mean over no elements is undefined, got {prediction}: use a batch with rows")
        return TensorSpec(prediction.shape if reduction == "none" else (), prediction.dtype)

    def arguments(prediction: Any, target: Any, reduction: str = "mean", **parameters: Any) -> tuple[tuple, dict]:
        unknown = parameters.keys() - defaults.keys()
        if unknown:
            raise TypeError(f"{name}() has no argument {', '.join(sorted(unknown))}")
        for key, value in parameters.items():
            if not 0 < value < math.inf:
                raise ArgumentError(f"{name}: {key} must be a finite number above 0, got {value!r}")
        tensors = tuple(map(floated, as_tensors(name, (prediction, target))))
        return tensors, {"reduction": reduction, **defaults, **parameters}

    def pulled(dy: Tensor, y: Tensor, prediction: Tensor, target: Tensor, reduction: str, **parameters: Any) -> tuple:
        share = dy * _share(name, prediction.size, reduction)
        to_prediction, to_target = pullback(prediction, target, **parameters)
        return share * to_prediction, share * to_target

    def draw(point: Draw) -> tuple[tuple, dict]:
        shape = tuple(max(n, 1) for n in point.shape())
        p, t = (point.real(shape, *domain) for domain in domains)
        if apart:
            gap = p - t
            p = p + (abs_numpy(gap) < 0.1) * 0.3
            p = p + (abs_numpy(abs_numpy(p - t) - apart) < 0.1) * 0.25
        return (p, t), {"reduction": point.choice(*REDUCTIONS), **defaults}

    def terms(prediction: TensorSpec, target: TensorSpec, *, reduction: str, **_: Any) -> dict[str, Any]:
        mean = reduction == "mean"
        return {"n": prediction.size if mean else 1, "counted": "every element" if mean else "a sum, not a mean"}

    return Primitive(
        name, formula, shape, whole, pulled, arguments, draw=draw, meaning=meaning, convention=convention, why=why,
        rule=rule, terms=terms, written=name + "({0}, {1})",
    )  # fmt: skip


def abs_numpy(x: Any) -> Any:
    return x * ((x > 0) * 2 - 1)


def same_shape(name: str, prediction: TensorSpec, target: TensorSpec) -> None:
    """ShapeError unless the shapes are equal: a target [n] against predictions [n, 1] would become n x n losses."""
    if prediction.shape == target.shape:
        return
    remedy = "give both the same shape"
    if prediction.size == target.size:
        remedy = f"reshape the target to {list(prediction.shape)}"
    raise ShapeError(
        f"{name}: the prediction is {prediction} and the target {target}; broadcasting them would compare "
        f"every row with every other, so it is refused: {remedy}"
    )


mse = pointwise_loss(
    "mse",
    "L = 1/n Σ (prediction - target)²",
    rule=("{dy} * 2 * ({0} - {1}) / {n}", "{dy} * 2 * ({1} - {0}) / {n}"),
    why=("2/n times the residual, prediction - truth", "2/n times truth - prediction"),
    evaluate=lambda xp, p, t: (p - t) * (p - t),
    pullback=lambda p, t: (2.0 * (p - t), -2.0 * (p - t)),
    meaning="Mean squared error. n counts every element, rows times outputs, so the derivative is 2/n (prediction - "
    "target), as PyTorch's MSELoss; textbooks often write 1/2 in front, or divide by rows only.",
)
mae = pointwise_loss(
    "mae",
    "L = 1/n Σ |prediction - target|",
    rule=("{dy} * sign({0} - {1}) / {n}", "{dy} * sign({1} - {0}) / {n}"),
    why=("the sign of the residual, prediction - truth, over n", "its negative"),
    evaluate=lambda xp, p, t: xp.abs(p - t),
    pullback=lambda p, t: (sign(p - t), -sign(p - t)),
    meaning="Mean absolute error. n counts every element, as PyTorch's L1Loss.",
    convention="0 where prediction = target, as PyTorch.",
    apart=10.0,
)
huber = pointwise_loss(
    "huber",
    "L = 1/n Σ r²/2 where |r| ≤ delta, else delta (|r| - delta/2); r = prediction - target",
    rule=("{dy} * clip({0} - {1}, -{delta}, {delta}) / {n}", "{dy} * clip({1} - {0}, -{delta}, {delta}) / {n}"),
    why=("the residual, but at most delta in size, over n", "its negative"),
    evaluate=lambda xp, p, t, delta=1.0: xp.where(
        xp.abs(p - t) <= delta, 0.5 * ((p - t) * (p - t)), delta * (xp.abs(p - t) - 0.5 * delta)
    ),
    pullback=lambda p, t, delta: _huber_slopes(p - t, delta),
    meaning="Squared near the target, absolute far from it (Huber 1964); as PyTorch's HuberLoss.",
    apart=1.0,
    delta=1.0,
)


def _huber_slopes(residual: Tensor, delta: float) -> tuple[Tensor, Tensor]:
    slope = where(less_equal(abs(residual), delta), residual, delta * sign(residual))
    return slope, -slope


LOG_LEAST = -100.0
"""Logarithms of probabilities are cut off here, as PyTorch's BCELoss does."""


def _bounded_log(xp: Any, p: Any) -> Any:
    return xp.maximum(xp.log(p), LOG_LEAST)


_bce = pointwise_loss(
    "binary_cross_entropy",
    "L = -1/n Σ t ln p + (1 - t) ln(1 - p)",
    rule=("{dy} * ({0} - {1}) / ({0} * (1 - {0})) / {n}", "{dy} * (log(1 - {0}) - log({0})) / {n}"),
    why=("(p - t) / (p (1 - p)) over n", "ln (1 - p) - ln p, over n"),
    evaluate=lambda xp, p, t: -(t * _bounded_log(xp, p) + (1 - t) * _bounded_log(xp, 1 - p)),
    pullback=lambda p, t: (
        (p - t) / maximum((1 - p) * p, 1e-12),
        maximum(log(1 - p), LOG_LEAST) - maximum(log(p), LOG_LEAST),
    ),
    meaning="p is a probability, t in [0, 1]. Logarithms are cut off at -100, as PyTorch's BCELoss.",
    domains=((0.1, 0.9), (0, 1)),
)
_bce_with_logits = pointwise_loss(
    "binary_cross_entropy_with_logits",
    "L = 1/n Σ ln(1 + e^z) - t z",
    rule=("{dy} * (sigmoid({0}) - {1}) / {n}", "-{dy} * {0} / {n}"),
    why=("sigmoid and cross-entropy cancel to prediction - truth, over n", "minus z, over n"),
    evaluate=lambda xp, z, t: xp.maximum(z, 0) - z * t + xp.log1p(xp.exp(-xp.abs(z))),
    pullback=lambda z, t: (sigmoid(z) - t, -z),
    meaning="Sigmoid and binary cross-entropy in one, in a form that never overflows.",
)


@operation
def binary_cross_entropy(prediction: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Tensor:
    """Binary cross-entropy of probabilities, with a ``weight`` an element; as torch's ``binary_cross_entropy``."""
    p = floated(prediction)
    if p.array is not None and p.size and not (p.array.min() >= 0 and p.array.max() <= 1):
        raise DataError(
            f"binary_cross_entropy: predictions must be probabilities, got values from {p.array.min():g} "
            f"to {p.array.max():g}: use binary_cross_entropy_with_logits for raw outputs"
        )
    if weight is None:
        return _bce(p, target, reduction=reduction)
    return reduced("binary_cross_entropy", weighted("binary_cross_entropy", _bce(p, target, reduction="none"), weight),
                   reduction)  # fmt: skip


def weighted(name: str, values: Tensor, weight: Any) -> Tensor:
    """``values`` times weights that stretch to their shape; ShapeError for weights that would stretch the values."""
    factor = as_tensor(weight)
    if meet(f"{name}: weight", values.shape, factor.shape) != values.shape:
        raise ShapeError(f"{name}: a weight of {factor.spec} would stretch the losses, which are {values.spec}: "
                         f"give it the shape {list(values.shape)}")  # fmt: skip
    return values * factor


@operation
def binary_cross_entropy_with_logits(
    prediction: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """Binary cross-entropy of raw outputs; ``pos_weight`` multiplies the term of positive targets, as torch's."""
    if weight is None and pos_weight is None:
        return _bce_with_logits(prediction, target, reduction=reduction)
    z, t = as_tensors("binary_cross_entropy_with_logits", (floated(prediction), target))
    if pos_weight is None:
        values = _bce_with_logits(z, t, reduction="none")
    else:
        same_shape("binary_cross_entropy_with_logits", z.spec, t.spec)
        values = t * pos_weight * softplus(-z) + (1 - t) * softplus(z)
    name = "binary_cross_entropy_with_logits"
    return reduced(name, values if weight is None else weighted(name, values, weight), reduction)


# ------------------------------------------------------------------------------------------------ cross-entropy


def _entropy_shape(z: TensorSpec, target: TensorSpec, *, reduction: str) -> TensorSpec:
    _share("cross_entropy", 1, reduction)
    if target.shape not in (z.shape, z.shape[:-1]):
        raise ShapeError(
            f"cross_entropy: the prediction is {z}, so the target must be class indices "
            f"{list(z.shape[:-1])} or probabilities {list(z.shape)}, got {target}"
        )
    if reduction == "mean" and math.prod(z.shape[:-1]) == 0:
        raise ShapeError(f"cross_entropy: the mean over no rows is undefined, got {z}: use a batch with rows")
    return TensorSpec(z.shape[:-1] if reduction == "none" else (), z.dtype)


def _entropy(xp: Any, z: Any, target: Any, *, reduction: str = "mean") -> Any:
    shifted = z - xp.max(z, axis=-1, keepdims=True)
    logs = shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
    if target.ndim == z.ndim:
        values = -xp.sum(target * logs, axis=-1)
    else:
        if isinstance(target, np.ndarray):
            check_labels(target, z.shape[-1], ignore_index=None)
        at = xp.reshape(target, (*target.shape, 1))
        values = -xp.reshape(xp.take_along_axis(logs, at, axis=-1), target.shape)
    if reduction == "none":
        return values
    return xp.mean(values) if reduction == "mean" else xp.sum(values)


def _entropy_pullback(dy: Tensor, y: Tensor, z: Tensor, target: Tensor, reduction: str) -> tuple:
    share = dy * _share("cross_entropy", math.prod(z.shape[:-1]), reduction)
    share = reshape(share, (*share.shape, 1)) if reduction == "none" else share
    if target.ndim == z.ndim:
        return share * (softmax(z) * sum(target, -1, keepdims=True) - target), -share * log_softmax(z)
    return share * (softmax(z) - one_hot(target, z.shape[-1], z.dtype)), None


def _entropy_arguments(z: Any, target: Any, reduction: str = "mean") -> tuple[tuple, dict]:
    z, target = floated(z), as_tensor(target)
    target = cast(target, INT64 if target.dtype.kind in "iu" else z.dtype)
    return (z, target), {"reduction": reduction}


def _draw_entropy(point: Draw) -> tuple[tuple, dict]:
    classes = max(point.size(1), 2)
    rows = tuple(max(n, 1) for n in point.shape(0, 2))
    z = point.real((*rows, classes), -3, 3)
    target = point.integers(rows, 0, classes) if point.flag() else point.real(z.shape, 0.05, 1)
    return (z, target), {"reduction": point.choice(*REDUCTIONS)}


def _entropy_terms(z: TensorSpec, target: TensorSpec, *, reduction: str) -> dict[str, Any]:
    mean = reduction == "mean"
    return {
        "n": math.prod(z.shape[:-1]) if mean else 1,
        "counted": "the rows" if mean else "a sum, not a mean",
        "truth": "{1}" if target.shape == z.shape else "onehot({1})",
    }


softmax_cross_entropy = primitive(
    "softmax_cross_entropy",
    "L = -1/n Σ ln softmax(z)[truth]",
    written="softmax_cross_entropy({0}, {1})",
    rule=("{dy} * (softmax({0}) - {truth}) / {n}", "-{dy} * log_softmax({0}) / {n}"),
    why=("softmax and cross-entropy cancel to prediction - truth, over n", "minus ln softmax, over n"),
    terms=_entropy_terms,
    shape=_entropy_shape,
    evaluate=_entropy,
    pullback=_entropy_pullback,
    arguments=_entropy_arguments,
    draw=_draw_entropy,
    meaning="z: [..., classes]; truth: class indices [...] or probabilities [..., classes]; n counts rows.",
)


@operation
def cross_entropy(
    prediction: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = DEFAULT_IGNORED,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of softmax(prediction) and the truth, as torch's ``cross_entropy``.

    prediction: raw outputs, [classes], [rows, classes] or [rows, classes, ...]; target: class indices, or
    probabilities of the prediction's shape. weight: a factor a class. ignore_index: rows with this index count
    nothing. label_smoothing: how much of the truth is spread evenly over the classes. The mean divides by the sum of
    the rows' weights; for probabilities by the number of rows.
    """
    z, t = floated(prediction), as_tensor(target)
    if z.ndim == 0:
        raise ShapeError("cross_entropy: the prediction needs an axis of classes, got a 0-d tensor")
    if z.ndim > 2:  # classes are axis 1, as in PyTorch
        last = (0, *range(2, z.ndim), 1)
        z, t = permute_dims(z, last), permute_dims(t, last) if t.ndim == z.ndim else t
    if t.ndim == z.ndim - 1 and t.dtype.kind == "f":
        raise DTypeError(f"cross_entropy: class indices must be integers, got {t.spec}: use target.astype('int64')")
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"cross_entropy: label_smoothing is between 0 and 1, got {label_smoothing}")
    indices = t.ndim == z.ndim - 1
    if indices and t.array is not None:
        check_labels(t.array, z.shape[-1], ignore_index)
    # A trace does not know its labels, so there only an ignore_index of the caller's own counts; a label below 0 that
    # slips through is an error of the gather, never a number.
    ignoring = indices and (ignore_index != DEFAULT_IGNORED or (t.array is not None and bool((t.array < 0).any())))
    if weight is None and label_smoothing == 0 and not ignoring:
        return softmax_cross_entropy(z, t, reduction=reduction)
    return _general_cross_entropy(z, t, weight, ignore_index, reduction, label_smoothing)


def check_labels(labels: Any, classes: int, ignore_index: int | None = DEFAULT_IGNORED) -> None:
    """DataError with the first label outside [0, classes) that is not ``ignore_index``."""
    wrong = (labels < 0) | (labels >= classes)
    if ignore_index is not None:
        wrong &= labels != ignore_index
    if wrong.any():
        first = [int(i) for i in wrong.nonzero()[0][:1]]
        value = labels[wrong].flat[0]
        raise DataError(
            f"cross_entropy: label {value} at row {first[0] if first else 0} is outside the {classes} classes "
            f"(0 to {classes - 1}) of the prediction; {int(wrong.sum())} of {labels.size} are"
        )


def _general_cross_entropy(
    z: Tensor, t: Tensor, weight: Any, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    classes = z.shape[-1]
    logs = log_softmax(z)
    weights = None if weight is None else cast(as_tensor(weight), z.dtype)
    if weights is not None and weights.shape != (classes,):
        raise ShapeError(f"cross_entropy: weight needs one entry for each of the {classes} classes, got {weights.spec}")
    weighted = logs if weights is None else logs * weights
    if t.ndim == z.ndim:
        truth = cast(t, z.dtype) * (1 - label_smoothing) + label_smoothing / classes
        values = -sum(truth * weighted, -1)
        rows = max(values.size, 1)
        return sum(values) / rows if reduction == "mean" else reduced("cross_entropy", values, reduction)
    counted = not_equal(t, ignore_index)
    at = reshape(where(counted, t, 0), (*t.shape, 1))
    picked = reshape(take_along_axis(weighted, at), t.shape)
    values = -picked * (1 - label_smoothing)
    if label_smoothing:
        values = values - (label_smoothing / classes) * sum(weighted, -1)
    values = where(counted, values, 0.0)
    if reduction != "mean":
        return reduced("cross_entropy", values, reduction)
    ones = cast(counted, z.dtype)
    shares = ones if weights is None else ones * reshape(take_along_axis(weights, reshape(at, (-1,))), t.shape)
    return sum(values) / sum(shares)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": mse,
    "mae": mae,
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    "huber": huber,
}
"""Losses by the names that ``fit`` takes."""
