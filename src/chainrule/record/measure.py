"""Measure a layer trace: the numbers of `quantities.py` for every layer of one step."""

from collections.abc import Iterator

import numpy as np

from chainrule.record.quantities import Quantity
from chainrule.record.store import Measurement
from chainrule.record.trace import LayerTrace, NetworkTrace

STEEPEST = {"sigmoid": 0.25, "tanh": 1.0}
"""Largest slope of the functions that saturate on both sides."""

LEFT_WHEN_SATURATED = 0.05
"""Share of the steepest slope below which an entry counts as saturated: |z| > 4.3 for sigmoid, 2.2 for tanh."""


def measurements_of(trace: NetworkTrace) -> tuple[Measurement, ...]:
    """Every quantity that applies, for each layer of a trace; `update` is known to the optimizer only."""
    found: list[Measurement] = []
    for i, layer in enumerate(trace.layers):
        above = trace.layers[i + 1] if i + 1 < len(trace.layers) else None
        found.extend(
            Measurement(trace.step, layer.name, quantity, float(value)) for quantity, value in _sizes(layer, trace.rows)
        )
        found.extend(Measurement(trace.step, layer.name, q, float(v)) for q, v in _units(layer))
        found.extend(Measurement(trace.step, layer.name, q, float(v)) for q, v in _gains(layer, above))
    return tuple(found)


def rms(x: np.ndarray) -> float:
    """Root mean square in float64, without overflow; 0 for an array without entries."""
    if not x.size:
        return 0.0
    largest = float(np.abs(x).max())
    if largest == 0 or not np.isfinite(largest):
        return largest
    scaled = x.astype(np.float64) / largest
    return largest * float(np.sqrt(np.mean(scaled * scaled)))


def _sizes(layer: LayerTrace, rows: int) -> Iterator[tuple[Quantity, float]]:
    """Activation, error, their agreement, and the gradient that is their product."""
    activation, error = rms(layer.a), rms(layer.delta)
    yield Quantity.ACTIVATION, activation
    yield Quantity.ERROR, error
    if layer.weight is not None:
        yield Quantity.WEIGHT, rms(layer.weight)
    if activation:
        yield Quantity.FORWARD_GAIN, rms(layer.z) / activation
    size = sum(x.size for x in (layer.a, layer.z, layer.delta))
    bad = sum(x.size - int(np.isfinite(x).sum()) for x in (layer.a, layer.z, layer.delta))
    yield Quantity.NOT_FINITE, bad / max(size, 1)
    if not bad and layer.z.shape[0] > 1:
        yield Quantity.SPREAD, rms(layer.z.astype(np.float64).std(axis=0))
    if bad or layer.a.ndim < 2 or layer.delta.ndim != layer.a.ndim or layer.weight is None or layer.weight.ndim != 2:
        return
    a, delta = (x.astype(np.float64).reshape(rows, -1, x.shape[-1]) for x in (layer.a, layer.delta))
    yield Quantity.USES, a.shape[1]
    gradient = np.einsum("npj,npi->ji", delta, a, optimize=True) / rows
    yield Quantity.GRADIENT, rms(gradient)
    yield Quantity.ZERO_GRADIENT, float(np.mean(gradient == 0))
    if activation and error:
        yield Quantity.AGREEMENT, rms(gradient) / (activation * error * a.shape[1])
    if rows > 1 and a.shape[1] == 1:
        # Mean over entries and rows of (a_i delta_j)^2: the squared lengths of a row's a and delta part.
        squares = np.mean((a * a).mean(axis=(1, 2)) * (delta * delta).mean(axis=(1, 2)))
        yield Quantity.NOISE, float(np.sqrt(max(squares - rms(gradient) ** 2, 0.0) / (rows - 1)))


def _units(layer: LayerTrace) -> Iterator[tuple[Quantity, float]]:
    """Shares of units that pass nothing back, hardly anything, or the same as their neighbour."""
    slope = layer.local_derivative
    if slope is not None and slope.size:
        yield Quantity.LOCAL_DERIVATIVE, rms(slope)
        yield Quantity.DEAD, float(np.mean(~slope.reshape(-1, slope.shape[-1]).any(axis=0)))
        if layer.activation in STEEPEST:
            little = LEFT_WHEN_SATURATED * STEEPEST[layer.activation]
            yield Quantity.SATURATED, float(np.mean(np.abs(slope) < little))
    if layer.weight is None:
        return
    weight = layer.weight.reshape(len(layer.weight), -1) if layer.weight.ndim else layer.weight
    if weight.ndim == 2 and len(weight) > 1:
        if layer.bias is not None and layer.bias.shape == (len(weight),):
            weight = np.concatenate([weight, layer.bias[:, None]], axis=1)
        # One random direction tells rows apart that differ, at the cost of a product.
        marks = weight.astype(np.float64) @ np.random.default_rng(0).normal(size=weight.shape[1])
        _, counts = np.unique(marks, return_counts=True)
        yield Quantity.TWINS, float(counts[counts > 1].sum() / len(weight))


def _gains(layer: LayerTrace, above: LayerTrace | None) -> Iterator[tuple[Quantity, float]]:
    """What the link from the layer above does to the error: its weights, and this layer's local derivative."""
    if above is None:
        return
    upper, lower = rms(above.delta), rms(layer.delta)
    if not upper or not np.isfinite(upper):
        return
    weight = above.weight if above.weight is not None and above.weight.ndim == 2 else np.zeros((0, 0))
    if above.delta.shape[-1] == len(weight) and layer.z.shape == (*above.delta.shape[:-1], weight.shape[1]):
        between = rms(above.delta @ weight)
    elif layer.local_derivative is not None and rms(layer.local_derivative):
        between = lower / rms(layer.local_derivative)
    else:
        between = lower
    yield Quantity.WEIGHT_GAIN, between / upper
    if between:
        yield Quantity.DERIVATIVE_GAIN, lower / between
