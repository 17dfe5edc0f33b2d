"""Remedies that change the rows: inputs and targets, with the statistics of the training part alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

import chainrule.nn as nn
from chainrule.doctor.treat.change import Change, NotApplicable, same
from chainrule.doctor.treat.network import first_linear_without, layers_of, with_network
from chainrule.doctor.treat.plan import Plan, copy_of
from chainrule.doctor.trial.facts import RANGES

Treated = tuple[Plan, Change]

TINY = 1e-12


def _floating(plan: Plan) -> None:
    if plan.x.dtype.kind != "f" and plan.x.dtype != np.uint8:
        raise NotApplicable(f"the inputs are {plan.x.dtype} indices, whose size means nothing")


def _with_inputs(plan: Plan, change: Callable[[np.ndarray], np.ndarray]) -> Plan:
    def made(x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(change(x.astype(np.float64)).astype(plan.net.dtype))

    held = None if plan.held is None else (made(plan.held[0]), plan.held[1])
    return replace(plan, x=made(plan.x), held=held)


def standardise_inputs(plan: Plan, per: str = "column") -> Treated:
    """(x - mean) / deviation of each column (of each channel of images), by the training part."""
    _floating(plan)
    axes = (0,) if plan.x.ndim <= 2 else (0, *range(2, plan.x.ndim))
    values = plan.x.astype(np.float64)
    mean, std = values.mean(axis=axes, keepdims=True), values.std(axis=axes, keepdims=True)
    std = np.where(std > TINY * np.maximum(1.0, np.abs(mean)), std, 1.0)  # a constant column becomes 0
    shown = "0" if len(axes) == 1 else str(axes)
    change = same(
        ("", f"mean, std = x.mean(axis={shown}, keepdims=True), x.std(axis={shown}, keepdims=True)"),
        ("", "x = (x - mean) / np.where(std > 0, std, 1)"), where="of the training rows; new rows alike",
    )  # fmt: skip
    torch = (
        ("", f"mean, std = x.mean({shown}, keepdim=True), x.std({shown}, keepdim=True)"),
        ("", "x = (x - mean) / torch.where(std > 0, std, 1)"),
    )
    return _with_inputs(plan, lambda x: (x - mean) / std), replace(change, pytorch=torch)


def whiten_inputs(plan: Plan) -> Treated:
    """Rotate the inputs to their principal components, each with deviation 1; directions without variance go to 0."""
    _floating(plan)
    if plan.x.ndim != 2:
        raise NotApplicable("only rows of columns can be rotated")
    if not np.isfinite(plan.x).all():
        raise NotApplicable("the inputs hold NaN or infinity, which have no components")
    mean = plan.x.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(
        np.cov(plan.x.astype(np.float64) - mean, rowvar=False).reshape(plan.x.shape[1], -1)
    )
    kept = values > 1e-9 * values[-1]
    turn = vectors * np.where(kept, 1 / np.sqrt(np.where(kept, values, 1.0)), 0.0)
    change = same(("", "values, vectors = np.linalg.eigh(np.cov(x, rowvar=False))"),
                  ("", "x = (x - x.mean(0)) @ (vectors / np.sqrt(np.maximum(values, 1e-9 * values[-1])))"))  # fmt: skip
    return _with_inputs(plan, lambda x: (x - mean) @ turn), change


def drop_columns(plan: Plan, which: str = "constant") -> Treated:
    """Leave out columns that never vary, or the second of two that are equal."""
    if plan.x.ndim != 2 or plan.x.dtype.kind != "f":
        raise NotApplicable("the inputs are not rows of numbers by column")
    columns = [np.ascontiguousarray(column).tobytes() for column in plan.x.T]
    constant = np.flatnonzero(plan.x.max(axis=0) == plan.x.min(axis=0))
    gone = set(constant.tolist()) if which == "constant" else {i for i, c in enumerate(columns) if c in columns[:i]}
    kept = [i for i in range(plan.x.shape[1]) if i not in gone]
    if not gone or not kept:
        raise NotApplicable(f"no column is {which}" if not gone else "every column is constant")
    net, line = first_linear_without(copy_of(plan.net), kept)
    listed = ", ".join(map(str, sorted(gone)[:8])) + (", ..." if len(gone) > 8 else "")
    made = _with_inputs(with_network(plan, net), lambda x: x[:, kept])
    return made, same(("", f"x = np.delete(x, [{listed}], axis=1)"), line)


def clean_rows(plan: Plan, missing: str = "mean") -> Treated:
    """Only the rows in which every number is finite."""
    if plan.x.dtype.kind != "f":
        raise NotApplicable("the inputs are whole numbers, which are always finite")
    good = np.isfinite(plan.x.reshape(len(plan.x), -1)).all(axis=1)
    if good.all() or not good.any():
        raise NotApplicable("every row is finite" if good.all() else "no row is finite")
    return replace(plan, x=plan.x[good], y=plan.y[good]), same(
        ("", "good = np.isfinite(x).all(axis=1)"), ("", "x, y = x[good], y[good]")
    )


def _with_targets(plan: Plan, mean: np.ndarray, std: np.ndarray) -> Plan:
    if plan.truth.kind != "numbers" or plan.y.dtype.kind != "f":
        raise NotApplicable("the targets are classes, which have no scale")
    if plan.scale is not None:
        raise NotApplicable("the targets are scaled already")

    def made(y: np.ndarray) -> np.ndarray:
        return ((y - mean) / std).astype(plan.net.dtype)

    held = None if plan.held is None else (plan.held[0], made(plan.held[1]))
    told = (plan.y, plan.y if plan.held is None else plan.held[1])
    return replace(plan, y=made(plan.y), held=held, told=told, scale=(mean, std))


def standardise_targets(plan: Plan) -> Treated:
    """(y - mean) / deviation of each column, by the training part; predictions are turned back."""
    y = plan.y.astype(np.float64)
    mean, std = y.mean(axis=0), y.std(axis=0)
    made = _with_targets(plan, mean, np.where(std > 0, std, 1.0))
    return made, same(("", "y_mean, y_std = y.mean(axis=0), y.std(axis=0)"), ("", "y = (y - y_mean) / y_std"),
                      ("net(x)", "net(x) * y_std + y_mean"), where="predictions are turned back")  # fmt: skip


def scale_targets(plan: Plan) -> Treated:
    """Into the middle nine tenths of what the last activation reaches."""
    last = layers_of(plan.net)[-1]
    reach = RANGES.get({"Sigmoid": "sigmoid", "Softmax": "softmax", "Tanh": "tanh", "ReLU": "relu",
                        "Hardsigmoid": "hardsigmoid", "Hardtanh": "hardtanh", "Softplus": "softplus",
                        "Softsign": "softsign"}.get(type(last).__name__, ""))  # fmt: skip
    if reach is None or type(last) is nn.Softmax:
        raise NotApplicable("the last activation does not say into which range to scale")
    low, high = reach[0], reach[1] if np.isfinite(reach[1]) else reach[0] + 1.0
    y = plan.y.astype(np.float64)
    least, span = y.min(axis=0), np.maximum(y.max(axis=0) - y.min(axis=0), TINY)
    std = span / (0.9 * (high - low))
    mean = least - (low + 0.05 * (high - low)) * std
    made = _with_targets(plan, mean, std)
    inner = f"{low + 0.05 * (high - low):g} + {0.9 * (high - low):g} * (y - y.min(0)) / (y.max(0) - y.min(0))"
    return made, same(("", f"y = {inner}"), where="predictions are turned back")


def reshape_targets(plan: Plan, shape: str = "prediction") -> Treated:
    """Targets [rows, 1] for predictions [rows, 1]."""
    if plan.y.ndim != 1 or plan.truth.kind == "classes":
        raise NotApplicable("the targets have the predictions' shape already")
    held = None if plan.held is None else (plan.held[0], plan.held[1].reshape(-1, 1))
    return replace(plan, y=plan.y.reshape(-1, 1), held=held), same(("", "y = y.reshape(-1, 1)"))
