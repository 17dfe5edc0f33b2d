"""Measured: one step of a live model as numbers by layer, and kept so that a trace can be made of it on demand."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from chainrule.adapters.pytorch.layers import Layer
from chainrule.adapters.pytorch.sizes import bad_share, padded, patch_squares, rms, slope
from chainrule.adapters.pytorch.uses import Use, rows_of
from chainrule.record import Measurement, Quantity

# Slopes of the functions that saturate on both sides, and the share of them below which an entry counts as saturated:
# as for a run of chainrule, record/measure.py.
STEEPEST = {"sigmoid": 0.25, "tanh": 1.0}
LEFT_WHEN_SATURATED = 0.05

NEAR = 1e-5
"""Of the largest mark: ten times what marks of twins can differ by when they are reckoned in float32."""


def measured_of(
    step: int,
    layers: tuple[Layer, ...],
    uses: dict[str, list[Use]],
    following: dict[str, str],
    before: dict[str, Any],
    gradients: dict[str, float],
    scale: float,
    own: dict[str, Any],
) -> tuple[Measurement, ...]:
    """Numbers for every layer: all factors for Linear and convolutions, sizes for the rest.

    own: gradients of weights to which nothing but the layer's one use added, by layer, multiplied by ``scale``.
    """
    known = {name: found for name, found in uses.items() if found}
    rows = max((rows_of(found) for found in known.values()), default=0)
    errors = {name: rms(_joined(use.delta for use in found)) for name, found in known.items()}
    measurements: list[Measurement] = []
    names = [*known, *(y.name for y in layers if y.name not in known)]
    by_name = {y.name: y for y in layers}
    # A tied weight's gradient holds what came by its other places, too.
    held = [id(y.weight) for y in layers if y.weight is not None]
    for i, name in enumerate(names):
        layer, found = by_name[name], known.get(name, [])
        above = known[names[i + 1]] if found and i + 1 < len(known) else []
        n = max(rows, 1)
        values: list[tuple[str, float]] = []
        single = layer.weight is not None and held.count(id(layer.weight)) == 1
        gradient = None
        if layer.dense and found:
            gradient = _gradient(found, scale) if name not in own else own[name] if scale == 1 else own[name] / scale
        size = rms(gradient) if gradient is not None else gradients.get(name) if single else None
        if layer.weight is not None:
            values += _parameter(layer, before, gradient, size)
        values += _sizes(found, errors.get(name, 0.0), n, scale, None if gradient is None else size)
        values += _units(layer, found, following.get(name))
        values += _gains(above, errors.get(name), errors.get(names[i + 1]) if above else None)
        measurements += [Measurement(step, name, str(q), float(v)) for q, v in values]
    return tuple(measurements)


def _gradient(uses: list[Use], scale: float) -> Any:
    """dL/dW as input activation times error, summed over all uses: what `.grad` holds, but for what it held before."""

    layer = uses[0].layer
    if not layer.weight.requires_grad or any(use.a is None for use in uses):
        return None
    total = None
    for use in uses:
        if layer.kind == "Linear":
            a, delta = use.a.reshape(-1, use.a.shape[-1]), use.delta.reshape(-1, use.delta.shape[-1])
            wide = a.float() if a.element_size() < 4 else a
            part = delta.to(wide.dtype).T @ wide
        elif use.a.dim() == layer.weight.dim():
            weights, module = getattr(import_module("torch.nn.grad"), f"{layer.kind.lower()}_weight"), layer.module
            read, delta = (t.float() if t.element_size() < 4 else t for t in (padded(use.a, module), use.delta))
            part = weights(read, layer.weight.shape, delta, module.stride, 0, module.dilation)
        else:  # one image without an axis of rows
            return None
        total = part if total is None else total + part
    return None if total is None else total / scale


def _parameter(layer: Layer, before: dict[str, Any], gradient: Any, size: float | None) -> Iterator[tuple[str, float]]:
    import torch

    weight = layer.weight.detach()
    first = before.get(layer.full(layer.weight_name))
    if first is not None:
        yield Quantity.WEIGHT, rms(first)
        yield Quantity.UPDATE, rms(weight - first)
    if size is not None:
        yield Quantity.GRADIENT, size
    found = gradient if gradient is not None else layer.weight.grad
    if found is not None:
        yield Quantity.ZERO_GRADIENT, 1 - int(torch.count_nonzero(found)) / max(found.numel(), 1)
    if first is not None and layer.dense and len(first) > 1:
        yield Quantity.TWINS, _twins(layer, first)


def _twins(layer: Layer, weight: Any) -> float:
    """Share of units whose incoming weights and bias equal those of another."""
    import torch

    rows, bias = weight.reshape(len(weight), -1), dict(layer.parameters).get("bias")
    width = rows.shape[1]
    # A glance in float32 finds the few that may be twins.
    to = _direction(width + 1, weight.device, torch.float32)
    rough = rows.float() @ to[:width]
    if bias is not None:
        rough = rough + bias.detach().float() * to[width]
    rough, order = rough.sort()
    near = rough.diff() <= NEAR * rough.abs().max()
    if not near.any():
        return 0.0
    beside = torch.zeros(len(rough), dtype=torch.bool, device=weight.device)
    beside[1:] |= near
    beside[:-1] |= near
    chosen = rows[order[beside]]
    if bias is not None:
        chosen = torch.cat([chosen, bias.detach()[order[beside], None]], dim=1)
    # A matrix product may add up one row in another order than the next.
    marks = (chosen.double() * _direction(chosen.shape[1], weight.device, torch.float64)).sum(1)
    _, counts = torch.unique(marks, return_counts=True)
    return float(counts[counts > 1].sum()) / len(rows)


@functools.lru_cache(maxsize=64)
def _direction(width: int, device: Any, dtype: Any) -> Any:
    """A fixed direction, not a random one: the user's random numbers are not touched."""
    import torch

    return torch.sin(torch.arange(1, width + 1, dtype=torch.float64, device=device) ** 2).to(dtype)


def _sizes(
    uses: list[Use], cotangent: float, n: int, scale: float, gradient: float | None
) -> Iterator[tuple[str, float]]:
    """Activation, error and their agreement over all uses of the step. cotangent: rms of all there are."""
    if not uses:
        return
    error = cotangent * n / scale
    activation, terms = _activation(uses)
    out = rms(_joined(use.z for use in uses))
    bad = 0.0
    if activation is None or not math.isfinite(cotangent + activation + out):  # numbers of a finite size are finite
        tensors = [t for use in uses for t in (use.a, use.z, use.delta) if t is not None and t.is_floating_point()]
        bad = bad_share(*tensors)
    yield Quantity.NOT_FINITE, bad
    yield Quantity.ERROR, error
    layer = uses[0].layer
    if activation is not None:
        yield Quantity.ACTIVATION, activation
        if activation:
            yield Quantity.FORWARD_GAIN, out / activation
    z = uses[0].z
    if z.dim() and z.shape[0] > 1:
        wide = z.float() if z.element_size() < 4 else z
        yield Quantity.SPREAD, rms(wide - wide.mean(dim=0))
    if bad or not layer.dense or not activation or not error or gradient is None or not math.isfinite(gradient):
        return
    yield Quantity.USES, terms / n
    yield Quantity.AGREEMENT, gradient / (activation * error * terms / n)
    if layer.kind == "Linear" and terms == n and n > 1:
        yield Quantity.NOISE, _noise(uses, n, scale, gradient)


def _activation(uses: list[Use]) -> tuple[float | None, int]:
    """(rms of what the weights were multiplied with, how many times each weight was used)."""
    layer = uses[0].layer
    inputs = [use.a for use in uses]
    if any(a is None or not a.is_floating_point() for a in inputs):
        return None, 0
    if layer.kind.startswith("Conv") and layer.dense:
        if any(a.dim() != layer.weight.dim() for a in inputs):
            return None, 0
        sums = [patch_squares(a, layer.module) for a in inputs]
        count = sum(c for _, c in sums)
        fan = int(layer.weight[0].numel())
        return math.sqrt(sum(s for s, _ in sums) / max(count, 1)), count // fan
    joined = _joined(inputs)
    return rms(joined), joined.numel() // inputs[0].shape[-1] if inputs[0].dim() else 0


def _noise(uses: list[Use], n: int, scale: float, gradient: float) -> float:
    """rms of the standard error of dL/dW over the rows: from each row's length of a and of delta."""
    a, delta = _row_squares(use.a for use in uses), _row_squares(use.delta for use in uses)
    squares = float((a * delta).mean()) * (n / scale) ** 2
    return math.sqrt(max(squares - gradient**2, 0.0) / (n - 1))


def _row_squares(tensors: Iterator[Any]) -> Any:
    """The mean square of each row. float64 [rows]"""
    import torch

    flat = [t.reshape(-1, t.shape[-1]) for t in tensors]
    norm = torch.linalg.vector_norm
    return _joined(norm(t, dim=1, dtype=torch.float64).square() / t.shape[1] for t in flat)


def _units(layer: Layer, uses: list[Use], activation: str | None) -> Iterator[tuple[str, float]]:
    """Shares of units that pass nothing back, or hardly anything."""
    import torch

    if not uses:
        return
    slopes = [slope(activation, use.z) for use in uses]
    if any(s is None or not s.numel() for s in slopes):
        return
    joined = _joined(slopes)
    yield Quantity.LOCAL_DERIVATIVE, rms(joined)
    last = layer.kind.startswith(("Conv", "BatchNorm")) and slopes[0].dim() > 2
    units = [s.abs().flatten(2).amax(2) if last else s.abs().reshape(-1, s.shape[-1]) for s in slopes]
    steepest = torch.cat(units).amax(dim=0)
    yield Quantity.DEAD, 1 - float((steepest != 0).float().mean())
    if activation in STEEPEST:
        yield Quantity.SATURATED, float((joined.abs() < LEFT_WHEN_SATURATED * STEEPEST[activation]).float().mean())


def _gains(above: list[Use], lower: float | None, upper: float | None) -> Iterator[tuple[str, float]]:
    """What the link from the layer above does to the error: its weights, and this layer's local derivative.

    lower, upper: rms of the cotangents of this layer and of the one above.
    """
    if lower is None or not upper or not math.isfinite(upper):
        return
    below = [use.error_below for use in above]
    between = lower if any(e is None for e in below) else rms(_joined(below))
    yield Quantity.WEIGHT_GAIN, between / upper
    if between:
        yield Quantity.DERIVATIVE_GAIN, lower / between


def _joined(tensors: Any) -> Any:
    """All entries as one tensor."""
    import torch

    found = list(tensors)
    return found[0] if len(found) == 1 else torch.cat([t.reshape(-1) for t in found])
