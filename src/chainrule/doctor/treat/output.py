"""Remedies that change the end of the network and the loss upon it: their pairing, and the number of outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import chainrule.nn as nn
from chainrule.doctor.treat.change import Change, NotApplicable, Pair
from chainrule.doctor.treat.network import Treated, call, layers_of, with_network, with_outputs
from chainrule.doctor.treat.plan import Plan, copy_of
from chainrule.nn.activations import Activation
from chainrule.nn.module import Module
from chainrule.ops import LOSSES

TORCH_LOSS = {
    "mse": "nn.MSELoss()", "mae": "nn.L1Loss()", "huber": "nn.HuberLoss()", "cross_entropy": "nn.CrossEntropyLoss()",
    "binary_cross_entropy": "nn.BCELoss()", "binary_cross_entropy_with_logits": "nn.BCEWithLogitsLoss()",
    "nll": "nn.NLLLoss()", "probability_cross_entropy": "nn.NLLLoss()",
}  # fmt: skip

ON_LOGITS = {
    "binary_cross_entropy": "binary_cross_entropy_with_logits",
    "nll": "cross_entropy",
    "probability_cross_entropy": "cross_entropy",
    "share_cross_entropy": "cross_entropy",
    "cross_entropy": "cross_entropy",
}

MOST_CLASSES = 100
"""Whole numbers from 0 on that may be classes."""


def without_activation(net: Module) -> tuple[Module, Pair | None]:
    """The Sequential without its last activations, and the line to delete."""
    layers = layers_of(net)
    end = len(layers)
    while end and isinstance(layers[end - 1], (Activation, nn.Identity)):
        end -= 1
    removed = [layer for layer in layers[end:] if isinstance(layer, Activation)]
    if not removed:
        return net, None
    return nn.Sequential(*layers[:end]).train(), (", ".join(call(layer) for layer in removed), "")


def change_output(plan: Plan, activation: str | None = None, loss: str | None = None, outputs: str = "") -> Treated:
    """Another last activation (None: none), another loss, as many outputs as classes."""
    net, lines = copy_of(plan.net), []
    if outputs == "classes":
        net, line = with_outputs(net, max(_classes(plan), 2))
        lines += [line] if line else []
    net, line = without_activation(net)
    lines += [line] if line else []
    if activation is not None:
        kind = {"sigmoid": nn.Sigmoid, "softmax": nn.Softmax}[_fitting(plan, activation)]
        net = nn.Sequential(*layers_of(net), kind()).train()
        lines.append(("", f"nn.{kind.__name__}()"))
    if outputs == "classes" and loss is None and plan.loss_name != "cross_entropy":
        loss = "cross_entropy"  # one output a class is what that loss takes
    if loss is None and activation is None and plan.loss_name == "binary_cross_entropy" and line is not None:
        # Probabilities are what that loss takes; numbers beyond them have a loss of their own.
        loss = "binary_cross_entropy_with_logits" if plan.y.min() >= 0 and plan.y.max() <= 1 else "mse"
    made = with_network(plan, net)
    if loss is not None:
        made = _with_loss(made, loss)
        made, line = _as_wide_as_targets(made)
        lines += [line] if line else []
    if not lines and made.loss_name == plan.loss_name:
        raise NotApplicable("the network has no last activation, and the loss is that one already")
    return made, _said(lines, plan.loss_name, made.loss_name)


def _fitting(plan: Plan, activation: str) -> str:
    """Of sigmoid and softmax the one that the number of outputs allows."""
    linear = [layer for layer in layers_of(plan.net) if isinstance(layer, nn.Linear)]
    several = bool(linear) and linear[-1].out_features > 1 and plan.truth.kind in ("classes", "probabilities")
    return "softmax" if several and activation == "sigmoid" else activation


def change_loss(plan: Plan, loss: str, outputs: str = "") -> Treated:
    """Another loss. "with_logits": that of the same meaning that takes raw outputs; a last activation then goes."""
    wanted = ON_LOGITS.get(plan.loss_name, "") if loss == "with_logits" else loss
    if not wanted:
        raise NotApplicable(f"the loss {plan.loss_name!r} has no form that takes logits")
    if wanted == "cross_entropy" and plan.truth.kind not in ("classes", "probabilities") and outputs != "classes":
        raise NotApplicable(f"'cross_entropy' takes classes, and the targets are {plan.truth.kind}")
    if wanted in ("mse", "mae", "huber") and plan.truth.kind == "classes":
        raise NotApplicable(f"{wanted!r} takes numbers, and the targets are indices of classes")
    net, lines = copy_of(plan.net), []
    if outputs == "classes":
        net, line = with_outputs(net, max(_classes(plan), 2))
        lines += [line] if line else []
    if wanted in ("cross_entropy", "binary_cross_entropy_with_logits"):
        net, line = without_activation(net)
        lines += [line] if line else []
    made, line = _as_wide_as_targets(_with_loss(with_network(plan, net), wanted))
    lines += [line] if line else []
    if not lines and made.loss_name == plan.loss_name:
        raise NotApplicable(f"the loss is {wanted!r} already")
    return made, _said(lines, plan.loss_name, made.loss_name)


def fix_pairing(plan: Plan) -> Treated:
    """Raw outputs, and the loss that belongs to the targets: classes, yes or no, or numbers."""
    kind = plan.truth.kind
    wanted = "cross_entropy" if kind in ("classes", "probabilities") else plan.loss_name
    if kind == "labels" or plan.loss_name == "binary_cross_entropy":
        wanted = "binary_cross_entropy_with_logits"
    return change_output(plan, None, wanted if wanted in LOSSES and wanted != plan.loss_name else None)


def _classes(plan: Plan) -> int:
    if plan.truth.classes:
        return plan.truth.classes
    y = plan.y
    if not plan.truth.integers or y.reshape(len(y), -1).shape[1] != 1 or float(y.min()) < 0:
        raise NotApplicable("the targets are no classes: they are not whole numbers from 0 on in one column")
    if y.max() >= MOST_CLASSES:
        raise NotApplicable(f"the targets go up to {y.max():g}: so many whole numbers are hardly classes")
    return int(y.max()) + 1


def _as_wide_as_targets(plan: Plan) -> tuple[Plan, Pair | None]:
    """For yes-or-no targets one output a target."""
    if not plan.loss_name.startswith("binary"):
        return plan, None
    net, line = with_outputs(plan.net, plan.y.reshape(len(plan.y), -1).shape[1])
    return with_network(plan, net), line


def _with_loss(plan: Plan, loss: str) -> Plan:
    function: Any = LOSSES[loss]

    def adapted(y: np.ndarray) -> np.ndarray:
        if loss == "cross_entropy":
            if y.ndim > 1 and y.shape[1] > 1:
                return y
            _classes(plan)
            return y.reshape(len(y)).astype(np.int64)
        wide = y.reshape(len(y), -1).astype(plan.net.dtype)
        if loss.startswith("binary") and (wide.min() < 0 or wide.max() > 1):
            raise NotApplicable("the targets are not between 0 and 1, so they are no answers of yes or no")
        return wide

    held = None if plan.held is None else (plan.held[0], adapted(plan.held[1]))
    return replace(plan, loss=function, loss_name=loss, y=adapted(plan.y), held=held)


def weight_classes(plan: Plan) -> Treated:
    """Cross-entropy in which every class weighs as much, however few its rows are."""
    if plan.loss_name != "cross_entropy" or plan.truth.kind != "classes":
        raise NotApplicable("only cross-entropy over classes can be weighted by class")
    counts = np.bincount(plan.y.reshape(-1), minlength=plan.truth.classes).astype(np.float64)
    weight = (counts.sum() / np.maximum(counts, 1) / len(counts)).astype(plan.net.dtype)
    made = replace(plan, loss=nn.CrossEntropyLoss(weight=weight))
    listed = ", ".join(f"{w:.3g}" for w in weight[:6]) + (", ..." if len(weight) > 6 else "")
    return made, Change(
        (('loss="cross_entropy"', f"loss=nn.CrossEntropyLoss(weight=[{listed}])"),),
        (("nn.CrossEntropyLoss()", f"nn.CrossEntropyLoss(weight=torch.tensor([{listed}]))"),),
    )


def _said(lines: list[Pair], before: str, after: str) -> Change:
    other = before != after
    own = ((f'loss="{before}"', f'loss="{after}"'),) if other else ()
    torch = ((TORCH_LOSS.get(before, before), TORCH_LOSS.get(after, after)),) if other else ()
    return Change((*lines, *own), (*lines, *torch))
