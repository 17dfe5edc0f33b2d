"""Nested dicts, lists and tuples of arrays as one flat list of tensors, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import DTypeError
from chainrule.graph import Node, Tensor, constant, context
from chainrule.ops import as_tensor, cast, identity
from chainrule.spec import FLOAT32, TensorSpec


def leaves(tree: Any) -> list[Any]:
    """The entries of a nested structure, depth first; dicts in their own order."""
    found: list[Any] = []
    rebuilt(tree, found.append)
    return found


def rebuilt(tree: Any, make: Callable[[Any], Any]) -> Any:
    """The same structure with ``make(leaf)`` in place of each leaf."""
    if isinstance(tree, dict):
        return {k: rebuilt(v, make) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)) and not _numbers(tree):
        entries = [rebuilt(v, make) for v in tree]
        return type(tree)(*entries) if hasattr(tree, "_fields") else type(tree)(entries)
    return make(tree)


def _numbers(tree: Any) -> bool:
    """Whether a list or tuple is an array written as numbers rather than a structure."""
    return bool(tree) and all(isinstance(v, (int, float)) or (isinstance(v, list) and _numbers(v)) for v in tree)


def source(x: Any, what: str) -> Tensor:
    """A floating-point tensor to differentiate by: a fresh value equal to ``x``.

    An eager Tensor or array gives a leaf of its own, linked to ``x`` when ``x`` itself is being differentiated. Inside
    a trace it is a traced value, whatever ``x`` is.
    """
    given = x if isinstance(x, Tensor) else _as_floats(x)
    if not given.spec.floating:
        raise DTypeError(f"{what}: cannot differentiate by a {given.spec}: convert it to float first")
    if context.trace is not None:
        return traced_identity(given)
    return identity(given) if given.array is None or given.requires_grad else leaf(given.array)


def _as_floats(x: Any) -> Tensor:
    found = as_tensor(x)
    return cast(found, FLOAT32) if found.dtype.kind in "iu" and isinstance(x, (int, list)) else found


def leaf(array: np.ndarray) -> Tensor:
    """An eager value to differentiate by."""
    made = Tensor(TensorSpec(array.shape, array.dtype), array)
    made.requires_grad = True
    return made


def traced_identity(x: Tensor) -> Tensor:
    """A traced value equal to ``x``, though ``x`` may be a constant: what is computed from it stays symbolic."""
    same = identity(x)
    if same.array is None:
        return same
    return Node(identity, (constant(same),), {}, (same.spec,)).output(0)
