"""The functional doors: grad, value_and_grad, vjp, jvp, jacobian, hessian and Hessian-vector products.

Each takes a function of tensors, arrays, or nested dicts, lists and tuples of them. They compose: grad(grad(f)) is the
second derivative, and all of them work inside a traced function.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from chainrule.autodiff.structure import leaves, rebuilt, source
from chainrule.errors import ArgumentError, DTypeError, ShapeError, UnreachableWarning
from chainrule.graph import Tensor, holding, nodes_between, ones_cotangent, reason, zeros_like
from chainrule.graph import vjp as pull_through
from chainrule.ops import as_tensor, reshape, stack

Function = Callable[..., Any]


def _sources(args: tuple, argnums: tuple[int, ...], name: str) -> tuple[list[Any], list[Tensor]]:
    """The arguments with fresh leaves at ``argnums``, and those leaves."""
    inputs, found = list(args), []
    for k in argnums:
        if not -len(args) <= k < len(args):
            raise ArgumentError(f"{name}: argnums {k} is out of range for {len(args)} arguments")
        inputs[k] = rebuilt(args[k], lambda x: source(x, name))
        found.extend(leaves(inputs[k]))
    return inputs, found


def _finished(x: Tensor, live: bool) -> Tensor:
    """The result with its history only where somebody outside may differentiate it."""
    return x if live or x.array is None else Tensor(x.spec, x.array)


def _cotangents(given: Iterable[Any], ys: list[Tensor]) -> list[Tensor]:
    """What stands in ``given``, one structure after another, as a tensor for each of ``ys``, numbers in its dtype."""
    values = [v for structure in given for v in leaves(structure)]
    if len(values) != len(ys):
        raise ShapeError(f"{len(ys)} values need as many cotangents or tangents, got {len(values)}")
    found = [v if isinstance(v, Tensor) else as_tensor(v, y.dtype) for v, y in zip(values, ys, strict=True)]
    for v, y in zip(found, ys, strict=True):
        if v.shape != y.shape:
            raise ShapeError(f"a cotangent or tangent of a {y.spec} must have its shape, got {v.spec}")
    return found


def _outlives(outputs: list[Tensor], own: list[Tensor]) -> bool:
    """Whether ``outputs`` depend on something other than ``own`` that somebody outside differentiates by."""
    first = min((x.serial for x in own), default=math.inf)  # later leaves belong to derivatives taken inside
    read = [x for node in nodes_between(own, outputs) for x in node.inputs]
    return any(x.node is None and x.requires_grad and x.serial < first for x in [*outputs, *read])


def _live(args: tuple) -> bool:
    return any(isinstance(x, Tensor) and (x.array is None or x.requires_grad) for x in leaves(list(args)))


def _numbered(argnums: int | tuple[int, ...]) -> tuple[int, ...]:
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)


def value_and_grad(function: Function, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Function:
    """A function giving (f(*args), its gradient by the arguments ``argnums``), the gradient in their structure.

    ``function`` must return a scalar; with ``has_aux`` a pair (scalar, anything). An argument that the scalar does not
    depend on gets zeros and an UnreachableWarning with the reason.
    """

    @functools.wraps(function)
    def both(*args: Any, **keywords: Any) -> Any:
        chosen = _numbered(argnums)
        live = _live(args)
        with holding(recording=True):
            inputs, wrt = _sources(args, chosen, "grad")
            returned = function(*inputs, **keywords)
            value = returned[0] if has_aux else returned
            if not isinstance(value, Tensor):
                raise DTypeError(f"grad: the function must return a Tensor, got {type(value).__name__}: "
                                 "build the result with chainrule's operations")  # fmt: skip
            live = live or _outlives([value], wrt)
            pulled = _reached([value], [ones_cotangent(value)], wrt)
        found = iter([_finished(g, live) for g in pulled])
        by_argument = tuple(rebuilt(inputs[k], lambda _: next(found)) for k in chosen)
        gradient = by_argument[0] if isinstance(argnums, int) else by_argument
        value = _finished(value, live)
        if not has_aux:
            return value, gradient
        return (value, rebuilt(returned[1], lambda x: _finished(x, live) if isinstance(x, Tensor) else x)), gradient

    return both


def _reached(outputs: list[Tensor], cotangents: list[Tensor], wrt: list[Tensor]) -> list[Tensor]:
    """Cotangents of ``wrt``; zeros, with the reason, where nothing reaches."""
    found = []
    for i, (x, dx) in enumerate(zip(wrt, pull_through(outputs, cotangents, wrt), strict=True)):
        if dx is None:
            name = x.name or f"argument {i}"
            warnings.warn(f"the gradient by {name} is zero: {reason(outputs, x)}", UnreachableWarning, stacklevel=4)
            dx = zeros_like(x)
        found.append(dx)
    return found


def grad(function: Function, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Function:
    """The gradient of a scalar function, as a function of the same arguments (see ``value_and_grad``)."""

    @functools.wraps(function)
    def gradient(*args: Any, **keywords: Any) -> Any:
        value, found = value_and_grad(function, argnums, has_aux)(*args, **keywords)
        return (found, value[1]) if has_aux else found

    return gradient


def vjp(function: Function, *primals: Any) -> tuple[Any, Function]:
    """(f(*primals), pull): ``pull(cotangent)`` carries a cotangent of the output back to every primal."""
    live = _live(primals)
    with holding(recording=True):
        inputs, wrt = _sources(primals, tuple(range(len(primals))), "vjp")
        outputs = function(*inputs)
    ys = leaves(outputs)
    live = live or _outlives(ys, wrt)

    def pull(cotangent: Any) -> Any:
        dys = _cotangents([cotangent], ys)
        with holding(recording=True):
            found = iter([_finished(g, live or _live(tuple(dys))) for g in _reached(ys, dys, wrt)])
        pulled = tuple(rebuilt(x, lambda _: next(found)) for x in inputs)
        return pulled if len(pulled) > 1 else pulled[0]

    return rebuilt(outputs, lambda y: _finished(y, live)), pull


def jvp(function: Function, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    """(f(*primals), its derivative in the direction of ``tangents``).

    Two pullbacks: u -> Jᵀu is linear in u, so its own pullback at any u is v -> Jv. No forward rules are needed.
    """
    live = _live(primals) or _live(tangents)
    with holding(recording=True):
        inputs, wrt = _sources(primals, tuple(range(len(primals))), "jvp")
        outputs = function(*inputs)
        ys = leaves(outputs)
        live = live or _outlives(ys, wrt)
        us = [source(np.zeros(y.shape, y.dtype), "jvp") for y in ys]
        vs = _cotangents(tangents, wrt)
        pulled = [(g, v) for g, v in zip(pull_through(ys, us, wrt), vs, strict=True) if g is not None]
        pushed = pull_through([g for g, _ in pulled], [v for _, v in pulled], us)
        found = iter([_finished(zeros_like(y) if t is None else t, live) for y, t in zip(ys, pushed, strict=True)])
    return rebuilt(outputs, lambda y: _finished(y, live)), rebuilt(outputs, lambda _: next(found))


def jacobian(function: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """d f / d argument: an array [*shape of f, *shape of the argument], row by row from pullbacks."""

    def found(*args: Any, **keywords: Any) -> Any:
        chosen, live = _numbered(argnums), _live(args)
        with holding(recording=True):
            inputs, wrt = _sources(args, chosen, "jacobian")
            y = function(*inputs, **keywords)
            if not isinstance(y, Tensor):
                raise DTypeError(f"jacobian: the function must return one Tensor, got {type(y).__name__}")
            live = live or _outlives([y], wrt)
            rows = []
            for i in range(y.size):
                unit = np.zeros(y.size, y.dtype)
                unit[i] = 1
                rows.append(pull_through([y], [as_tensor(unit.reshape(y.shape))], wrt))
            blocks = []
            for k, x in enumerate(wrt):
                reached = [zeros_like(x) if row[k] is None else row[k] for row in rows]
                flat = stack(reached) if reached else as_tensor(np.zeros((0, *x.shape), x.dtype))
                blocks.append(_finished(reshape(flat, (*y.shape, *x.shape)), live))
        each = iter(blocks)
        by_argument = tuple(rebuilt(inputs[k], lambda _: next(each)) for k in chosen)
        return by_argument[0] if isinstance(argnums, int) else by_argument

    return found


def hessian(function: Function, argnum: int = 0) -> Function:
    """Second derivatives of a scalar function by one argument: [*shape, *shape]; the Jacobian of its gradient."""

    def gradient(*args: Any, **keywords: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnreachableWarning)
            return grad(function, argnum)(*args, **keywords)

    return jacobian(gradient, argnum)


def hvp(function: Function, primals: tuple, vectors: tuple) -> Any:
    """The Hessian of a scalar function of all ``primals``, times ``vectors``, in their structure.

    The gradient of <grad f, v>: two passes whatever the size (Pearlmutter 1994).
    """
    live = _live(primals) or _live(vectors)
    with holding(recording=True):
        inputs, wrt = _sources(primals, tuple(range(len(primals))), "hvp")
        value = function(*inputs)
        live = live or _outlives([value], wrt)
        vs = _cotangents(vectors, wrt)
        gradients = pull_through([value], [ones_cotangent(value)], wrt)
        known = [(g, v) for g, v in zip(gradients, vs, strict=True) if g is not None]
        pulled = pull_through([g for g, _ in known], [v for _, v in known], wrt)
    found = iter([_finished(zeros_like(x) if h is None else h, live) for x, h in zip(wrt, pulled, strict=True)])
    products = tuple(rebuilt(x, lambda _: next(found)) for x in inputs)
    return products if len(products) > 1 else products[0]
