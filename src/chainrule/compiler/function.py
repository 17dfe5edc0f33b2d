"""cr.compile: a function of tensors, traced once for each shape, dtype and structure of its arguments."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.compiler.compile import Evaluated, compile_graph
from chainrule.errors import GraphError
from chainrule.graph import Graph, Tensor, as_array, context, shown, trace, user_line
from chainrule.spec import TensorSpec

log = logging.getLogger("chainrule.compile")


@dataclass(frozen=True)
class _Variant:
    """One trace of a function."""

    compiled: Evaluated
    captured: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]
    rebuild: Callable[[list[Tensor]], Any]


class CompiledFunction:
    """What ``compile`` gives: call it like the function; ``.graph`` shows what the last call ran."""

    def __init__(self, function: Callable[..., Any], backend: str) -> None:
        functools.update_wrapper(self, function)
        self.function, self.backend = function, backend
        self.variants: dict[Any, _Variant] = {}
        self.last: _Variant | None = None

    @property
    def graph(self) -> Graph:
        """The graph of the last call."""
        if self.last is None:
            raise GraphError(f"{self._name()} has not been called yet, so there is no graph: call it once")
        return self.last.compiled.graph

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        found: list[Any] = []
        key = _structure((args, keywords), found)
        if context.trace is not None or any(isinstance(x, Tensor) and x.requires_grad for x in found):
            return self.function(*args, **keywords)  # part of a larger graph: nothing to gain from a boundary
        arrays = [x.value("compile") if isinstance(x, Tensor) else as_array(x) for x in found]
        specs = tuple(TensorSpec(a.shape, a.dtype) for a in arrays)
        variant = self.variants.get((key, specs))
        if variant is None:
            variant = self.variants[(key, specs)] = self._traced(args, keywords, key, specs)
        self.last = variant
        results = variant.compiled(*arrays, *(x.value("compile") for x in variant.captured))
        outputs = len(results) - len(variant.targets)
        for target, value in zip(variant.targets, results[outputs:], strict=True):
            target.value("compile")[...] = value
        return variant.rebuild([Tensor(TensorSpec(a.shape, a.dtype), a) for a in results[:outputs]])

    def _traced(self, args: tuple, keywords: dict, key: Any, specs: tuple[TensorSpec, ...]) -> _Variant:
        if self.variants:
            seen = ", ".join(map(str, next(reversed(self.variants))[1]))
            log.info("%s traced again at %s: arguments were (%s), now (%s)",
                     self._name(), shown(user_line()), seen, ", ".join(map(str, specs)))  # fmt: skip
        returned: list[Any] = []

        def flat(*placeholders: Tensor) -> list[Tensor]:
            each = iter(placeholders)
            new_args, new_keywords = _filled((args, keywords), lambda _: next(each))
            returned.append(self.function(*new_args, **new_keywords))
            outputs: list[Any] = []
            _structure(returned[0], outputs)
            return outputs

        traced = trace(flat, *specs)

        def rebuild(tensors: list[Tensor]) -> Any:
            each = iter(tensors)
            return _filled(returned[0], lambda _: next(each))

        return _Variant(compile_graph(traced.graph, self.backend), traced.captured, traced.targets, rebuild)

    def _name(self) -> str:
        return getattr(self.function, "__name__", "the function")


def compile(function: Callable[..., Any] | None = None, *, backend: str = "reference") -> Any:
    """``function`` of tensors, arrays and nested structures of them, compiled; usable as a decorator.

    It is traced once for each shape, dtype and structure of its arguments; anything that is not a tensor, array or
    number is part of that structure. Parameters and buffers of networks that it reads are read anew at each call; any
    other Tensor from outside is refused unless wrapped in ``chainrule.constant``.
    """
    if function is None:
        return functools.partial(compile, backend=backend)
    return CompiledFunction(function, backend)


def _is_leaf(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray, np.generic, float)) or (
        isinstance(value, int) and not isinstance(value, bool)
    )


def _structure(value: Any, found: list[Any]) -> Any:
    """A hashable key of a nested structure; its tensors, arrays and numbers are appended to ``found``."""
    if _is_leaf(value):
        found.append(value)
        return "tensor"
    if isinstance(value, dict):
        return ("dict", tuple((k, _structure(v, found)) for k, v in value.items()))
    if isinstance(value, (list, tuple)):
        return (type(value), tuple(_structure(v, found) for v in value))
    return value


def _filled(value: Any, make: Callable[[Any], Any]) -> Any:
    if _is_leaf(value):
        return make(value)
    if isinstance(value, dict):
        return {k: _filled(v, make) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        entries = [_filled(v, make) for v in value]
        return type(value)(*entries) if hasattr(value, "_fields") else type(value)(entries)
    return value
