"""The settings of a run as plain data, and in what a resumed run differs from what it was begun with."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError
from chainrule.record import Choice, RunConfig
from chainrule.training.head import LOSS_CLASSES, Loss

FREE = ("epochs", "source", "versions", "backend")
"""What may differ when a run is resumed: how long it goes on, and names of where and with what."""


def loss_choice(name: str, loss: Loss) -> Choice:
    """A loss by name, with the options of a loss object of this package."""
    if type(loss) not in LOSS_CLASSES or not is_dataclass(loss):
        return Choice(name)
    return Choice(name, {f.name: _plain(getattr(loss, f.name)) for f in fields(loss)})


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else np.asarray(value).tolist()


def refuse_other_settings(path: object, then: RunConfig, now: RunConfig) -> None:
    """ArgumentError listing every setting in which ``now`` differs from those the run was begun with."""
    names = [n for n in then.__struct_fields__ if n not in FREE and getattr(then, n) != getattr(now, n)]
    if names:
        listed = "; ".join(_difference(n, getattr(then, n), getattr(now, n)) for n in names)
        raise ArgumentError(
            f"the run in {str(path)!r} was made with other settings: {listed}. Use the same ones, or start a new run"
        )


def _difference(name: str, then: Any, now: Any) -> str:
    if name == "architecture":
        return f"architecture: {_other_network(then, now)}"
    return f"{name} (then {_shown(then)}, now {_shown(now)})"


def _other_network(then: dict[str, Any], now: dict[str, Any]) -> str:
    before, after = then["tensors"], now["tensors"]
    differing = [n for n in {**before, **after} if before.get(n) != after.get(n)]
    if differing:
        shapes = ", ".join(f"{n} {before.get(n, 'none')} -> {after.get(n, 'none')}" for n in differing[:8])
        return shapes + (f" and {len(differing) - 8} more tensors" if len(differing) > 8 else "")
    pairs = zip(then["layers"] or [], now["layers"] or [], strict=False)
    for i, (old, new) in enumerate(pairs):
        if old != new:
            return f"layer {i} was {_layer(old)} and is {_layer(new)}"
    return f"{then['class']} of {len(then['layers'] or [])} layers became {now['class']} of {len(now['layers'] or [])}"


def _layer(entry: dict[str, Any]) -> str:
    options = ", ".join(f"{k}={v}" for k, v in entry.get("options", {}).items())
    return f"{entry['layer']}({options})"


def _shown(value: Any) -> str:
    if isinstance(value, Choice):
        return f"{value.name}({', '.join(f'{k}={v}' for k, v in value.arguments.items())})"
    return repr(value)
