"""Trace: the latest measured step of a live model as the arrays that explanations and flow read."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.adapters.pytorch.batches import Batch
from chainrule.adapters.pytorch.layers import DENSE, Layer
from chainrule.adapters.pytorch.sizes import padded, slope
from chainrule.adapters.pytorch.trials import copy_of, untouched, widened
from chainrule.adapters.pytorch.uses import Use, array
from chainrule.errors import ArgumentError
from chainrule.record.trace import LOSS, LayerTrace, Link, NetworkTrace, rms


@dataclass(eq=False)
class Kept:
    """One measured step. step: updates made before it; uses: in the order of the forward pass; rows: of all batches.

    weights, buffers: by name, before the update. parents: of each use, the uses that feed it, with what is between.
    """

    step: int
    rows: int
    uses: list[Use]
    weights: dict[str, Any]
    gradients: dict[str, Any]
    following: dict[str, str]
    scale: float
    loss: float = math.nan
    batch: Batch | None = None
    random: Any = None
    parents: dict[Use, dict[Use, tuple[str, ...]]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


def network_trace(kept: Kept, model: Any, loss: Callable[[Any, Any], Any] | None, name: str) -> NetworkTrace:
    """The whole step as arrays. loss: of (prediction, target), to run the step again; None: it cannot be."""
    places = _places(kept.uses)
    layers = [_layer(kept, uses) for uses in places]
    known = [(uses, layer) for uses, layer in zip(places, layers, strict=True) if layer is not None]
    calls, batch = {use.call for use in kept.uses}, kept.batch
    single = len(calls) == 1 and batch is not None
    gradients = {n: array(g) / np.float32(kept.scale) for n, g in kept.gradients.items()}
    weights = {n: array(w) for n, w in kept.weights.items() if n in gradients}
    return NetworkTrace(
        layers=tuple(layer for _, layer in known),
        loss=kept.loss,
        rows=kept.rows,
        step=kept.step,
        x=array(kept.batch.x) if single and kept.batch is not None and kept.batch.x is not None else None,
        prediction=array(batch.prediction) if single and batch is not None and batch.prediction is not None else None,
        links=_links(kept, [uses for uses, _ in known], [layer for _, layer in known]) if single else (),
        gradients=gradients,
        parameters=weights,
        aliases=kept.aliases,
        loss_name=name,
        nudged=_nudge(kept, model, loss) if single and loss is not None else None,
    )


def _places(uses: list[Use]) -> list[list[Use]]:
    """The uses of each place of each layer: of its first call in every forward pass, of its second, and so on."""
    count: dict[tuple[str, object], int] = {}
    found: dict[tuple[str, int], list[Use]] = {}
    for use in uses:
        at = count.get((use.layer.name, use.call), 0)
        count[use.layer.name, use.call] = at + 1
        found.setdefault((use.layer.name, at), []).append(use)
    return list(found.values())


def _layer(kept: Kept, uses: list[Use]) -> LayerTrace | None:
    """The trace of one place; None for one that has no rows."""
    layer = uses[0].layer
    forms = [_form(layer, use) for use in uses]
    if any(f is None for f in forms):
        return None
    a, z, delta = (np.concatenate([f[i] for f in forms if f is not None]) for i in range(3))
    delta = delta * np.asarray(kept.rows / kept.scale, delta.dtype)
    name = layer.full(layer.weight_name)
    weight = kept.weights.get(name)
    bias = kept.weights.get(layer.full("bias"))
    activation = kept.following.get(layer.name)
    local = _slope(activation, z)
    form = _form_name(layer)
    return LayerTrace(
        name=layer.name,
        kind=layer.kind,
        a=a,
        z=z,
        delta=delta,
        weight=None if weight is None else array(weight),
        bias=None if bias is None else array(bias),
        activation=activation,
        local_derivative=local,
        form=form,
        weight_name=kept.aliases.get(name, name),
        bias_name=layer.full("bias"),
        uses="position" if z.ndim > 2 else "",
        groups=getattr(layer.module, "groups", 1) if layer.kind in DENSE else 1,
        by_row=_refuse(layer) if form == "none" else None,
    )


def _slope(activation: str | None, z: np.ndarray) -> np.ndarray | None:
    import torch

    found = slope(activation, torch.from_numpy(z))
    return None if found is None else found.numpy()


def _form_name(layer: Layer) -> str:
    if layer.kind in DENSE:
        return "linear"
    return "lookup" if layer.kind == "Embedding" else "none"


def _form(layer: Layer, use: Use) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(a, z, delta) of one use with rows first and features last, convolutions' `a` as windows; None without rows."""
    if use.a is None or use.delta is None or not use.rows:
        return None
    if layer.kind.startswith("Conv") and layer.kind in DENSE:
        if use.a.dim() != len(layer.module.kernel_size) + 2:
            return None
        a = array(_windows(use.a, layer.module))
        z, delta = (np.ascontiguousarray(np.moveaxis(array(t), 1, -1)) for t in (use.z, use.delta))
    else:
        a, z, delta = (
            t.detach().cpu().numpy() if not t.is_floating_point() else array(t) for t in (use.a, use.z, use.delta)
        )
    if not z.ndim or len(z) % use.rows or len(a) % use.rows:
        return None
    # A layer that was called on merged axes has them merged with the rows first.
    made = tuple(v if len(v) == use.rows else v.reshape(use.rows, -1, *v.shape[1:]) for v in (a, z, delta))
    return (made[0], made[1], made[2]) if all(len(v) == use.rows for v in made) else None


def _windows(a: Any, module: Any) -> Any:
    """What each place of the kernel sees: [n, *places, channels, *kernel]."""
    read = padded(a, module)
    spatial = len(module.kernel_size)
    for axis, (size, stride, gap) in enumerate(zip(module.kernel_size, module.stride, module.dilation, strict=True)):
        read = read.unfold(2 + axis, (size - 1) * gap + 1, stride)[..., ::gap]
    order = [0, *range(2, 2 + spatial), 1, *range(2 + spatial, 2 + 2 * spatial)]
    return read.permute(order)


def _refuse(layer: Layer) -> Callable[[str, tuple[int, ...]], np.ndarray]:
    def by_row(name: str, index: tuple[int, ...]) -> np.ndarray:
        raise ArgumentError(
            f"{name}: what each sample adds cannot be seen from outside a {layer.kind} of PyTorch. Its gradient is in "
            "flow(); weights of Linear, convolutions and Embedding are explained by sample"
        )

    return by_row


def _links(kept: Kept, places: list[list[Use]], layers: list[LayerTrace]) -> tuple[Link, ...]:
    """Links between layers. Where one feeds several, what came back by each cannot be told apart, and it has none."""
    index = {use: i for i, uses in enumerate(places) for use in uses}
    children: dict[Use, list[Use]] = {}
    for child, parents in kept.parents.items():
        for parent in parents:
            children.setdefault(parent, []).append(child)
    factor = kept.rows / kept.scale
    found = []
    for use in (u for uses in places for u in uses):
        above = [c for c in children.get(use, []) if c in index]
        arriving = rms(layers[index[use]].delta)
        if not children.get(use):
            through = (kept.following[use.layer.name],) if use.layer.name in kept.following else ()
            found.append(Link(index[use], LOSS, 1.0, 1.0, arriving, None, through))
        elif len(above) == 1 and above[0].error_below is not None:
            child = above[0]
            behind = rms(array(child.error_below)) * factor
            same = layers[index[use]].local_derivative
            plain = kept.parents[child][use]
            fits = same is not None and same.shape == layers[index[child]].a.shape and len(plain) == 1
            error = rms(layers[index[child]].delta)
            found.append(Link(index[use], index[child], error, behind, arriving, same if fits else None, plain))
    return tuple(found)


def _nudge(kept: Kept, model: Any, loss: Callable[[Any, Any], Any]) -> Callable[..., float] | None:
    """The loss of the step in float64 with one number raised, by running a copy again."""
    batch = kept.batch
    if batch is None or batch.target is None:
        return None

    def nudged(kind: str, where: int | str, index: tuple[int, ...], by: float) -> float:
        import torch

        made = copy_of(model)
        if made is None or kind == "a":
            return math.nan
        with untouched(), torch.no_grad():
            _restore(made, kept)
            made = made.double()
            again = copy.deepcopy(widened(batch))
            if kind == "parameter":
                dict(made.named_parameters())[str(where)][index] += by
            elif kind == "x":
                again.x[(slice(None), *index)] += by
            else:
                module = dict(made.named_modules())[_layer_named(kept, int(where))]
                module.register_forward_hook(lambda m, args, out: _raised(out, index, by))
            if kept.random is not None:
                torch.set_rng_state(kept.random)
            return float(loss(made(*again.args, **again.kwargs), again.target))

    return nudged


def _raised(out: Any, index: tuple[int, ...], by: float) -> Any:
    out = out.clone()
    out[(slice(None), *index)] += by
    return out


def _layer_named(kept: Kept, at: int) -> str:
    return _places(kept.uses)[at][0].layer.name


def _restore(made: Any, kept: Kept) -> None:
    """Weights and buffers as they were before the update."""
    held = {**dict(made.named_parameters()), **dict(made.named_buffers())}
    for name, value in kept.weights.items():
        if name in held:
            held[name].copy_(value)
