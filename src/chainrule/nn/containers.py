"""Modules made of modules: one after another, and around a shortcut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chainrule.errors import ArgumentError, ShapeError
from chainrule.graph import Tensor
from chainrule.nn.activations import Activation, PReLU
from chainrule.nn.layers import BatchNorm1d, Dropout, Identity, LayerNorm
from chainrule.nn.module import Module


class Sequential(Module):
    """Layers one after another. Widths that do not fit are refused when it is built."""

    def __init__(self, *layers: Module) -> None:
        super().__init__()
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                hint = "call the class, as nn.ReLU()" if isinstance(layer, type) else "use a layer of chainrule.nn"
                raise ArgumentError(f"Sequential: layer {i} is {layer!r}, not a layer: {hint}")
            setattr(self, str(i), layer)
        check_widths(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x

    def settle(self, following: str) -> None:
        layers = list(self.children())
        for layer in reversed(layers):
            layer.settle(following)
            following = following_name(layer, following)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: int | slice) -> Module:
        layers = list(self.children())
        return Sequential(*layers[index]) if isinstance(index, slice) else layers[index]


def following_name(layer: Module, following: str) -> str:
    """The activation that meets what comes before ``layer``: its own name, or what follows if it only rescales."""
    if isinstance(layer, (Activation, PReLU)):
        return type(layer).__name__
    if isinstance(layer, (Dropout, Identity, BatchNorm1d, LayerNorm)):
        return following
    return ""


def check_widths(layers: tuple[Module, ...]) -> None:
    """ShapeError at the first layer whose inputs are not as many as the last outputs before it."""
    width, source = None, ""
    for i, layer in enumerate(layers):
        wanted = getattr(layer, "in_features", getattr(layer, "num_features", None))
        if width is not None and wanted is not None and wanted != width:
            name = "in_features" if hasattr(layer, "in_features") else "num_features"
            raise ShapeError(
                f"layer {i} ({layer._title()}) takes {wanted} features, but {source} gives {width}: set {name}={width}"
            )
        if hasattr(layer, "out_features"):
            width, source = layer.out_features, f"layer {i - 0} ({layer._title()})"
        elif not isinstance(layer, (Activation, PReLU, Dropout, Identity, BatchNorm1d, LayerNorm)):
            width = None


class Residual(Module):
    """y = x + f(x), f being ``layers`` one after another; ``shortcut`` replaces the plain x where widths differ.

    The error reaches x by two paths, one of which no layer can shrink (He et al. 2016).
    """

    def __init__(self, *layers: Module, shortcut: Module | None = None) -> None:
        super().__init__()
        self.body = Sequential(*layers)
        self.shortcut = Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        straight, bent = self.shortcut(x), self.body(x)
        if straight.shape != bent.shape:
            raise ShapeError(f"Residual: the shortcut is {straight.spec} and the layers give {bent.spec}: "
                             "give both the same width, or pass shortcut=Linear(...)")  # fmt: skip
        return straight + bent

    def settle(self, following: str) -> None:
        self.body.settle(following)


def sequential_of(description: list[dict[str, Any]]) -> Sequential:
    """The network that ``description_of`` described; a closed list of layers, no code."""
    return Sequential(*(_layer_of(entry) for entry in description))


def description_of(net: Module) -> list[dict[str, Any]] | None:
    """A Sequential of this package's layers as plain data, or None if it holds a class of the user's own."""
    if type(net) is not Sequential:
        return None
    entries = [_entry_of(layer) for layer in net.children()]
    return None if None in entries else entries  # type: ignore[return-value]


def _entry_of(layer: Module) -> dict[str, Any] | None:
    if type(layer) is Sequential or type(layer) is Residual:
        inner = description_of(layer if isinstance(layer, Sequential) else layer.body)
        shortcut = None if type(layer) is Sequential else _entry_of(layer.shortcut)
        if inner is None or (type(layer) is Residual and shortcut is None):
            return None
        return {"layer": type(layer).__name__, "layers": inner, "shortcut": shortcut}
    if type(layer).__name__ not in LAYERS or LAYERS[type(layer).__name__] is not type(layer):
        return None
    return {"layer": type(layer).__name__, "options": layer.options()}


def _layer_of(entry: dict[str, Any]) -> Module:
    kind = entry["layer"]
    if kind == "Sequential":
        return sequential_of(entry["layers"])
    if kind == "Residual":
        return Residual(*sequential_of(entry["layers"]), shortcut=_layer_of(entry["shortcut"]))
    if kind not in LAYERS:
        raise ArgumentError(f"{kind!r} is not a layer of chainrule.nn: pass the network itself")
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in entry["options"].items()}
    return LAYERS[kind](**options)


def _layers() -> dict[str, type[Module]]:
    from chainrule.nn import activations, layers

    found = {**vars(layers), **vars(activations)}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type) and issubclass(kind, Module) and kind not in (Module, Activation)
    }


LAYERS = _layers()
"""Every layer of this package, by name."""
