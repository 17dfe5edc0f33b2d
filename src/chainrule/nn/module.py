"""Modules: a tree of layers with named parameters and buffers, under PyTorch's names and shapes."""

from __future__ import annotations

import copy
import weakref
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from chainrule.errors import ArgumentError, CheckpointError, DTypeError, ShapeError
from chainrule.graph import Tensor, as_array, context, holding, no_grad
from chainrule.nn.initialisers import Initialiser
from chainrule.spec import FLOAT32, TensorSpec, as_dtype

_held: Any = vars(Tensor)["array"]  # the slot beneath State.array


moved = [0]
"""How often any state tensor got other memory: whoever keeps addresses looks here whether to look again."""


remoded = [0]
"""How often any module may have changed between training and evaluation."""


class State(Tensor):
    """A tensor that a network owns: its values live in the network's memory, and a trace reads it as an input."""

    __slots__ = ("initialiser", "kept", "owners", "stream")
    is_state = True

    def __init__(self, shape: tuple[int, ...], initialiser: Initialiser, dtype: Any = FLOAT32) -> None:
        super().__init__(TensorSpec(_checked_shape(type(self).__name__, shape), as_dtype(dtype)))
        if not isinstance(initialiser, Initialiser):
            raise ArgumentError(f"{type(self).__name__}: first values come from an initialiser of chainrule.nn, "
                                f"such as Zeros() or Normal(std=0.1), got {initialiser!r}")  # fmt: skip
        self.initialiser = initialiser
        self.owners: list[weakref.ref[Module]] = []
        """The modules that it is an attribute of; several if it is tied."""
        self.stream: int | None = None
        """Names this tensor's random numbers; given with the first draw, kept through every later change."""
        self.kept = False
        """Whether the values were loaded or trained, so that a new seed does not draw them again."""

    @property
    def array(self) -> np.ndarray:
        """The values; the first look at any of a network draws what has none of its first values, with seed 0."""
        values = _held.__get__(self)
        if values is None:
            module = next((m for m in (owner() for owner in self.owners) if m is not None and m.owns(self)), None)
            if module is None:
                self.draw(0)
            else:
                module.root().initialise_if_needed()
            values = _held.__get__(self)
        return values

    @array.setter
    def array(self, values: np.ndarray | None) -> None:
        _held.__set__(self, values)
        moved[0] += 1

    @property
    def drawn(self) -> bool:
        """Whether there are values yet."""
        return _held.__get__(self) is not None

    def draw(self, seed: int) -> None:
        """First values: a pure function of seed, stream and initialiser."""
        self.fill(self.initialiser.draw(self.shape, seed, self.stream or 0))

    def fill(self, values: np.ndarray) -> None:
        """New values, in the memory that the tensor has."""
        if self.drawn:
            self.array[...] = values
        else:
            self.array = np.array(values, self.dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> State:
        made = type(self)(self.shape, self.initialiser, self.dtype)
        made.name, made.stream, made.kept = self.name, self.stream, self.kept
        made.requires_grad = self.requires_grad
        if self.drawn:
            made.fill(self.array)
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec}{'' if self.drawn else ', not drawn yet'})"


def _checked_shape(kind: str, shape: Any) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else None
    if sizes is None or not all(isinstance(n, (int, np.integer)) and n >= 0 for n in sizes):
        raise ArgumentError(f"{kind} takes a shape and an initialiser, as {kind}((4, 3), nn.Normal(std=0.1)); "
                            f"the shape given is {shape!r}")  # fmt: skip
    return tuple(map(int, sizes))


class Parameter(State):
    """A tensor that training changes."""

    __slots__ = ()

    def __init__(self, shape: tuple[int, ...], initialiser: Initialiser, dtype: Any = FLOAT32) -> None:
        super().__init__(shape, initialiser, dtype)
        if not self.spec.floating:
            raise DTypeError(f"a Parameter is float32 or float64, got {self.spec}: use a Buffer")
        self.requires_grad = True


class Buffer(State):
    """A tensor that the forward pass changes and training does not: running statistics."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A module's forward pass that is going on."""

    module: Module
    scope: str
    """Qualified name of the module."""
    uses: dict[int, int]
    """How often the outermost forward pass has drawn from each random stream."""


class Module:
    """A layer or network: override ``forward``; parameters, buffers and modules set as attributes get names."""

    _states: dict[str, State]
    _modules: dict[str, Module]
    _parents: list[tuple[weakref.ref[Module], str]]
    training: bool
    stream: int | None = None
    """Names the random numbers of a module that draws; given with the first draw, kept through every later change."""
    draws: ClassVar[bool] = False
    """Whether the forward pass draws random numbers, as dropout does."""
    straight: ClassVar[bool] = False
    """Whether the children run one after another, in their order."""

    def __init__(self) -> None:
        vars(self).update(_states={}, _modules={}, _parents=[], training=True)

    def forward(self, *inputs: Any) -> Any:
        """What the module computes."""
        raise NotImplementedError(f"{type(self).__name__} must define forward()")

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        outer: Call | None = context.call
        scope = self._scope(outer)
        given = tuple(map(self._received, inputs))
        try:
            with holding(scope=scope, call=Call(self, scope, {} if outer is None else outer.uses)):
                output = self.forward(*given, **keywords)
        except ShapeError as error:
            if not hasattr(error, "layer"):
                error.layer = scope  # type: ignore[attr-defined]
                name = f"layer {scope!r} ({self._title()})" if scope else self._title()
                error.args = (f"{name}: {error.args[0]}", *error.args[1:])
            raise
        if context.observer is not None:
            context.observer(self, output)
        return output

    def _scope(self, outer: Call | None) -> str:
        """The qualified name by which the caller holds this module, however many networks share it."""
        if outer is None:
            return self._path(None) or ""
        name = self._path(outer.module)
        if name is None:  # another network, called from inside this one
            name = self._path(None) or ""
        return ".".join(part for part in (outer.scope, name) if part)

    def _path(self, above: Module | None) -> str | None:
        """Name of this module inside ``above`` (None: inside the outermost network); None if it is not in there."""
        names: list[str] = []
        module: Module = self
        while module is not above:
            parents = module.parents()
            if not parents:
                break
            module, name = next((p for p in parents if p[0] is above), parents[0])
            names.append(name)
        if above is None or module is above:
            return ".".join(reversed(names))
        return next((name for name, inner in above.named_modules() if inner is self), None)

    def _received(self, x: Any) -> Any:
        """Arrays and numbers become tensors, floating ones of the parameters' dtype."""
        if isinstance(x, Tensor) or not isinstance(x, (np.ndarray, list, int, float)):
            return x
        array = as_array(x)
        if array.dtype.kind == "f" and next(self.parameters(), None) is not None:
            array = as_array(x, self.dtype)  # from x: a list of Python floats keeps all digits in a float64 network
        return Tensor(TensorSpec(array.shape, array.dtype), np.array(array))

    # -------------------------------------------------------------------------------------------- the tree

    def __setattr__(self, name: str, value: Any) -> None:
        if "_states" not in self.__dict__:
            raise ArgumentError(f"{type(self).__name__}.__init__ must call super().__init__() before setting {name!r}")
        if isinstance(value, (State, Module)) and (not name or "." in name):
            raise ArgumentError(f"{type(self).__name__}: {name!r} cannot be a name: names of parts have no dots")
        if isinstance(value, (list, tuple, dict, set)):
            self._refuse_hidden(name, value)
        object.__setattr__(self, name, value)
        remoded[0] += 1  # another part, or another mode of this one
        # A part that replaces one of its kind takes its place in the order.
        if not isinstance(value, State):
            self._states.pop(name, None)
        if not isinstance(value, Module):
            self._modules.pop(name, None)
        if isinstance(value, State):
            self._states[name] = value
            value.owners = [o for o in value.owners if o() not in (None, self)] + [weakref.ref(self)]
        elif isinstance(value, Module):
            self.adopt(name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._states.pop(name, None)
        self._modules.pop(name, None)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in ("_states", "_modules", "_parents", "training"):
                raise ArgumentError(f"{type(self).__name__}.__init__ must call super().__init__() first")
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def _refuse_hidden(self, name: str, value: Any) -> None:
        """A list of layers has no names, so its weights would silently stay as they are."""
        for part in value.values() if isinstance(value, dict) else value:
            if isinstance(part, (Module, State)):
                kind = type(value).__name__
                raise ArgumentError(
                    f"{type(self).__name__}.{name} is a {kind} holding a {type(part).__name__}, which training would "
                    f"not see: use nn.ModuleList for layers, and an attribute of its own for a parameter"
                )

    def adopt(self, name: str, module: Module) -> None:
        """Make ``module`` a child under ``name``."""
        if any(inner is self for inner in module.modules()):
            raise ArgumentError(f"{type(self).__name__}.{name}: a module cannot be a part of itself")
        self._modules[name] = module
        alive = [(parent, key) for parent, key in module._parents if parent() is not None]
        vars(module)["_parents"] = [*alive, (weakref.ref(self), name)]

    def owns(self, state: State) -> bool:
        """Whether ``state`` is an attribute of this very module."""
        return any(held is state for held in self._states.values())

    def parents(self) -> list[tuple[Module, str]]:
        """(module, name in it) for every module that holds this one as an attribute, the first that did so first."""
        found = ((parent(), name) for parent, name in self._parents)
        return [(m, name) for m, name in found if m is not None and m._modules.get(name) is self]

    def root(self) -> Module:
        """The outermost network that this module is part of; of several, the first that it was put into."""
        found: Module = self
        while parents := found.parents():
            found = parents[0][0]
        return found

    def children(self) -> Iterator[Module]:
        """The modules set as attributes, each once."""
        return iter({id(module): module for module in self._modules.values()}.values())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """(qualified name, module), this one first; a shared one under its first name only, or under each."""
        seen: set[int] = set()
        stack = [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if remove_duplicate and id(module) in seen:
                continue
            seen.add(id(module))
            module._refuse_grown()
            yield name, module
            stack.extend((f"{name}.{k}" if name else k, child) for k, child in reversed(list(module._modules.items())))

    def _refuse_grown(self) -> None:
        """Lists that were empty when they were set, and had layers appended since."""
        for name, value in vars(self).items():
            if isinstance(value, list) and value and name != "_parents":
                self._refuse_hidden(name, value[-1:])

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def _all_states(self) -> Iterator[tuple[str, State]]:
        """(name, state) as ``state_dict`` lists them: a tied or shared one under each of its names."""
        for prefix, module in self.named_modules(remove_duplicate=False):
            for name, state in module._states.items():
                yield (f"{prefix}.{name}" if prefix else name), state

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
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise ArgumentError(f"initialise: a seed is a whole number, got {seed!r}")
        root = self.root()
        root.settle_initialisers()
        root.name_streams()
        for _, state in self._named_states(State):
            if not state.kept:
                state.draw(int(seed))
        return self

    def next_stream(self) -> int:
        """The stream of this draw. A module used twice in one forward pass draws different numbers each time."""
        if self.stream is None:
            self.root().name_streams()
        assert self.stream is not None
        uses: dict[int, int] = context.call.uses if context.call is not None else {}
        use = uses.get(self.stream, 0)
        uses[self.stream] = use + 1
        return zlib.crc32(use.to_bytes(4, "little"), self.stream) if use else self.stream

    def initialise_if_needed(self) -> None:
        """First values, with seed 0, for what has none: a layer put into a network leaves the others' values alone."""
        missing = [state for _, state in self._named_states(State) if not state.drawn]
        if missing:
            self.root().settle_initialisers()
            self.root().name_streams()
        for state in missing:
            state.draw(0)

    def name_streams(self) -> None:
        """Give what has no random stream yet one by its name, and make all streams of this network differ.

        A new layer "1" put before the old "1" would otherwise draw the old one's numbers again.
        """
        states = list(self._named_states(State))
        for name, state in states:
            state.name = name
        drawing = ((f"{name}/", module) for name, module in self.named_modules() if module.draws)
        parts: list[tuple[str, Any]] = [*states, *drawing]
        taken: set[int] = set()
        unnamed = []
        for name, part in parts:
            if part.stream is None or part.stream in taken:
                unnamed.append((name, part))
            else:
                taken.add(part.stream)
        for name, part in unnamed:
            numbered = (zlib.crc32(f"{name}{other}".encode()) for other in ("", *range(len(taken) + 1)))
            part.stream = next(stream for stream in numbered if stream not in taken)
            taken.add(part.stream)

    def settle_initialisers(self) -> None:
        """Let each layer whose ``init`` is "auto" see what follows it."""
        self.settle_along("")

    def settle_along(self, following: str) -> str:
        """Settle all layers from the last to the first; gives the activation that meets what comes before them.

        What a module of the user's own does with its parts is known only when it runs. There the order in which they
        were set is taken, and a layer that has no activation right behind it gets the next one.
        """
        stack = [(self, self.straight)]
        while stack:
            module, straight = stack.pop()
            if module._modules and type(module).settle is Module.settle:
                stack.extend((child, module.straight) for child in module._modules.values())
                continue
            met = module.settle(following)
            following = met if straight else met or following
        return following

    def settle(self, following: str) -> str:
        """Choose the initialisers of this layer's own parameters.

        following: class name of the activation that reads the layer's output, "" for none. Gives the one that reads
        the output of a layer in front of this: its own name for an activation, ``following`` if it only rescales.
        """
        return ""

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers by qualified name; a tied one under each of its names."""
        return {name: state.array.copy() for name, state in self._all_states()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Take over arrays by name. strict: every name must be there and no other; shapes must always agree.

        Nothing is changed if anything does not fit; the CheckpointError lists all that does not.
        """
        if not isinstance(state, Mapping):
            raise ArgumentError(f"load_state_dict() takes a mapping of names to arrays, got {type(state).__name__}")
        own = dict(self._all_states())
        wrong = [f"{k} is missing" for k in own if k not in state] if strict else []
        wrong += [f"{k} is not a name of this network" for k in state if k not in own] if strict else []
        fitting: dict[str, np.ndarray] = {}
        for name, held in own.items():
            if name in state:
                found = _fitted(name, state[name], held)
                if isinstance(found, str):
                    wrong.append(found)
                else:
                    fitting[name] = found
        wrong += _disagreements(own, fitting)
        if wrong:
            raise CheckpointError("the state does not fit the network: " + "; ".join(wrong))
        for name, array in fitting.items():
            own[name].fill(array)
            own[name].kept = True

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
                state.grad = None if state.grad is None else state.grad.astype(wanted).detach()
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
        remoded[0] += 1
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
        rows = x.value("predict()") if isinstance(x, Tensor) else as_array(x)
        if rows.dtype.kind == "f" and not isinstance(x, Tensor):
            rows = as_array(x, self.dtype)
        if rows.ndim == 0:
            raise ShapeError(f"predict() needs rows, an array whose first axis counts them, got the number {rows}")
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ArgumentError(f"predict(): batch_size is a whole number of at least 1, got {batch_size!r}")
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
        self.root().settle_initialisers()
        lines = []
        first_names: dict[int, str] = {}
        for name, module in self.named_modules(remove_duplicate=False):
            label = f"({name.rpartition('.')[2]}): " if name else ""
            text = module._title() + module._first_weights()
            if first_names.setdefault(id(module), name) != name:
                text = f"{module._title()}    # the same as {first_names[id(module)]}"
            lines.append("  " * (name.count(".") + 1 if name else 0) + label + text)
        count = sum(p.size for p in self.parameters())
        return "\n".join([*lines, f"{count:,} parameters"])

    def _first_weights(self) -> str:
        """How each parameter of this very module is drawn, as a remark."""
        parameters = ((key, s) for key, s in self._states.items() if isinstance(s, Parameter))
        drawn = "; ".join(f"{key}: {p.initialiser.describe(p.shape)}" for key, p in parameters)
        return drawn and f"    # {drawn}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Module:
        """A network of its own with the same values; one not drawn yet will draw the same."""
        self.root().name_streams()
        originals = list(self.modules())
        # All copies exist before any is filled, so that the depth of the tree is no depth of recursion.
        copies = [memo.setdefault(id(module), object.__new__(type(module))) for module in originals]
        for original, copied in zip(originals, copies, strict=True):
            values = {key: copy.deepcopy(v, memo) for key, v in vars(original).items() if key != "_parents"}
            vars(copied).update(values, _parents=[])
        for copied in copies:
            for state in copied._states.values():
                state.owners.append(weakref.ref(copied))
            for name, child in copied._modules.items():
                child._parents.append((weakref.ref(copied), name))
        return copies[0]


def _fitted(name: str, value: Any, held: State) -> np.ndarray | str:
    """``value`` as an array that ``held`` can take, or what is wrong with it."""
    try:
        array = value.value("load_state_dict()") if isinstance(value, Tensor) else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        return f"{name} cannot become an array: {error}"
    if array.dtype.kind not in "fiub":
        return f"{name} has dtype {array.dtype}, the network needs {held.dtype}"
    if array.shape != held.shape:
        return f"{name} has shape {list(array.shape)}, the network needs {list(held.shape)}"
    with np.errstate(all="ignore"):
        fitted = array.astype(held.dtype)
    if held.spec.floating:
        lost = np.isfinite(array) & ~np.isfinite(fitted)
    else:
        lost = fitted != array
    if lost.any():
        return f"{name} has {int(lost.sum())} values that {held.dtype} cannot hold, such as {array[lost].flat[0]}"
    return fitted


def _disagreements(own: dict[str, State], arrays: dict[str, np.ndarray]) -> list[str]:
    """Names of one tied tensor for which different values are given."""
    first: dict[int, str] = {}
    wrong = []
    for name, array in arrays.items():
        before = first.setdefault(id(own[name]), name)
        if before != name and not np.array_equal(array, arrays[before], equal_nan=array.dtype.kind == "f"):
            wrong.append(f"{name} and {before} are one tensor here, but their values differ")
    return wrong


class _Evaluating:
    """Evaluation mode for the duration of a block."""

    def __init__(self, module: Module) -> None:
        self.modes = [(m, m.training) for m in module.modules()]

    def __enter__(self) -> None:
        remoded[0] += 1
        for module, _ in self.modes:
            object.__setattr__(module, "training", False)

    def __exit__(self, *_: object) -> None:
        remoded[0] += 1
        for module, mode in self.modes:
            object.__setattr__(module, "training", mode)
