"""Sites: the places of a forward pass at which a parameter meets what flows through the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from chainrule.graph import Graph, Node, Tensor, apply, holding, inline, placeholder, replaced
from chainrule.ops import add
from chainrule.ops.control import apply_scan
from chainrule.see.rows import keys_reached
from chainrule.spec import TensorSpec

Roles = dict[Any, str]
"""Value that is a parameter -> its name."""


@dataclass(eq=False)
class Site:
    """One application of a primitive that joins parameters with data.

    z is the node's first output (or the sum with a bias behind it), t what comes in beside the parameters.
    """

    form: str
    node: Node
    z: Tensor
    t: Tensor | None
    weight: str = ""
    bias: str = ""
    added: Node | None = None
    """The addition of a bias that was merged into it."""
    entry: int = 0
    """For the form "none": which input of the node depends on the parameter."""
    sign: float = 1.0
    """With which sign a bias enters."""
    stacked_z: Tensor | None = None
    """Inside a loop: z and t of all steps, and the tap, a 0 added to z, whose cotangent is that of z."""
    stacked_t: Tensor | None = None
    tap: Tensor | None = None

    @property
    def cut(self) -> Tensor:
        """What stands for z where links begin."""
        return self.z if self.tap is None else self.tap

    @property
    def links(self) -> bool:
        """Whether errors are followed from site to site through it."""
        return self.form in ("linear", "conv", "matmul", "lookup", "norm", "scale")


def sites_of(graph: Graph, roles: Roles, data: set[Any], opened_names: frozenset[str] = frozenset()) -> list[Site]:
    """Every place of ``graph`` where a parameter meets data, in the order of evaluation.

    data: the inputs that differ from sample to sample. opened_names: parameters whose places inside loops are known.
    """
    nodes = graph.nodes()
    flowing = keys_reached(nodes, data)
    dependent = _names_reached(nodes, roles, flowing)
    found: list[Site] = []
    by_z: dict[Any, Site] = {}
    readers: dict[Any, int] = {}
    for node in nodes:
        for x in node.inputs:
            readers[x.key] = readers.get(x.key, 0) + 1
    for node in nodes:
        if (node, 0) not in flowing:
            continue
        met = [i for i, x in enumerate(node.inputs) if x.key in dependent and x.key not in flowing]
        if node.primitive.name == "scan":
            met = [i for i in met if not opened_names.issuperset(dependent[node.inputs[i].key])]
        if not met:
            continue
        if _merged(node, met, roles, by_z, readers):
            continue
        for site in _sites_at(node, met, roles, dependent):
            found.append(site)
            by_z[site.z.key] = site
    return found


def place_of(x: Tensor, among: Sequence[Tensor]) -> int:
    """Which of ``among`` is the value ``x``. (Tensors are compared element by element, so ``index`` cannot tell.)"""
    owner, output = x.key
    return next(i for i, other in enumerate(among) if other.key[0] is owner and other.key[1] == output)


def _names_reached(nodes: Sequence[Node], roles: Roles, flowing: set[Any]) -> dict[Any, tuple[str, ...]]:
    """Value without data -> the parameters that it was made from."""
    found = {key: (name,) for key, name in roles.items()}
    for node in nodes:
        if (node, 0) in flowing:
            continue
        names = dict.fromkeys(n for x in node.inputs for n in found.get(x.key, ()))
        if names:
            found.update({(node, i): tuple(names) for i in range(len(node.specs))})
    return found


def _merged(node: Node, met: list[int], roles: Roles, by_z: dict[Any, Site], readers: dict[Any, int]) -> bool:
    """Whether ``node`` adds a bias to what a site just made, so that both are one layer."""
    if node.primitive.name != "add" or len(met) != 1:
        return False
    bias, other = node.inputs[met[0]], node.inputs[1 - met[0]]
    site = by_z.get(other.key)
    if site is None or site.bias or site.form not in ("linear", "matmul") or readers[other.key] > 1:
        return False
    if bias.key not in roles or bias.shape != other.shape[-1:] or node.specs[0].shape != other.shape:
        return False
    del by_z[other.key]
    site.added, site.z, site.bias = node, node.output(0), roles[bias.key]
    by_z[site.z.key] = site
    return True


FORMS = {"linear": "linear", "conv2d": "conv", "layer_norm": "norm", "batch_norm": "norm"}
"""Primitives of input, weight and bias."""


def _sites_at(node: Node, met: list[int], roles: Roles, dependent: dict[Any, tuple[str, ...]]) -> list[Site]:
    name, inputs = node.primitive.name, node.inputs
    direct = {i: roles[inputs[i].key] for i in met if inputs[i].key in roles}
    z = node.output(0)
    whole = len(direct) == len(met)
    if whole and name in FORMS and 0 not in met:
        return [Site(FORMS[name], node, z, inputs[0], direct.get(1, ""), direct.get(2, ""))]
    if whole and name == "matmul" and met == [1] and inputs[1].ndim == 2:
        return [Site("matmul", node, z, inputs[0], direct[1])]
    if whole and name == "gather" and met == [0]:
        return [Site("lookup", node, z, inputs[1], direct[0])]
    if whole and name == "multiply" and len(met) == 1 and _covers(inputs[met[0]], z):
        return [Site("scale", node, z, inputs[1 - met[0]], direct[met[0]])]
    if whole and name in ("add", "subtract") and len(met) == 1 and _covers(inputs[met[0]], z):
        sign = -1.0 if name == "subtract" and met[0] == 1 else 1.0
        return [Site("bias", node, z, None, "", direct[met[0]], sign=sign)]
    return [
        Site("none", node, z, next((x for i, x in enumerate(inputs) if i not in met), None), parameter, entry=i)
        for i in met
        for parameter in dependent[inputs[i].key]
    ]


def _covers(parameter: Tensor, z: Tensor) -> bool:
    """Whether the parameter's axes are the last of z, none of them stretched."""
    return parameter.ndim > 0 and z.shape[z.ndim - parameter.ndim :] == parameter.shape and z.ndim > parameter.ndim


# ------------------------------------------------------------------------------------------------ loops


def opened(graph: Graph, roles: Roles) -> tuple[Graph, list[Site]]:
    """``graph`` with what its loops hide made visible: (graph, the sites inside loops).

    A loop over time that reads parameters gives what comes in and z of every step besides; a tap, a 0 for every step, is
    added to z, so that its cotangent is the error there. What `checkpoint` hides stands in the open.
    """
    inner: list[Site] = []

    def rule(node: Node, inputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...] | None:
        if node.primitive.name == "checkpoint":
            return inline(node.parameters["body"], inputs)
        return _tapped(node, inputs, roles, inner) if node.primitive.name == "scan" else None

    return replaced(graph, rule, bodies=lambda body: body), inner


def _tapped(
    node: Node, inputs: tuple[Tensor, ...], roles: Roles, inner: list[Site]
) -> tuple[Tensor | None, ...] | None:
    carries, sequences = node.parameters["carries"], node.parameters["sequences"]
    shown = len(node.specs) - node.parameters["kept"]
    whole: Graph = node.parameters["body"]
    body = Graph(whole.inputs, whole.outputs[:shown])
    first = carries + sequences
    own = {b.key: roles[x.key] for x, b in zip(inputs[first:], body.inputs[first:], strict=True) if x.key in roles}
    if not own:
        return None
    sites = sites_of(body, own, {x.key for x in body.inputs[:first]})
    hidden = {s.weight for s in sites if s.form == "none"}
    sites = [s for s in sites if not {s.weight, s.bias} & hidden]
    if not sites:
        return None
    ends, starts = {s.z.node: s for s in sites}, {s.node: s for s in sites}
    taps = {s: placeholder(s.z.spec) for s in sites}
    extra: list[Tensor] = []
    incoming: dict[Site, Tensor] = {}

    def inside(n: Node, xs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if n in starts and starts[n].t is not None:
            incoming[starts[n]] = xs[place_of(cast(Tensor, starts[n].t), n.inputs)]
        if n not in ends:
            return None
        site = ends[n]
        made = apply(n.primitive, xs, n.parameters)
        outputs = made if n.primitive.several else (made,)
        z = add(outputs[0], taps[site])
        extra.extend([z, incoming.get(site, z)])
        return (z, *outputs[1:])

    changed = replaced(body, inside, bodies=lambda inner_body: inner_body)
    steps = inputs[carries].shape[0]
    specs = [TensorSpec((steps, *taps[s].shape), taps[s].dtype) for s in sites]
    zeros = [Tensor(spec, np.zeros(spec.shape, spec.dtype), constant=True) for spec in specs]
    given = (*body.inputs[:first], *taps.values(), *body.inputs[first:])
    opened_body = Graph(given, (*changed.outputs, *extra))
    xs = [*inputs[carries:first], *zeros]
    outputs = apply_scan(opened_body, inputs[:carries], xs, inputs[first:], node.parameters["reverse"])
    for i, (site, zero) in enumerate(zip(ends.values(), zeros, strict=True)):
        site.stacked_z, site.stacked_t, site.tap = outputs[shown + 2 * i], outputs[shown + 2 * i + 1], zero
        inner.append(site)
    return (*outputs[:shown], *[None] * (len(node.specs) - shown))
