"""Remedies that change the network: activations, first weights, normalisation, residual links, widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import chainrule.nn as nn
from chainrule.doctor.treat.change import Change, NotApplicable, same
from chainrule.doctor.treat.plan import Plan, copy_of, with_network
from chainrule.nn.activations import Activation
from chainrule.nn.containers import unnested
from chainrule.nn.initialisers import Initialiser
from chainrule.nn.module import Module, State

Treated = tuple[Plan, Change]

NORMAL: dict[str, Callable[[], Initialiser]] = {
    "kaiming_normal": lambda: nn.Kaiming(distribution="normal"),
    "kaiming_uniform": nn.Kaiming,
    "xavier_normal": lambda: nn.Xavier(distribution="normal"),
    "xavier_uniform": nn.Xavier,
}


def call(layer: Module) -> str:
    """The layer in the words of the code that makes it: "nn.Linear(64, 32)"."""
    options = {k: v for k, v in layer.options().items() if not (k == "bias" and v is True)}
    if isinstance(layer, nn.Linear):
        bias = "" if layer.bias is not None else ", bias=False"
        return f"nn.Linear({layer.in_features}, {layer.out_features}{bias})"
    if isinstance(layer, (nn.BatchNorm1d, nn.LayerNorm)):
        size = layer.num_features if isinstance(layer, nn.BatchNorm1d) else layer.normalized_shape[-1]
        return f"nn.{type(layer).__name__}({size})"
    return f"nn.{type(layer).__name__}({', '.join(f'{k}={v}' for k, v in options.items())})"


def layers_of(net: Module) -> list[Module]:
    """Layers of a Sequential in the order in which they run; NotApplicable for a network of another class."""
    if type(net) is not nn.Sequential:
        raise NotApplicable(f"the network is a {type(net).__name__} of your own, whose layers only you can move")
    return [layer for _, layer in unnested(net)]


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(repr(n) for n in names[:4])
    return f"layer {shown}" if len(names) == 1 else f"layers {shown}{', …' if len(names) > 4 else ''}"


def change_activation(plan: Plan, activation: str = "ReLU") -> Treated:
    """Another function in every hidden layer; the last layer's own is left."""
    net = copy_of(plan.net)
    kind: Any = getattr(nn, activation)
    places = [
        (name, parent, key, child)
        for name, parent in net.named_modules()
        for key, child in list(parent._modules.items())
        if isinstance(child, (Activation, nn.PReLU)) and type(child) not in (nn.Softmax, nn.LogSoftmax, kind)
    ]
    last = list(net.modules())[-1]
    places = [place for place in places if place[3] is not last]
    if not places:
        raise NotApplicable(f"no hidden layer has another activation than nn.{activation} as a module")
    old = sorted({call(child) for *_, child in places})
    for _, parent, key, _ in places:
        setattr(parent, key, kind())
    named = [f"{name}.{key}".lstrip(".") for name, _, key, _ in places]
    pairs = tuple((line, f"nn.{activation}()") for line in old)
    return with_network(plan, net), same(*pairs, where=_names(named))


def change_initialiser(plan: Plan, init: str = "auto") -> Treated:
    """Other first weights in every Linear and Conv2d, drawn from the streams that the layers have; biases 0."""
    net = copy_of(plan.net)
    found = [(n, m) for n, m in net.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    if not found:
        raise NotApplicable("the network has no Linear or Conv2d layers whose first weights could be chosen")
    made = None if init == "auto" else NORMAL[init]()
    if plan.drawn and all(m.init == ("auto" if made is None else made) for _, m in found):
        raise NotApplicable("first weights are drawn so already")
    for _, layer in found:
        layer.init = "auto" if made is None else made
        layer.weight.initialiser = nn.Xavier() if made is None else made
        layer.weight.kept = False
        if layer.bias is not None:
            layer.bias.initialiser, layer.bias.kept = nn.Zeros(), False
    words = '"auto"' if made is None else f'nn.{type(made).__name__}(distribution="normal")'
    function = "xavier_normal_" if init.startswith("xavier") else "kaiming_normal_"
    lines = (("", f"nn.Linear(..., init={words})"),)
    torch = (("", f"for m in model.modules():\n+     if isinstance(m, nn.Linear): nn.init.{function}(m.weight); "
                  "nn.init.zeros_(m.bias)"),)  # fmt: skip
    return with_network(plan, net), Change(lines, torch, _names([n for n, _ in found]))


def _rebuilt(net: Module, rule: Callable[[list[Module]], list[Module]]) -> Module:
    """A Sequential of what `rule` makes of its layers, nested ones in their place."""
    return nn.Sequential(*rule(layers_of(net))).train()


def insert_normalisation(plan: Plan, at: str = "hidden") -> Treated:
    """BatchNorm1d behind each hidden Linear, or in front of the first layer."""
    net = copy_of(plan.net)
    layers = layers_of(net)
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    places: list[tuple[Module, int]] = [(layer, layer.out_features) for layer in linear[:-1]]
    if at == "input":
        places = [(layer, layer.in_features) for layer in linear[:1] if layer is layers[0]]
    after = {id(layer): width for layer, width in places}
    if any(isinstance(layer, (nn.BatchNorm1d, nn.LayerNorm)) for layer in layers) or not places or plan.x.ndim != 2:
        raise NotApplicable(f"there is no place for a normalisation layer at {at!r}, or there is one already")

    def rule(found: list[Module]) -> list[Module]:
        made: list[Module] = []
        for layer in found:
            extra = [nn.BatchNorm1d(after[id(layer)]).to(plan.net.dtype)] if id(layer) in after else []
            made += [*extra, layer] if at == "input" else [layer, *extra]
        return made

    made = with_network(plan, _rebuilt(net, rule))
    line = sorted({f"nn.BatchNorm1d({width})" for width in after.values()})
    where = "in front of the first layer" if at == "input" else "behind each hidden Linear"
    return _whole_batches(made), same(*(("", text) for text in line), where=where)


def _whole_batches(plan: Plan) -> Plan:
    """Without a last batch of one row, which has no variance."""
    from dataclasses import replace

    return replace(plan, drop_last=True) if len(plan.x) % plan.batch_size == 1 and plan.batch_size > 1 else plan


def replace_normalisation(plan: Plan, layer: str = "LayerNorm") -> Treated:
    """LayerNorm in place of every BatchNorm1d: it needs no other row."""
    net = copy_of(plan.net)
    places = [(n, p, k, c) for n, p in net.named_modules() for k, c in list(p._modules.items())
              if isinstance(c, nn.BatchNorm1d)]  # fmt: skip
    if not places:
        raise NotApplicable("the network has no BatchNorm1d")
    for _, parent, key, child in places:
        setattr(parent, key, nn.LayerNorm(child.num_features).to(plan.net.dtype))
    pairs = sorted({(call(c), f"nn.{layer}({c.num_features})") for *_, c in places})
    return with_network(plan, net), same(*pairs, where=_names([f"{n}.{k}".lstrip(".") for n, _, k, _ in places]))


def residual(plan: Plan) -> Treated:
    """A link around each hidden Linear that is as wide as its input, with what follows it up to its activation."""
    net = copy_of(plan.net)
    count = 0

    def rule(found: list[Module]) -> list[Module]:
        nonlocal count
        made: list[Module] = []
        i = 0
        while i < len(found):
            layer, end = found[i], i + 1
            while end < len(found) and isinstance(found[end], (nn.BatchNorm1d, nn.LayerNorm, nn.Dropout)):
                end += 1
            square = isinstance(layer, nn.Linear) and layer.in_features == layer.out_features
            if square and end + 1 < len(found) and isinstance(found[end], (Activation, nn.PReLU)):
                made.append(nn.Residual(*found[i : end + 1]))
                count, i = count + 1, end + 1
            else:
                made.append(layer)
                i += 1
        return made

    rebuilt = _rebuilt(net, rule)
    if not count:
        raise NotApplicable("no hidden layer has as many outputs as inputs, so nothing can be linked past it")
    change = Change(
        (("nn.Linear(n, n), f()", "nn.Residual(nn.Linear(n, n), f())"),),
        (("x = f(linear(x))", "x = x + f(linear(x))"),),
        f"{count} hidden layers",
    )  # fmt: skip
    return with_network(plan, rebuilt), change


def widen_layer(plan: Plan, factor: float = 4) -> Treated:
    """Hidden layers with `factor` times their units; each layer keeps its random stream."""
    net = copy_of(plan.net)
    layers = layers_of(net)
    linear = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    passing = (nn.Linear, nn.BatchNorm1d, nn.LayerNorm, nn.Dropout, nn.Identity, nn.PReLU, Activation)
    if len(linear) < 2 or not all(isinstance(layer, passing) for layer in layers):
        raise NotApplicable("only the hidden layers of a stack of Linear layers can be widened from here")
    pairs, made, wide = [], [], 1
    for i, layer in enumerate(layers):
        new: Module = layer
        if isinstance(layer, nn.Linear):
            before, wide = wide, 1 if i == linear[-1] else int(factor)
            new = nn.Linear(layer.in_features * before, layer.out_features * wide, layer.bias is not None, layer.init)
        elif wide > 1 and isinstance(layer, nn.BatchNorm1d):
            new = nn.BatchNorm1d(layer.num_features * wide)
        elif wide > 1 and isinstance(layer, nn.LayerNorm):
            new = nn.LayerNorm(layer.normalized_shape[-1] * wide)
        if new is not layer:
            _keep_streams(layer, new.to(plan.net.dtype))
            pairs.append((call(layer), call(new)))
        made.append(new)
    return with_network(plan, nn.Sequential(*made).train()), same(*dict.fromkeys(pairs))


def _keep_streams(old: Module, new: Module) -> None:
    for name, state in old._states.items():
        held: State = new._states[name]
        held.stream, held.requires_grad = state.stream, state.requires_grad


def unfreeze(plan: Plan, requires_grad: bool = True) -> Treated:
    """Train every parameter."""
    net = copy_of(plan.net)
    frozen = [n for n, p in net.named_parameters() if not p.requires_grad]
    if not frozen:
        raise NotApplicable("no parameter is frozen")
    net.requires_grad_(requires_grad)
    return with_network(plan, net), same(("", "net.requires_grad_(True)"), where=_names(frozen))


def with_outputs(net: Module, outputs: int) -> tuple[Module, tuple[str, str] | None]:
    """The Sequential with another number of outputs, and the line that changed; its last layer must be a Linear."""
    layers = layers_of(net)
    last = max((i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)), default=None)
    if last is None:
        raise NotApplicable("the network does not end in a Linear layer, so its outputs cannot be counted anew")
    old: Any = layers[last]
    if old.out_features == outputs:
        return net, None
    new = nn.Linear(old.in_features, outputs, old.bias is not None, old.init).to(net.dtype)
    _keep_streams(old, new)
    return nn.Sequential(*[new if i == last else layer for i, layer in enumerate(layers)]).train(), (
        call(old), call(new),
    )  # fmt: skip


def first_linear_without(net: Module, kept: list[int]) -> tuple[Module, tuple[str, str]]:
    """The Sequential whose first Linear takes only the columns `kept`."""
    layers = layers_of(net)
    old: Any = layers[0]
    if not isinstance(old, nn.Linear):
        raise NotApplicable("the network does not begin with a Linear layer, so no column can be left out")
    new = nn.Linear(len(kept), old.out_features, old.bias is not None, old.init).to(net.dtype)
    _keep_streams(old, new)
    return nn.Sequential(new, *layers[1:]).train(), (call(old), call(new))
