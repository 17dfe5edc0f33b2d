"""Gradient check: what a function's pullbacks say against what numbers say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.autodiff.gradients import vjp
from chainrule.autodiff.structure import leaves, rebuilt
from chainrule.errors import ArgumentError
from chainrule.graph import Draw, Primitive, Tensor, apply, as_array, constant, holding
from chainrule.ops import as_tensor
from chainrule.spec import FLOAT64

STEP = 1e-3
"""Relative step of the differences; two of them, extrapolated, leave an error of its fourth power."""


@dataclass(frozen=True)
class GradientCheck:
    """The result of ``check_gradients``: true if every entry agreed."""

    ok: bool
    entries: int
    """How many derivatives were compared."""
    largest_error: float
    """The largest difference, relative to the largest derivative by the same argument."""
    where: str
    """The worst entry, in words."""

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        verdict = "agree" if self.ok else "DIFFER"
        return f"{self.entries} derivatives {verdict}; largest relative error {self.largest_error:.1e}, {self.where}"


def check_gradients(
    function: Callable[..., Any], *args: Any, atol: float = 1e-8, rtol: float = 1e-6, seed: int = 0
) -> GradientCheck:
    """Compare the pullbacks of ``function`` at ``args`` with central differences, in float64.

    function: of tensors, to a Tensor; or a primitive, which without ``args`` is checked at a point of its own domain.
    Every entry of every floating argument is moved; the output is weighted at random (by ``seed``), so that one sum
    checks all of it.
    """
    if isinstance(function, Primitive) and not args:
        if function.draw is None:
            raise ArgumentError(f"{function.name} declares no domain to draw from: pass arguments to check it at")
        arrays, parameters = function.draw(Draw(seed, empty=False))
        args, primitive = tuple(map(np.asarray, arrays)), function
        return check_gradients(lambda *xs: _apply(primitive, xs, parameters), *args, atol=atol, rtol=rtol, seed=seed)
    wide = tuple(rebuilt(a, _widened) for a in args)
    flat = leaves(list(wide))
    moving = [i for i, a in enumerate(flat) if a.dtype.kind == "f"]

    def run(*floats: Any) -> Any:
        given = dict(zip(moving, floats, strict=True))
        filled = iter([given.get(i, a) for i, a in enumerate(flat)])
        return leaves(function(*(rebuilt(a, lambda _: next(filled)) for a in wide)))

    floats = [flat[i] for i in moving]
    outputs, pull = vjp(lambda *xs: [y for y in run(*xs) if y.spec.floating], *floats)
    random = np.random.default_rng(seed)
    weights = [random.uniform(0.5, 1.5, y.shape) for y in outputs]
    pulled = pull(list(weights))
    found = [g.value("the check") for g in (pulled if len(floats) > 1 else (pulled,))]

    def value(*xs: np.ndarray) -> float:
        with holding(recording=False):
            ys = [y.value("the check") for y in run(*map(constant, xs)) if y.spec.floating]
        return float(sum((w * y).sum() for w, y in zip(weights, ys, strict=True)))

    return _compared(value, floats, found, atol, rtol)


def _apply(primitive: Primitive, xs: tuple, parameters: dict) -> Any:
    return apply(primitive, tuple(map(as_tensor, xs)), parameters)


def _widened(x: Any) -> np.ndarray:
    array = x.value("check_gradients()") if isinstance(x, Tensor) else as_array(x)
    return np.array(array, FLOAT64 if array.dtype.kind == "f" else array.dtype)


def _compared(
    value: Callable[..., float], floats: list[np.ndarray], found: list[np.ndarray], atol: float, rtol: float
) -> GradientCheck:
    worst, where, entries, ok = 0.0, "none to compare", 0, True
    for k, (x, rule) in enumerate(zip(floats, found, strict=True)):
        numeric = np.zeros(x.shape)
        for index in np.ndindex(*x.shape):
            numeric[index] = _difference(value, floats, k, index)
        largest = max(float(np.abs(numeric).max(initial=0)), float(np.abs(rule).max(initial=0)))
        errors = np.abs(numeric - rule)
        ok = ok and bool(np.all(errors <= atol + rtol * largest)) and bool(np.isfinite(errors).all())
        entries += x.size
        if x.size and (relative := float(np.nan_to_num(errors.max(), nan=np.inf)) / max(largest, atol)) >= worst:
            index = tuple(int(i) for i in np.unravel_index(int(np.nan_to_num(errors, nan=np.inf).argmax()), x.shape))
            worst = relative
            where = (
                f"at argument {k}{list(index)}: the rule gives {rule[index]:.10g}, numbers give {numeric[index]:.10g}"
            )
    return GradientCheck(ok, entries, worst, where)


def _difference(value: Callable[..., float], floats: list[np.ndarray], k: int, index: tuple) -> float:
    """d value / d floats[k][index], from two central differences (Richardson)."""
    h = STEP * max(1e-3, min(1.0, abs(float(floats[k][index]))))

    def at(step: float) -> float:
        moved = floats[k].copy()
        moved[index] += step
        return value(*floats[:k], moved, *floats[k + 1 :])

    wide, near = (at(h) - at(-h)) / (2 * h), (at(h / 2) - at(-h / 2)) / h
    return (4 * near - wide) / 3
