"""Mended: the `chainrule train` that carries out a proven cure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from chainrule.cli.settings import Settings

if TYPE_CHECKING:
    from chainrule.doctor.rule import Remedy

Given = Mapping[str, Any]

ACTIVATIONS = ("relu", "tanh", "sigmoid", "gelu")


class NoOption(Exception):
    """A remedy that `chainrule train` has no option for."""


def mended(settings: Settings, remedies: Sequence[Remedy], lr: float) -> tuple[str, ...] | None:
    """The words of the command, behind `chainrule`; None where an option is missing for one of the remedies.

    lr: the learning rate that the run had, which the settings may have left to the optimizer.
    """
    made = replace(settings, lr=lr) if any(r.id == "scale-learning-rate" for r in remedies) else settings
    try:
        for remedy in remedies:
            if remedy.id not in _OPTIONS:
                return None
            made = _OPTIONS[remedy.id](made, remedy.parameters)
    except NoOption:
        return None
    return ("train", *_words(made))


def _activation(s: Settings, given: Given) -> Settings:
    name = str(given["activation"]).lower()
    if name not in ACTIVATIONS:
        raise NoOption
    return replace(s, activation=name)


def _batch_norm(s: Settings, given: Given) -> Settings:
    if given.get("at") != "hidden":
        raise NoOption
    return replace(s, batch_norm=True)


def _rate(s: Settings, given: Given) -> Settings:
    return replace(s, lr=float(f"{given.get('lr') or (s.lr or 0.0) * given.get('factor', 1.0):.6g}"))


def _batches(s: Settings, given: Given) -> Settings:
    return replace(s, batch_size=max(1, int(given.get("batch_size") or s.batch_size * given.get("factor", 1.0))))


def _constant(s: Settings, given: Given) -> Settings:
    return replace(s, schedule="constant")


_OPTIONS: dict[str, Callable[[Settings, Given], Settings]] = {
    "batch-size": _batches,
    "change-activation": _activation,
    "change-optimizer": lambda s, g: replace(s, optimizer=str(g["optimizer"]).lower(), lr=g.get("lr", 1e-3)),
    "clip": lambda s, g: replace(s, clip_norm=g.get("clip_norm")),
    "decay": lambda s, g: replace(s, l2=s.l2 * g.get("factor", 0.01)),
    "early-stopping": lambda s, g: replace(s, early_stopping=g.get("early_stopping", 10)),
    "insert-normalisation": _batch_norm,
    "scale-learning-rate": _rate,
    "schedule": _constant,
    "train-longer": lambda s, g: replace(s, epochs=int(s.epochs * g.get("factor", 10))),
    "widen-layer": lambda s, g: replace(s, layers=tuple(int(n * g.get("factor", 4)) for n in s.layers)),
}
"""By the id of a remedy what it changes among the settings."""


def _words(settings: Settings) -> list[str]:
    """The source, and each option that is not as it is without being asked for."""
    words = [settings.source]
    for field in fields(settings)[1:]:
        value, name = getattr(settings, field.name), f"--{field.name.replace('_', '-')}"
        if value == field.default:
            continue
        if field.name == "ignore":
            words += [word for column in value for word in (name, str(column))]
        elif value is True:
            words.append(name)
        elif field.name == "layers":
            words += [name, ",".join(map(str, value)) or "none"]
        else:
            words += [name, f"{value:g}" if isinstance(value, float) else str(value)]
    return words
