"""A place in a network by its name: a number in a weight, bias, input, pre-activation or activation."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

import numpy as np

from chainrule.errors import ArgumentError
from chainrule.record.trace import LayerTrace, NetworkTrace


@dataclass(frozen=True)
class Place:
    """kind: "parameter", "z", "a" or "x". layer: of z and a, counted from 0 in the trace. name: as people write it."""

    kind: str
    name: str
    layer: int
    index: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}[{', '.join(map(str, self.index))}]"


def place_named(text: str, trace: NetworkTrace) -> Place:
    """The place called ``text``, such as "0.weight[7, 2]", "W1[7, 2]", "a1[3]" or "x[2]".

    Without an index the entry with the largest gradient. ArgumentError: an unknown name or an index out of range.
    """
    match = re.fullmatch(r"\s*(.*?)\s*(?:\[([^\[\]]*)\])?\s*", text)
    base, inside = (match[1], match[2]) if match else (text, None)
    kind, name, layer = _named(base, trace)
    array = array_at(Place(kind, name, layer, ()), trace)
    if inside is None or not inside.strip():
        return Place(kind, name, layer, _largest(array))
    return Place(kind, name, layer, _index(text, inside, name, array.shape))


def array_at(place: Place, trace: NetworkTrace) -> np.ndarray:
    """The gradient of the whole array in which the place is, summed over rows and uses where it has such."""
    if place.kind == "parameter":
        return trace.gradients[place.name]
    if place.kind == "x":
        found = trace.x_delta
        if found is None:
            raise ArgumentError(
                "no gradient reaches x: it is whole numbers, or the loss does not use it; explain a weight instead"
            )
        return found.sum(0) / trace.rows
    layer = trace.layers[place.layer]
    error = layer.delta if place.kind == "z" or layer.output_delta is None else layer.output_delta
    uses = error.ndim - 1 - width_of(layer)
    return error.sum(axis=tuple(range(1 + uses))) / trace.rows


def width_of(layer: LayerTrace) -> int:
    """How many axes at the end of z are features."""
    weight = layer.weight if layer.weight is not None else layer.bias
    if layer.form == "scale" or layer.weight is None:
        return weight.ndim if weight is not None else 1
    if layer.form == "lookup":
        return max(layer.weight.ndim - 1, 0)
    return min(1, layer.z.ndim - 1)


def names_of(trace: NetworkTrace) -> dict[str, tuple[str, int]]:
    """Every short name of a derivation -> (its name here, its layer): W1, b1, z1, a1."""
    found: dict[str, tuple[str, int]] = {}
    for i, (number, layer) in enumerate(zip(trace.numbers, trace.layers, strict=True)):
        own = layer.parameters()
        for name, array in own.items():
            found.setdefault(f"{'W' if array is layer.weight else 'b'}{number}", (name, i))
        found.setdefault(f"z{number}", (f"z{number}", i))
        found.setdefault(f"a{number}", (f"a{number}", i))
    return found


def short_name(name: str, trace: NetworkTrace) -> str:
    """What a derivation calls a parameter, if it has a name there."""
    return next((short for short, (whole, _) in names_of(trace).items() if whole == name), name)


def _named(base: str, trace: NetworkTrace) -> tuple[str, str, int]:
    base = trace.aliases.get(base, base)
    if base in trace.gradients:
        return "parameter", base, -1
    short = names_of(trace)
    if base in short:
        name, layer = short[base]
        return ("parameter", name, -1) if base[0] in "Wb" else (base[0], name, layer)
    if base == "x":
        return "x", "x", -1
    if f"{base}.weight" in trace.gradients:
        return "parameter", f"{base}.weight", -1
    if base in trace.parameters:
        raise ArgumentError(f"{base} is frozen, so no gradient of it is taken: thaw it with requires_grad_(True)")
    known = [*trace.gradients, *short, "x"]
    near = difflib.get_close_matches(base, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    shapes = ", ".join(f"{n} {list(g.shape)}" for n, g in trace.gradients.items())
    raise ArgumentError(f"nothing is called {base!r}{hint} There are {shapes}; and {', '.join([*short, 'x'])}")


def _index(text: str, inside: str, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    try:
        index = tuple(int(part) for part in inside.split(","))
    except ValueError:
        raise ArgumentError(f"{text!r}: an index is whole numbers with commas, as {name}[{', '.join('0' * len(shape))}]"
                            ) from None  # fmt: skip
    if len(index) != len(shape):
        raise ArgumentError(f"{text!r}: {name} has {len(shape)} axes, {list(shape)}, and the index has "
                            f"{len(index)}: write it as {name}[{', '.join('0' * len(shape))}]")  # fmt: skip
    for axis, (i, n) in enumerate(zip(index, shape, strict=True)):
        if not -n <= i < n:
            raise ArgumentError(f"{text!r}: index {i} is out of range: {name} is {list(shape)}, so axis {axis} goes "
                                f"from 0 to {n - 1}")  # fmt: skip
    return tuple(i % n for i, n in zip(index, shape, strict=True))


def _largest(array: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.abs(array).argmax()), array.shape)) if array.size else ()


def largest(trace: NetworkTrace, count: int = 10, layer: str | None = None) -> list[tuple[Place, float]]:
    """The entries with the largest gradients, of all parameters or of one layer (or parameter), the largest first."""
    names = [n for n in trace.gradients if layer is None or n == layer or n.rpartition(".")[0] == layer]
    if not names:
        known = ", ".join(dict.fromkeys(n.rpartition(".")[0] or n for n in trace.gradients))
        raise ArgumentError(f"no layer is called {layer!r}: there are {known}")
    found: list[tuple[Place, float]] = []
    for name in names:
        flat = trace.gradients[name].reshape(-1)
        most = min(count, flat.size)
        for at in np.argpartition(-np.abs(flat), most - 1)[:most] if most else ():
            index = tuple(int(i) for i in np.unravel_index(int(at), trace.gradients[name].shape))
            found.append((Place("parameter", name, -1, index), float(flat[at])))
    return sorted(found, key=lambda entry: -abs(entry[1]))[:count]
