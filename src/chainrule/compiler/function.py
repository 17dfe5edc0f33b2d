"""cr.compile: a function of tensors, traced once for each shape, dtype and structure of its arguments."""

from __future__ import annotations

import functools
import logging
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.compiler.compile import CompiledGraph, chosen_backend, compile_graph
from chainrule.errors import ArgumentError, ChainruleWarning, GraphError
from chainrule.graph import Graph, Tensor, as_array, context, shown, trace, user_line
from chainrule.spec import TensorSpec

log = logging.getLogger("chainrule.compile")

MANY = 32
"""After so many traces of one function somebody is told: it is rarely meant."""


@dataclass(frozen=True)
class _Variant:
    """One trace of a function."""

    compiled: CompiledGraph
    captured: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]
    rebuild: Callable[[list[Tensor]], Any]
    modes: tuple[tuple[weakref.ref[Any], bool], ...]
    """Each module of the networks that it reads, and whether it was in training mode."""

    def serves(self) -> bool:
        """Whether every module is still in the mode of the trace."""
        return all(module() is None or module().training == mode for module, mode in self.modes)  # type: ignore[union-attr]


class CompiledFunction:
    """What ``compile`` gives: call it like the function; ``.graph`` shows what the last call ran."""

    def __init__(self, function: Callable[..., Any], backend: str) -> None:
        functools.update_wrapper(self, function)
        self.function, self.backend = function, backend
        self.variants: dict[Any, list[_Variant]] = {}
        """By structure and specs of the arguments: a trace for each combination of modes."""
        self.traces = 0
        self.seen: tuple[TensorSpec, ...] = ()
        self.last: _Variant | None = None

    @property
    def graph(self) -> Graph:
        """The graph of the last call."""
        if self.last is None:
            raise GraphError(f"{self._name()} has not been called yet, so there is no graph: call it once")
        return self.last.compiled.graph

    @property
    def program(self) -> Any:
        """The loops that the last call ran (native backend)."""
        self.graph  # noqa: B018  says so if there was no call
        return getattr(self.last.compiled, "program", None)  # type: ignore[union-attr]

    @property
    def source(self) -> str:
        """The LLVM IR of those loops (native backend)."""
        self.graph  # noqa: B018
        return getattr(self.last.compiled, "source", "")  # type: ignore[union-attr]

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        found: list[Any] = []
        key = _structure((args, keywords), found, _is_argument)
        if context.trace is not None or any(isinstance(x, Tensor) and x.requires_grad for x in found):
            return self.function(*args, **keywords)  # part of a larger graph: nothing to gain from a boundary
        arrays = [x.value("compile") if isinstance(x, Tensor) else as_array(x) for x in found]
        specs = tuple(TensorSpec(a.shape, a.dtype) for a in arrays)
        variant = self._variant(args, keywords, key, specs)
        self.last = variant
        inputs = (*arrays, *(x.value("compile") for x in variant.captured))
        results = variant.compiled(*inputs)
        outputs = len(results) - len(variant.targets)
        for target, value in zip(variant.targets, results[outputs:], strict=True):
            target.value("compile")[...] = value
        given = set(map(id, inputs))
        # What is handed out is the caller's own: a view would change with the argument or parameter behind it.
        owned = (a.copy() if a.base is not None or id(a) in given else a for a in results[:outputs])
        return variant.rebuild([Tensor(TensorSpec(a.shape, a.dtype), a) for a in owned])

    def _variant(self, args: tuple, keywords: dict, key: Any, specs: tuple[TensorSpec, ...]) -> _Variant:
        try:
            known = self.variants.setdefault((key, specs), [])
        except TypeError as error:
            raise ArgumentError(
                f"{self._name()} was given something that has no hash ({error}), so that calls with it cannot be told "
                "apart: pass tensors, arrays, numbers, text, and lists, tuples and dicts of them"
            ) from error
        for variant in known:
            if variant.serves():
                return variant
        self._say_traced_again(specs, "modes of the network changed" if known else "")
        known.append(self._traced(args, keywords, specs))
        self.traces += 1
        return known[-1]

    def _say_traced_again(self, specs: tuple[TensorSpec, ...], why: str) -> None:
        if not self.traces:
            return
        seen = ", ".join(map(str, self.seen))
        reason = why or f"arguments were ({seen}), now ({', '.join(map(str, specs))})"
        log.info("%s traced again at %s: %s", self._name(), shown(user_line()), reason)
        if self.traces == MANY:
            warnings.warn(
                f"{self._name()} was traced {MANY} times, as each new shape, text or whole number among its arguments "
                "asks for; each trace takes time and memory: pass arrays of few shapes, and changing numbers as arrays",
                ChainruleWarning,
                stacklevel=4,
            )

    def _traced(self, args: tuple, keywords: dict, specs: tuple[TensorSpec, ...]) -> _Variant:
        self.seen = specs
        returned: list[Any] = []

        def flat(*placeholders: Tensor) -> list[Tensor]:
            each = iter(placeholders)
            new_args, new_keywords = _filled((args, keywords), lambda _: next(each), _is_argument)
            returned.append(self.function(*new_args, **new_keywords))
            outputs: list[Any] = []
            _structure(returned[0], outputs, _is_result)
            return outputs

        traced = trace(flat, *specs)

        def rebuild(tensors: list[Tensor]) -> Any:
            each = iter(tensors)
            return _filled(returned[0], lambda _: next(each), _is_result)

        compiled = compile_graph(traced.graph, self.backend)
        return _Variant(compiled, traced.captured, traced.targets, rebuild, _modes(traced.captured))

    def _name(self) -> str:
        return getattr(self.function, "__name__", "the function")


def compile(function: Callable[..., Any] | None = None, *, backend: str | None = None) -> Any:
    """``function`` of tensors, arrays and nested structures of them, compiled; usable as a decorator.

    It is traced once for each shape, dtype and structure of its arguments; anything that is not a tensor, array or
    float is part of that structure: a whole number can be an axis or a size, so each value has a trace of its own.
    Parameters and buffers of networks that it reads are read anew at each call, and so is their mode; any other Tensor
    from outside is refused unless wrapped in ``chainrule.constant``. What it returns never shares memory with them.
    """
    if function is not None and not callable(function):
        raise ArgumentError(f"compile takes a function of tensors, got {function!r}: write compile(f) or @compile")
    if function is None:
        return functools.partial(compile, backend=backend)
    return CompiledFunction(function, chosen_backend(backend))


def _modes(captured: tuple[Tensor, ...]) -> tuple[tuple[weakref.ref[Any], bool], ...]:
    """The modules of every network that a trace has read, each with its mode."""
    owners = [owner() for x in captured for owner in getattr(x, "owners", ())]
    networks = {id(root): root for root in (m.root() for m in owners if m is not None)}
    return tuple((weakref.ref(m), m.training) for network in networks.values() for m in network.modules())


def _is_argument(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray, np.generic, float))


def _is_result(value: Any) -> bool:
    return isinstance(value, Tensor)


def _structure(value: Any, found: list[Any], is_leaf: Callable[[Any], bool]) -> Any:
    """A hashable key of a nested structure, whose leaves are appended to ``found``."""
    if is_leaf(value):
        found.append(value)
        return "tensor"
    if isinstance(value, dict):
        return ("dict", tuple((k, _structure(v, found, is_leaf)) for k, v in value.items()))
    if isinstance(value, (list, tuple)):
        return (type(value), tuple(_structure(v, found, is_leaf) for v in value))
    # The type belongs to it: 1 == True, and "tensor" could be a text.
    return (type(value), value)


def _filled(value: Any, make: Callable[[Any], Any], is_leaf: Callable[[Any], bool]) -> Any:
    if is_leaf(value):
        return make(value)
    if isinstance(value, dict):
        return {k: _filled(v, make, is_leaf) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        entries = [_filled(v, make, is_leaf) for v in value]
        return type(value)(*entries) if hasattr(value, "_fields") else type(value)(entries)
    return value
