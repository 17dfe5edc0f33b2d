"""Facts of a watched model: layers, head, data, training and loop, as the rules read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.adapters.pytorch import graph
from chainrule.adapters.pytorch.layers import Layer, fan_in, fitting_std, outputs_of
from chainrule.record import facts

if TYPE_CHECKING:
    from chainrule.adapters.pytorch.observer import Observer

CRITERIA = {
    "MSELoss": "mse", "L1Loss": "mae", "HuberLoss": "huber", "SmoothL1Loss": "smooth_l1", "NLLLoss": "nll",
    "CrossEntropyLoss": "cross_entropy", "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
}  # fmt: skip
"""Losses by PyTorch's classes, for a criterion whose graph was not seen."""

ARGUMENTS = ("lr", "momentum", "betas", "eps", "weight_decay", "nesterov", "alpha", "rho", "max_iter")
NEVER_CALLED = "the forward pass never uses its layer"
CUT = "a path cut by detach(), .data, .item() or no_grad(): no gradient comes back to its layer"


def facts_of(seen: Observer, finished: bool) -> facts.Facts:
    """Everything known of the watched run beside its numbers."""
    head = head_facts(seen)
    return facts.Facts(
        source="torch",
        layers=layer_facts(seen),
        head=head,
        training=training_facts(seen),
        data=data_facts(seen, "" if head is None else head.loss),
        loop=loop_facts(seen),
        not_finite=not_finite(seen),
        finished=finished,
    )


def layer_facts(seen: Observer) -> tuple[facts.LayerFacts, ...]:
    """The layers with parameters in the order of the forward pass; those that it never called at the end."""
    by_name = {y.name: y for y in seen.layers}
    names = [*seen.now.order, *(n for n in by_name if n not in seen.now.order)]
    held = _held(seen)
    return tuple(_layer(by_name[n], seen, held) for n in names if n in by_name)


def _layer(layer: Layer, seen: Observer, held: set[int] | None) -> facts.LayerFacts:
    activation = seen.following.get(layer.name)
    weight = layer.weight
    return facts.LayerFacts(
        name=layer.name,
        kind=layer.kind,
        inputs=fan_in(layer),
        outputs=outputs_of(layer),
        activation=activation,
        parameters=sum(p.numel() for _, p in layer.parameters),
        initial_std=seen.first_weights.get(layer.name),
        fitting_std=None if weight is None else fitting_std(layer, activation),
        frozen=tuple(layer.full(n) for n, p in layer.parameters if not p.requires_grad),
        unreachable=dict(_unreached(layer, seen)),
    )


def _unreached(layer: Layer, seen: Observer) -> list[tuple[str, str]]:
    """Trainable parameters that no gradient came to, with the reason."""
    if not seen.measured_backwards:
        return []
    missed = [layer.full(n) for n, p in layer.parameters if p.requires_grad and id(p) not in seen.reached]
    ran = layer.name in seen.now.called or layer.name in seen.now.cut
    return [(name, CUT if ran else NEVER_CALLED) for name in missed] if seen.hidden is None or ran else []


def _held(seen: Observer) -> set[int] | None:
    """Parameters (by id) that the optimizers hold; None if there is no optimizer."""
    if not seen.optimizers:
        return None
    return {id(p) for o in seen.optimizers for group in o.param_groups for p in group["params"]}


def head_facts(seen: Observer) -> facts.Head | None:
    """The end of the network and the loss on it, from the autograd graph; from the criterion where that says less."""
    found, criterion = seen.seen, CRITERIA.get(type(seen.criterion).__name__)
    if found is None and criterion is None:
        return None
    loss = criterion if found is None or (found.loss == "custom" and criterion) else found.loss
    if loss == "custom" and seen.criterion is not None:
        loss = getattr(seen.criterion, "__name__", type(seen.criterion).__name__)
    activation = None if found is None else found.activation
    prediction = None if found is None else found.prediction
    shape = tuple(prediction.shape) if prediction is not None else seen.output
    return facts.Head(
        loss=str(loss),
        outputs=None if shape is None else (shape[1] if len(shape) > 1 else 1),
        activation=activation,
        output_range=graph.RANGES.get(activation or ""),
        prediction_range=_range(prediction),
        broadcast=seen.shapes,
    )


def _range(x: Any) -> facts.Range | None:
    import torch

    if x is None or not x.numel():
        return None
    finite = x[torch.isfinite(x)]
    return (float(finite.min()), float(finite.max())) if finite.numel() else None


def training_facts(seen: Observer) -> facts.TrainingFacts | None:
    """The first optimizer, its arguments as they were when watching began, and the schedule."""
    if not seen.optimizers:
        return None
    optimizer = seen.optimizers[0]
    group = optimizer.param_groups[0]
    arguments = {k: group[k] for k in ARGUMENTS if isinstance(group.get(k), int | float | tuple | bool)}
    if seen.rates:
        arguments["lr"] = max(seen.rates[:1])
    schedule = next(iter(seen.loop.schedules.values()), None)
    dtype = next((str(p.dtype).removeprefix("torch.") for p in seen.model.parameters()), "float32")
    return facts.TrainingFacts(
        optimizer=type(optimizer).__name__,
        arguments=arguments,
        schedule="constant" if schedule is None else schedule.kind,
        batch_size=seen.batches.largest or None,
        epochs=_epochs(seen),
        shuffle=seen.batches.shuffled(),
        dtype=dtype,
    )


def _epochs(seen: Observer) -> int | None:
    rows, size = seen.batches.loader_rows, seen.batches.largest
    return math.ceil(seen.steps * size / rows) if rows and size else None


def loop_facts(seen: Observer) -> facts.LoopFacts:
    """What the user's own loop did."""
    held = _held(seen)
    named = [(n.replace("_orig_mod.", ""), p) for n, p in seen.model.named_parameters()]
    own = {id(p) for _, p in named}
    by_layer = {layer.full(n): layer for layer in seen.layers for n, _ in layer.parameters}
    cut = [n for n, p in named if p.requires_grad and id(p) not in seen.reached and _ran(by_layer.get(n), seen)]
    loop = seen.loop
    return facts.LoopFacts(
        steps=loop.steps,
        not_held=() if held is None else tuple(n for n, p in named if p.requires_grad and id(p) not in held),
        foreign=None if held is None else len(held - own),
        never_zeroed=loop.never_zeroed,
        zeroed_before_step=loop.zeroed_before_step,
        step_without_backward=loop.step_without_backward,
        evaluation_mode=loop.evaluation_mode,
        detached=tuple(cut) if seen.measured_backwards else (),
        loss_without_graph=loop.without_graph > 0 if loop.backwards else None,
        schedule_before_optimizer=any(s.early for s in loop.schedules.values()) if loop.schedules else None,
        schedule_by_step=loop.schedule_by_step(seen.rates),
        scaler_skipped=loop.skipped,
        same_batch=seen.batches.same(),
        inference_unlike_training=(),
    )


def _ran(layer: Layer | None, seen: Observer) -> bool:
    return layer is not None and (layer.name in seen.now.called or layer.name in seen.now.cut)


def not_finite(seen: Observer) -> facts.NotFinite | None:
    """Where NaN or infinity came up first: at a layer that was measured, or in the loss."""
    losses = seen.loss_values()
    bad = (
        np.flatnonzero(~np.isfinite(losses[~np.isnan(losses)])) if seen.hidden else np.flatnonzero(~np.isfinite(losses))
    )
    if seen.not_finite is not None and (not len(bad) or seen.not_finite[0] <= bad[0]):
        step, layer, what = seen.not_finite
        return facts.NotFinite(
            step=step, layer=layer, operation=f"{what} in layer {layer!r}", skipped=seen.loop.skipped
        )
    if len(bad):
        return facts.NotFinite(step=int(bad[0]), operation="the loss", skipped=seen.loop.skipped)
    return None


def data_facts(seen: Observer, loss: str) -> facts.DataFacts | None:
    """The first batches as the model took them."""
    found = seen.batches.data()
    if found is None:
        return None
    from dataclasses import replace

    from chainrule.record.measure_rows import data_facts as measured

    x, y = found
    if y is None:
        return None
    made = measured(x, y, loss)
    return replace(made, rows=seen.batches.loader_rows or made.rows)
