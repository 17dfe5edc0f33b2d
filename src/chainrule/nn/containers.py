"""Modules made of modules: one after another, and around a shortcut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any, overload

from chainrule.errors import ArgumentError, ShapeError
from chainrule.graph import Tensor
from chainrule.nn.activations import Activation, PReLU
from chainrule.nn.convolution import Conv2d, Pooling
from chainrule.nn.initialisers import INITIALISERS, Initialiser
from chainrule.nn.layers import BatchNorm, BatchNorm2d, Dropout, Flatten, Identity, LayerNorm, Linear
from chainrule.nn.module import Module


class Sequential(Module):
    """Layers one after another: y = fₙ(… f₁(x)). Widths that do not fit are refused when it is built.

    >>> import numpy as np
    >>> from chainrule import nn
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> net
    Sequential
      (0): Linear(in_features=4, out_features=8, bias=True)    # weight: kaiming uniform ±1.22: ReLU follows, which \
lets through about half of the variance; bias: all 0
      (1): ReLU
      (2): Linear(in_features=8, out_features=3, bias=True)    # weight: xavier uniform ±0.739: no activation follows; \
bias: all 0
    67 parameters
    >>> net(np.ones((5, 4))).shape, len(net), [name for name, _ in net.named_parameters()]
    ((5, 3), 3, ['0.weight', '0.bias', '2.weight', '2.bias'])
    """

    straight = True

    def __init__(self, *layers: Module) -> None:
        super().__init__()
        for i, layer in enumerate(layers):
            setattr(self, str(i), checked_layer("Sequential", i, layer))
        check_widths(self)

    def forward(self, x: Tensor) -> Tensor:
        for _, layer in unnested(self):
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    @overload
    def __getitem__(self, index: int) -> Module: ...

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...

    def __getitem__(self, index: int | slice) -> Module:
        layers = list(self._modules.values())
        return Sequential(*layers[index]) if isinstance(index, slice) else layers[index]

    def __setitem__(self, index: int, layer: Module) -> None:
        name = list(self._modules)[index]
        setattr(self, name, checked_layer("Sequential", int(name), layer))
        check_widths(self)


class ModuleList(Module):
    """Layers that the forward pass of a module of your own calls as it likes; a plain list would hide their weights.

    >>> from chainrule import nn
    >>> class Tower(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.floors = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
    ...     def forward(self, x):
    ...         for floor in self.floors:
    ...             x = x + floor(x)
    ...         return x
    >>> [name for name, _ in Tower().named_parameters()]
    ['floors.0.weight', 'floors.0.bias', 'floors.1.weight', 'floors.1.bias']
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end."""
        setattr(self, str(len(self)), checked_layer("ModuleList", len(self), module))
        return self

    def forward(self, *inputs: Any) -> Any:
        raise ArgumentError("a ModuleList only holds modules: call them one by one, or use Sequential")

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, index: int) -> Module:
        return list(self._modules.values())[index]

    def __setitem__(self, index: int, module: Module) -> None:
        name = list(self._modules)[index]
        setattr(self, name, checked_layer("ModuleList", int(name), module))


def checked_layer(container: str, index: int, layer: Any) -> Module:
    """``layer`` if it is one; else an ArgumentError that says what to write."""
    if isinstance(layer, Module):
        return layer
    hint = "use a layer of chainrule.nn"
    if isinstance(layer, type):
        hint = f"call the class, as nn.{layer.__name__}()"
    elif isinstance(layer, (list, tuple)):
        hint = f"unpack it, as {container}(*layers)" if container == "Sequential" else "give its layers one by one"
    raise ArgumentError(f"{container}: layer {index} is {layer!r}, not a layer: {hint}")


def unnested(net: Sequential) -> Iterator[tuple[str, Module]]:
    """(name, layer) of ``net`` in the order in which they run, those of a Sequential inside it in its place."""
    stack: list[tuple[str, Module]] = [("", net)]
    while stack:
        name, layer = stack.pop()
        if type(layer) is Sequential or layer is net:
            inner = ((f"{name}.{key}" if name else key, child) for key, child in layer._modules.items())
            stack.extend(reversed(list(inner)))
        else:
            yield name, layer


KEEPING = (Activation, PReLU, Dropout, Identity, BatchNorm, LayerNorm)
"""Layers with as many outputs as inputs."""


def check_widths(net: Sequential) -> tuple[int | None, int | None]:
    """(inputs, outputs) where known; ShapeError at the first layer that takes another number than it is given."""
    first: int | None = None
    width: int | None = None
    source, flattened, channels = "", False, False
    for i, layer in unnested(net):
        name, wanted, given = _widths(layer)
        title = f"layer {i} ({layer._title()})"
        comparable = width is not None and wanted is not None and (flattened or channels == _counts_channels(layer))
        if comparable and (wanted % width if flattened else wanted != width):  # type: ignore[operator]
            what = "channels" if channels and not flattened else "features"
            raise ShapeError(f"{title} takes {wanted} {what}, but {source} gives {width}: set {name}={width}")
        if first is None and width is None and not flattened:
            first = wanted
        if given is not None:
            width, source, flattened, channels = given, title, False, _counts_channels(layer)
        elif isinstance(layer, Flatten):
            # [rows, n] stays as it is and [rows, k, n] becomes [rows, k n]: a multiple of the width.
            flattened = True
        elif not (isinstance(layer, KEEPING) or (channels and isinstance(layer, Pooling))):
            width = None
    return first, None if flattened else width


def _counts_channels(layer: Module) -> bool:
    """Whether what a layer takes and gives is a number of channels, on axis 1, and not of features, on the last."""
    return any(isinstance(inner, (Conv2d, BatchNorm2d)) for inner in layer.modules())


def _widths(layer: Module) -> tuple[str, int | None, int | None]:
    """(the argument that sets the inputs, how many there must be, how many outputs there are); None: not known."""
    if isinstance(layer, Linear):
        return "in_features", layer.in_features, layer.out_features
    if isinstance(layer, Conv2d):
        return "in_channels", layer.in_channels, layer.out_channels
    if isinstance(layer, BatchNorm):
        return "num_features", layer.num_features, layer.num_features
    if isinstance(layer, LayerNorm):
        return "normalized_shape", layer.normalized_shape[-1], layer.normalized_shape[-1]
    if isinstance(layer, Residual):
        first, last = check_widths(layer.body)
        outside = _widths(layer.shortcut)[1:]
        return "the block's width", first or outside[0], last or outside[1]
    return "", None, None


class Residual(Module):
    """y = x + f(x), f being ``layers`` one after another; ``shortcut`` replaces the plain x where widths differ.

    x: any shape that the layers take, y: the same shape, or that of the shortcut's output. The error reaches x by two
    paths, one of which no layer can shrink (He, Zhang, Ren & Sun 2016, "Identity Mappings in Deep Residual Networks").
    """

    def __init__(self, *layers: Module, shortcut: Module | None = None) -> None:
        super().__init__()
        self.body = Sequential(*layers)
        self.shortcut = Identity() if shortcut is None else checked_layer("Residual", 0, shortcut)
        first, last = check_widths(self.body)
        if isinstance(self.shortcut, Identity) and None not in (first, last) and first != last:
            raise ShapeError(f"Residual: the layers take {first} features and give {last}, so x cannot be added: "
                             f"give both the same width, or pass shortcut=Linear({first}, {last})")  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        straight, bent = self.shortcut(x), self.body(x)
        if straight.shape != bent.shape:
            raise ShapeError(f"Residual: the shortcut is {straight.spec} and the layers give {bent.spec}: "
                             "give both the same width, or pass shortcut=Linear(...)")  # fmt: skip
        return straight + bent

    def settle(self, following: str) -> str:
        self.body.settle_along(following)
        self.shortcut.settle_along(following)
        return ""


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
    if type(layer) is Sequential:
        inner = description_of(layer)
        return None if inner is None else {"layer": "Sequential", "layers": inner}
    if type(layer) is Residual:
        inner, shortcut = description_of(layer.body), _entry_of(layer.shortcut)
        if inner is None or shortcut is None:
            return None
        return {"layer": "Residual", "layers": inner, "shortcut": shortcut}
    if LAYERS.get(type(layer).__name__) is not type(layer):
        return None
    options = dict(layer.options())
    if isinstance(layer, (Linear, Conv2d)):
        init = layer.init if isinstance(layer.init, str) else _initialiser_entry(layer.init)
        if init is None:
            return None
        options["init"] = init
    return {"layer": type(layer).__name__, "options": options}


def _initialiser_entry(initialiser: Initialiser) -> dict[str, Any] | None:
    kind = type(initialiser)
    if INITIALISERS.get(kind.__name__) is not kind:
        return None
    values = {field.name: getattr(initialiser, field.name) for field in fields(initialiser)}
    return {"initialiser": kind.__name__, **values}


def _initialiser_of(entry: dict[str, Any]) -> Initialiser:
    kind = entry.get("initialiser")
    if kind not in INITIALISERS:
        raise ArgumentError(f"{kind!r} is not an initialiser of chainrule.nn: pass the network itself")
    return INITIALISERS[kind](**{name: value for name, value in entry.items() if name != "initialiser"})


def _layer_of(entry: dict[str, Any]) -> Module:
    kind = entry["layer"]
    if kind == "Sequential":
        return sequential_of(entry["layers"])
    if kind == "Residual":
        return Residual(*sequential_of(entry["layers"]), shortcut=_layer_of(entry["shortcut"]))
    if kind not in LAYERS:
        raise ArgumentError(f"{kind!r} is not a layer of chainrule.nn: pass the network itself")
    options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry["options"].items()}
    if isinstance(options.get("init"), dict):
        options["init"] = _initialiser_of(options["init"])
    return LAYERS[kind](**options)


def _layers() -> dict[str, type[Module]]:
    from chainrule.nn import activations, convolution, layers, sequences

    found = {**vars(layers), **vars(convolution), **vars(sequences), **vars(activations)}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type) and issubclass(kind, Module) and kind not in (Module, Activation, Pooling)
    }


LAYERS = _layers()
"""Every layer of this package, by name."""
