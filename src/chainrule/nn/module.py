"""Modules: a tree of layers with named parameters and buffers, under PyTorch's names and shapes."""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError, CheckpointError, DTypeError, ShapeError
from chainrule.graph import Tensor, as_array, context, holding, no_grad
from chainrule.nn.initialisers import Initialiser
from chainrule.spec import FLOAT32, TensorSpec, as_dtype

_held = Tensor.array  # the slot beneath State.array


class State(Tensor):
    """A tensor that a network owns: its values live in the network's memory, and a trace reads it as an input."""

    __slots__ = ("initialiser", "kept", "owner", "stream")
    is_state = True

    def __init__(self, shape: tuple[int, ...], initialiser: Initialiser, dtype: Any = FLOAT32) -> None:
        super().__init__(TensorSpec(tuple(shape), as_dtype(dtype)))
        self.initialiser = initialiser
        self.owner: weakref.ref[Module] | None = None
        self.stream: int | None = None
        """Names this tensor's random numbers; given with the first draw, kept through every later change."""
        self.kept = False
        """Whether the values were loaded or trained, so that a new seed does not draw them again."""

    @property
    def array(self) -> np.ndarray:  # type: ignore[override]
        """The values; the first look at any of a network draws all of its first values, with seed 0."""
        values = _held.__get__(self)  # type: ignore[attr-defined]
        if values is None:
            module = self.owner() if self.owner else None
            if module is None:
                self.draw(0)
            else:
                module.root().initialise(0)
            values = _held.__get__(self)  # type: ignore[attr-defined]
        return values

    @array.setter
    def array(self, values: np.ndarray | None) -> None:
        _held.__set__(self, values)  # type: ignore[attr-defined]

    @property
    def drawn(self) -> bool:
        """Whether there are values yet."""
        return _held.__get__(self) is not None  # type: ignore[attr-defined]

    def draw(self, seed: int) -> None:
        """First values: a pure function of seed, stream and initialiser."""
        values = self.initialiser.draw(self.shape, seed, self.stream or 0)
        self.fill(values.astype(self.dtype))

    def fill(self, values: np.ndarray) -> None:
        """New values, in the memory that the tensor has."""
        if self.drawn:
            self.array[...] = values
        else:
            self.array = np.array(values, self.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec}{'' if self.drawn else ', not drawn yet'})"


class Parameter(State):
    """A tensor that training changes."""

    __slots__ = ()

    def __init__(self, shape: tuple[int, ...], initialiser: Initialiser, dtype: Any = FLOAT32) -> None:
        super().__init__(shape, initialiser, dtype)
        self.requires_grad = True


class Buffer(State):
    """A tensor that the forward pass changes and training does not: running statistics."""

    __slots__ = ()


class Module:
    """A layer or network: override ``forward``; parameters, buffers and modules set as attributes get names."""

    def __init__(self) -> None:
        object.__setattr__(self, "_states", {})
        object.__setattr__(self, "_modules", {})
        object.__setattr__(self, "_parent", None)
        object.__setattr__(self, "_name", "")
        object.__setattr__(self, "training", True)

    def forward(self, *inputs: Any) -> Any:
        """What the module computes."""
        raise NotImplementedError(f"{type(self).__name__} must define forward()")

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        scope = f"{context.scope}.{self._name}" if context.scope and self._name else context.scope or self._name
        given = tuple(map(self._received, inputs))
        try:
            with holding(scope=scope):
                output = self.forward(*given, **keywords)
        except ShapeError as error:
            if scope and not hasattr(error, "layer"):
                error.layer = scope  # type: ignore[attr-defined]
                error.args = (f"layer {scope!r} ({self._title()}): {error.args[0]}", *error.args[1:])
            raise
        if context.observer is not None:
            context.observer(self, output)
        return output

    def _received(self, x: Any) -> Any:
        """Arrays become tensors, floating ones of the parameters' dtype."""
        if isinstance(x, Tensor) or not isinstance(x, (np.ndarray, list, int, float)):
            return x
        array = as_array(x)
        array = array.astype(self.dtype, copy=False) if array.dtype.kind == "f" else array
        return Tensor(TensorSpec(array.shape, array.dtype), np.array(array))

    # -------------------------------------------------------------------------------------------- the tree

    def __setattr__(self, name: str, value: Any) -> None:
        if "_states" not in self.__dict__:
            raise ArgumentError(f"{type(self).__name__}.__init__ must call super().__init__() before setting {name!r}")
        self._states.pop(name, None)
        self._modules.pop(name, None)
        if isinstance(value, State):
            self._states[name] = value
            value.owner = weakref.ref(self)
        elif isinstance(value, Module):
            self.adopt(name, value)
        object.__setattr__(self, name, value)

    def adopt(self, name: str, module: Module) -> None:
        """Make ``module`` a child under ``name``."""
        self._modules[name] = module
        object.__setattr__(module, "_parent", weakref.ref(self))
        object.__setattr__(module, "_name", name)

    def root(self) -> Module:
        """The outermost network that this module is part of."""
        found: Module = self
        while found._parent is not None and (above := found._parent()) is not None:
            found = above
        return found

    def children(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(qualified name, module), this one first, each once."""
        seen: set[int] = set()
        stack = [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield name, module
            stack.extend((f"{name}.{k}" if name else k, child) for k, child in reversed(list(module._modules.items())))

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def _named_states(self, kind: type[State]) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, state in module._states.items():
                if isinstance(state, kind) and id(state) not in seen:
                    seen.add(id(state))
                    yield (f"{prefix}.{name}" if prefix else name), state

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(``state_dict`` name, parameter), a tied one under its first name."""
        return self._named_states(Parameter)

    def parameters(self) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        return self._named_states(Buffer)

    def buffers(self) -> Iterator[Buffer]:
        return (b for _, b in self.named_buffers())

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the parameters; float32 if there are none."""
        return next((p.dtype for p in self.parameters()), FLOAT32)

    # -------------------------------------------------------------------------------------------- values

    def initialise(self, seed: int = 0) -> Module:
        """Draw first weights: a pure function of ``seed``, each tensor's stream and its initialiser.

        Weights that were loaded or trained are kept.
        """
        self.settle_initialisers()
        for name, state in self._named_states(State):
            if state.stream is None:
                state.stream = zlib.crc32(name.encode())
            if not state.kept:
                state.draw(seed)
        return self

    def initialise_if_needed(self) -> None:
        """Draw first weights with seed 0 where there are none yet."""
        if not all(state.drawn for _, state in self._named_states(State)):
            self.initialise(0)

    def settle_initialisers(self) -> None:
        """Let each layer whose ``init`` is "auto" see what follows it."""
        for module in self.modules():
            module.settle("")

    def settle(self, following: str) -> None:
        """Choose the initialisers of this layer's parameters; ``following`` names the activation that reads it."""

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers by qualified name; a tied one under each of its names."""
        found = {}
        for prefix, module in self.named_modules():
            for name, state in module._states.items():
                found[f"{prefix}.{name}" if prefix else name] = state.array.copy()
        return found

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> None:
        """Take over arrays by name. strict: every name must be there and no other; shapes must always agree.

        Nothing is changed if anything does not fit; the CheckpointError lists all that does not.
        """
        own = {}
        for prefix, module in self.named_modules():
            own.update({(f"{prefix}.{n}" if prefix else n): s for n, s in module._states.items()})
        arrays = {k: v.value("load_state_dict()") if isinstance(v, Tensor) else np.asarray(v) for k, v in state.items()}
        wrong = [f"{k} is missing" for k in own if k not in arrays] if strict else []
        wrong += [f"{k} is not a name of this network" for k in arrays if k not in own] if strict else []
        wrong += [
            f"{k} has shape {list(arrays[k].shape)}, the network needs {list(s.shape)}"
            for k, s in own.items()
            if k in arrays and arrays[k].shape != s.shape
        ]
        wrong += [f"{k} has dtype {a.dtype}" for k, a in arrays.items() if k in own and a.dtype.kind not in "fiub"]
        if wrong:
            raise CheckpointError("the state does not fit the network: " + "; ".join(wrong))
        for name, held in own.items():
            if name in arrays:
                held.fill(arrays[name].astype(held.dtype))
                held.kept = True

    def to(self, dtype: Any) -> Module:
        """Convert parameters and floating buffers, as ``net.to("float64")``."""
        wanted = as_dtype(dtype)
        if wanted.kind != "f":
            raise DTypeError(f"parameters can be float32 or float64, not {wanted}")
        for _, state in self._named_states(State):
            if state.spec.floating and state.dtype != wanted:
                values = state.array.astype(wanted) if state.drawn else None
                state.spec = TensorSpec(state.shape, wanted)
                state.array = values
        return self

    def zero_grad(self) -> None:
        """Forget what ``backward()`` has added up in ``.grad``."""
        for parameter in self.parameters():
            parameter.grad = None

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Freeze (False) or thaw all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def train(self, mode: bool = True) -> Module:
        """Training mode: dropout drops, batch normalisation uses the batch."""
        for module in self.modules():
            object.__setattr__(module, "training", mode)
        return self

    def eval(self) -> Module:
        """Evaluation mode."""
        return self.train(False)

    def evaluating(self) -> Any:
        """A block in evaluation mode, after which each module is as it was."""
        return _Evaluating(self)

    def predict(self, x: Any, batch_size: int = 1024) -> np.ndarray:
        """The output for ``x`` as an array, in evaluation mode, in batches of rows, without history."""
        rows = np.asarray(x.value("predict()") if isinstance(x, Tensor) else x)
        if rows.ndim == 0:
            raise ShapeError("predict() needs rows: an array whose first axis counts them")
        parts = []
        with self.evaluating(), no_grad():
            for start in range(0, max(len(rows), 1), batch_size):
                parts.append(self(rows[start : start + batch_size]).value("predict()"))
        return np.concatenate(parts)

    # -------------------------------------------------------------------------------------------- text

    def _title(self) -> str:
        options = ", ".join(f"{k}={v}" for k, v in self.options().items())
        return type(self).__name__ + (f"({options})" if options else "")

    def options(self) -> dict[str, Any]:
        """The arguments that ``repr`` shows and that rebuild the layer."""
        return {}

    def __repr__(self) -> str:
        self.settle_initialisers()
        lines = []
        for name, module in self.named_modules():
            depth = name.count(".") + 1 if name else 0
            label = f"({name.rpartition('.')[2]}): " if name else ""
            first = [
                f"{key}: {state.initialiser.describe(state.shape)}"
                for key, state in module._states.items()
                if isinstance(state, Parameter)
            ]
            notes = f"    # {'; '.join(first)}" if first else ""
            lines.append("  " * depth + label + module._title() + notes)
        count = sum(p.size for p in self.parameters())
        return "\n".join([*lines, f"{count:,} parameters"])


class _Evaluating:
    """Evaluation mode for the duration of a block."""

    def __init__(self, module: Module) -> None:
        self.modes = [(m, m.training) for m in module.modules()]

    def __enter__(self) -> None:
        for module, _ in self.modes:
            object.__setattr__(module, "training", False)

    def __exit__(self, *_: object) -> None:
        for module, mode in self.modes:
            object.__setattr__(module, "training", mode)
