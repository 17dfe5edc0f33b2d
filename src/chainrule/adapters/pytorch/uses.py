"""Uses: what each call of a layer saw in one step, taken by hooks that change nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.adapters.pytorch.layers import Layer


@dataclass(eq=False)
class Use:
    """One call of a layer. It lives in the closure of the tensor hook until an error comes back to it, and so must not
    hold the autograd graph, which owns the hook: no collector sees such a ring.

    call, rows: which forward pass of the model it belongs to, and the rows of its batch.
    """

    layer: Layer
    call: object
    rows: int
    a: Any
    z: Any
    delta: Any = None
    """Cotangent at z; the sum if several backward passes came."""
    error_below: Any = None
    """rms of the cotangent at `a`, what this layer's weights sent down; None where nothing below learns."""


@dataclass(eq=False)
class Pass:
    """What the hooks share while one step is measured. reached: uses in the order in which an error came back."""

    on: bool = False
    call: object = None
    rows: int = 0
    order: dict[str, None] = field(default_factory=dict)
    """Names of the layers in the order of their first call."""
    called: set[str] = field(default_factory=set)
    """Layers that ran while gradients were recorded."""
    cut: set[str] = field(default_factory=set)
    """Layers that learn, but ran in a way that no gradient can come back: under no_grad inside the model."""
    reached: list[Use] = field(default_factory=list)
    started: dict[Any, Use] = field(default_factory=dict)
    """Uses of this forward by the autograd node of their output."""

    def forget(self) -> None:
        """Drop what was kept of the step before."""
        self.reached, self.started = [], {}


def tap(layer: Layer, now: Pass, root_records: Callable[[], bool]) -> Any:
    """Hook the layer; the handle. root_records: whether gradients were on when the model was entered."""

    def seen(module: Any, args: tuple, kwargs: dict, out: Any) -> None:
        out = _tensor(out)
        if out is None:
            return
        if not out.requires_grad:
            if root_records() and any(p.requires_grad for _, p in layer.parameters):
                now.cut.add(layer.name)
                now.order.setdefault(layer.name)
            return
        now.order.setdefault(layer.name)
        now.called.add(layer.name)
        a = _tensor((*args, *kwargs.values()))
        # A function that works in place would overwrite z.
        kept = None if a is None else a.detach()
        rows = now.rows or (0 if a is None or not a.dim() else int(a.shape[0]))
        use = Use(layer, now.call, rows, kept, out.detach().clone())
        now.started[out.grad_fn] = use
        out.register_hook(_receiver(use, now))
        if a is not None and a.requires_grad and a.grad_fn is not None:
            a.register_hook(_below(use))

    return layer.module.register_forward_hook(seen, with_kwargs=True)


def _receiver(use: Use, now: Pass) -> Any:
    def receive(cotangent: Any) -> None:
        if cotangent is None:
            return
        if use.delta is None:
            now.reached.append(use)
            use.delta = cotangent.detach().clone()
        else:
            use.delta = use.delta + cotangent.detach()

    return receive


def _below(use: Use) -> Any:
    def receive(cotangent: Any) -> None:
        if cotangent is not None:
            use.error_below = cotangent.detach()

    return receive


def _tensor(found: Any) -> Any:
    """The first floating-point or integer tensor in what a module takes or gives."""
    import torch

    if isinstance(found, torch.Tensor):
        return found
    items = found.values() if isinstance(found, dict) else found if isinstance(found, tuple | list) else ()
    return next((t for t in map(_tensor, items) if t is not None), None)


def rows_of(uses: list[Use]) -> int:
    """Rows of all forward passes that the uses belong to."""
    return sum({use.call: use.rows for use in uses}.values())


def array(tensor: Any) -> np.ndarray:
    """A copy as float32 (float64 stays) in NumPy."""
    import torch

    found = tensor.detach()
    found = found if found.dtype in (torch.float32, torch.float64) else found.float()
    return found.cpu().numpy().copy()
