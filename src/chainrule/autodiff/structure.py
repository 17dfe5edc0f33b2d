"""Nested dicts, lists and tuples of arrays as one flat list of tensors, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import DTypeError
from chainrule.graph import Tensor, as_array
from chainrule.ops import identity
from chainrule.spec import TensorSpec


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

    An eager Tensor or array gives a leaf of its own, linked to ``x`` when ``x`` itself is being differentiated.
    """
    if isinstance(x, Tensor) and (x.array is None or x.requires_grad):
        made = identity(x)
    else:
        array = x.value(what) if isinstance(x, Tensor) else as_array(x)
        if array.dtype.kind in "iu" and isinstance(x, (int, list)):
            array = array.astype(np.float32)
        made = Tensor(TensorSpec(array.shape, array.dtype), array)
        made.requires_grad = True
    if not made.spec.floating:
        raise DTypeError(f"{what}: cannot differentiate by a {made.spec}: convert it to float first")
    return made
