"""Names for the values of a step: z and a by layer, W and b for parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chainrule.graph import Node, Tensor
from chainrule.see.derivation.trace import TracedStep


@dataclass
class Names:
    """What each value is called, by its key, and what the names of parameters stand for."""

    of: dict[Any, str] = field(default_factory=dict)
    legend: dict[str, str] = field(default_factory=dict)
    """"W1" -> "0.weight"; in the order of the layers."""
    level: dict[Any, int] = field(default_factory=dict)
    """Of each value the number of the last layer with parameters on the way to it."""
    layers: dict[str, int] = field(default_factory=dict)
    """Qualified name of each module with parameters -> its number, from 1 in the order of first use."""
    data: set[Any] = field(default_factory=set)
    """The values that depend on x: the others are truths, penalties and constants."""
    taken: dict[str, int] = field(default_factory=dict)

    def give(self, key: Any, base: str) -> None:
        """Name a value; a name that is taken gets _2, _3 … behind it."""
        count = self.taken[base] = self.taken.get(base, 0) + 1
        self.of[key] = base if count == 1 else f"{base}_{count}"


def named_values(step: TracedStep, forward: Sequence[Node], free: set[Node]) -> Names:
    """Names for the inputs, the state and everything that ``forward`` makes.

    z is what a layer with parameters gives, a what a function of that z alone gives, h anything else that depends on
    x; p is what depends on parameters or the truth and not on x, as a penalty does; mask and c are random and constant
    values that depend on none of them. free: the nodes that make those.
    """
    names = Names()
    for x in step.inputs[:3]:
        names.give(x.key, x.name)
    names.data.add(step.inputs[0].key)
    read = [x.key for node in forward for x in node.inputs if x.key in step.state]
    for key in [*read, *step.state]:
        path = step.state[key].rpartition(".")[0]
        names.layers.setdefault(path, len(names.layers) + 1)
    shapes = {x.key: x.shape for x in step.inputs}
    for key, label in sorted(step.state.items(), key=lambda entry: names.layers[entry[1].rpartition(".")[0]]):
        path, _, attribute = label.rpartition(".")
        names.give(key, parameter_name(attribute, names.layers[path], len(shapes[key])))
        names.legend[names.of[key]] = label
    for node in forward:
        _name_outputs(names, node, step, free)
    return names


def parameter_name(attribute: str, layer: int, axes: int) -> str:
    """W1 for the weight of layer 1, b1 for its bias, gamma1 for a weight that scales features."""
    letter = re.sub(r"bias", "b", re.sub(r"weight", "W" if axes > 1 else "gamma", attribute))
    return f"{letter}_{layer}" if letter[-1:].isdigit() else f"{letter}{layer}"


def _name_outputs(names: Names, node: Node, step: TracedStep, free: set[Node]) -> None:
    own = [names.layers[step.state[x.key].rpartition(".")[0]] for x in node.inputs if x.key in step.state]
    level = own[0] if own else max((names.level.get(x.key, 0) for x in node.inputs), default=0)
    from_data = any(x.key in names.data for x in node.inputs)
    for i, spec in enumerate(node.specs):
        key = (node, i)
        if from_data:
            names.data.add(key)
        names.level[key] = level
        if node in free:
            continue
        if node is step.loss.node and i == step.loss.index:
            names.give(key, "L")
        elif not from_data:
            names.give(key, f"p{level}")
        elif own:
            names.give(key, f"z{level}")
        elif reads_only_z(names.of, node) and spec == node.inputs[0].spec:
            names.give(key, f"a{level}")
        else:
            names.give(key, f"h{level}")


def reads_only_z(names: Mapping[Any, str], node: Node) -> bool:
    """Whether a node is a function of one pre-activation alone: an activation function."""
    return len(node.inputs) == 1 and names.get(node.inputs[0].key, "").startswith("z")


def free_nodes(forward: Sequence[Node], inputs: Sequence[Tensor]) -> set[Node]:
    """Nodes that depend on nothing but constants and the random key, which is the third input."""
    key = inputs[2].key
    bound = {x.key for x in inputs} - {key}
    free: set[Node] = set()
    for node in forward:
        if all(x.key not in bound and (x.node is None or x.node in free) for x in node.inputs):
            free.add(node)
    return free
