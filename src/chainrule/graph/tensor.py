"""Tensors and the nodes that make them: the edges and vertices of a graph."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError, DataDependentError, DTypeError, ShapeError
from chainrule.graph.context import context
from chainrule.graph.primitive import OPERATIONS, Primitive
from chainrule.graph.source import shown
from chainrule.spec import FLOAT32, INT64, TensorSpec, as_dtype

serials = count(1)
"""Order of creation: a value's serial is larger than that of everything it was made from."""


class Node:
    """One application of a primitive."""

    __slots__ = ("arrays", "inputs", "line", "origin", "parameters", "primitive", "scope", "serial", "specs")

    def __init__(
        self,
        primitive: Primitive,
        inputs: tuple[Tensor, ...],
        parameters: dict[str, Any],
        specs: tuple[TensorSpec, ...],
        arrays: tuple[np.ndarray, ...] | None = None,
        line: tuple[str, int] | None = None,
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.parameters = parameters
        self.specs = specs
        self.arrays = arrays
        """Eager only: the outputs' values, so that a node keeps outputs that nobody holds."""
        self.line = line
        """The user's file and line."""
        self.origin = context.origin
        """For a node of the backward pass: the forward node whose pullback made it."""
        self.scope = context.scope
        self.serial = next(serials)

    def output(self, index: int) -> Tensor:
        """The tensor of one output."""
        tensor = Tensor(self.specs[index], None if self.arrays is None else self.arrays[index], self, index)
        tensor.requires_grad = self.arrays is not None and self.specs[index].floating
        return tensor

    def __repr__(self) -> str:
        return f"<node {self.primitive.name} -> {', '.join(map(str, self.specs))} {shown(self.line)}>"


class Tensor:
    """An array that knows how it was made.

    Eager tensors have a value (``array``) and show it; traced ones have only a shape and a dtype, and stand for the
    values that will exist when the graph runs. Make one with ``cr.tensor``.
    """

    __slots__ = ("__weakref__", "array", "constant", "grad", "index", "name", "node", "requires_grad", "serial", "spec")
    is_state = False
    """Whether a trace reads it as an input of its own (parameters and buffers of a network)."""
    __array_ufunc__ = None  # so that ndarray + Tensor is Tensor.__radd__, not an object array

    def __init__(
        self,
        spec: TensorSpec,
        array: np.ndarray | None = None,
        node: Node | None = None,
        index: int = 0,
        name: str = "",
        constant: bool = False,
    ) -> None:
        self.spec = spec
        self.array = array
        self.node = node
        self.index = index
        """Which of its node's outputs this is."""
        self.name = name
        self.constant = constant
        """Whether a trace may keep its value."""
        self.requires_grad = False
        self.grad: Tensor | None = None
        self.serial = next(serials) if node is None else node.serial

    @property
    def key(self) -> tuple[Any, int]:
        """Identity of the value: two Tensor objects of the same output have the same key."""
        return (self.node or self, self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape

    @property
    def dtype(self) -> np.dtype:
        return self.spec.dtype

    @property
    def ndim(self) -> int:
        return len(self.spec.shape)

    @property
    def size(self) -> int:
        return self.spec.size

    @property
    def T(self) -> Tensor:
        """The transpose of a matrix."""
        if self.ndim != 2:
            raise ShapeError(f".T needs a matrix, got {self.spec}: use permute_dims(x, axes) or .mT")
        return OPERATIONS["permute_dims"](self, (1, 0))

    @property
    def mT(self) -> Tensor:
        """The transpose of each matrix of a stack."""
        return OPERATIONS["matrix_transpose"](self)

    def value(self, wish: str) -> np.ndarray:
        """The array of an eager tensor; DataDependentError, naming ``wish``, for a traced one."""
        if self.array is not None:
            return self.array
        where = shown(self.node.line) if self.node else ""
        raise DataDependentError(
            f"{wish} needs the value of a {self.spec} that is only traced here{where and ' (made at ' + where + ')'}: "
            "under compile, step and scan, values do not exist yet. Use where() to choose between values, scan() to "
            "loop, or run the function eagerly, without compile."
        )

    def numpy(self) -> np.ndarray:
        """A copy of the values as a NumPy array."""
        return self.value("numpy()").copy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ArgumentError("a Tensor's values are never shared with NumPy: leave out copy=False")
        return self.value("conversion to a NumPy array").astype(dtype or self.dtype)

    def item(self) -> Any:
        """The only element as a Python number."""
        if self.size != 1:
            raise ShapeError(f"item() needs a tensor of one element, got {self.spec}")
        return self.value("item()").item()

    def tolist(self) -> Any:
        return self.value("tolist()").tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise DTypeError(f"a {self.spec} cannot be an index: convert it with astype('int64')")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(f"the truth of a {self.spec} is ambiguous: use .all() or .any()")
        return bool(self.value("a Python if, while, and, or or not").item())

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise ShapeError("a 0-d tensor cannot be iterated over")
        return (self[i] for i in range(self.shape[0]))

    def __repr__(self) -> str:
        if self.array is None:
            name = self.name or (self.node.primitive.name if self.node else "input")
            where = shown(self.node.line) if self.node else ""
            return f"<traced {name}: {self.spec}{where and ' from ' + where}>"
        text = np.array2string(self.array, separator=", ", prefix="tensor(", threshold=1000)
        plain = self.dtype in (FLOAT32, INT64) or self.dtype.kind == "b"
        dtype = "" if plain else f", dtype={self.dtype.name}"
        return f"tensor({text}{dtype}{', requires_grad=True' if self.requires_grad else ''})"

    def __format__(self, form: str) -> str:
        return format(self.item(), form) if form else repr(self)

    def backward(self, cotangent: Any = None) -> None:
        """Add the gradient of this scalar to ``.grad`` of every leaf that requires one, as PyTorch does.

        A tensor of another shape needs ``cotangent`` of its shape.
        """
        from chainrule.graph.vjp import backward

        backward(self, cotangent)

    def detach(self) -> Tensor:
        """The same values with no history."""
        return Tensor(self.spec, self.value("detach()"))

    def astype(self, dtype: Any) -> Tensor:
        return OPERATIONS["astype"](self, as_dtype(dtype))

    def __getitem__(self, index: Any) -> Tensor:
        return OPERATIONS["getitem"](self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise DTypeError(
            "tensors cannot be changed in place, so that no gradient is ever silently wrong: "
            "build a new one with where(), concat() or scatter_add()"
        )

    def reshape(self, *shape: Any) -> Tensor:
        return OPERATIONS["reshape"](self, *shape)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        return OPERATIONS["flatten"](self, start_dim, end_dim)

    def __eq__(self, other: object) -> Any:
        return OPERATIONS["equal"](self, other)

    def __ne__(self, other: object) -> Any:
        return OPERATIONS["not_equal"](self, other)

    __hash__ = object.__hash__


def _method(name: str, reflected: bool = False) -> Any:
    def method(self: Tensor, *args: Any, **keywords: Any) -> Any:
        if reflected:
            return OPERATIONS[name](args[0], self)
        return OPERATIONS[name](self, *args, **keywords)

    method.__name__ = method.__qualname__ = name
    return method


_OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "pow": "pow",
    "matmul": "matmul",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "and": "logical_and",
    "or": "logical_or",
    "xor": "logical_xor",
}
_COMPARISONS = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
_UNARY = {"neg": "negative", "abs": "abs", "invert": "logical_not"}
_METHODS = [
    "sum",
    "mean",
    "max",
    "min",
    "prod",
    "var",
    "std",
    "all",
    "any",
    "argmax",
    "argmin",
    "cumsum",
    "softmax",
    "log_softmax",
    "logsumexp",
    "exp",
    "log",
    "sqrt",
    "sin",
    "cos",
    "tanh",
    "sigmoid",
    "relu",
    "clip",
    "permute_dims",
    "squeeze",
]

for _python, _operation in _OPERATORS.items():
    setattr(Tensor, f"__{_python}__", _method(_operation))
    setattr(Tensor, f"__r{_python}__", _method(_operation, reflected=True))
for _python, _operation in (_COMPARISONS | _UNARY).items():
    setattr(Tensor, f"__{_python}__", _method(_operation))
for _operation in _METHODS:
    setattr(Tensor, _operation, _method(_operation))


def as_array(value: Any, dtype: np.dtype | None = None) -> np.ndarray:
    """An array of a dtype that tensors can have; floats of other widths and lists of them become float32.

    Shares memory with ``value`` where it can: copy it if it may change.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise DTypeError(f"masked arrays lose their mask here ({value.size} elements): fill it with .filled(value)")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"cannot make a tensor of rows of different lengths ({error}): pad or cut them") from None
    if dtype is not None:
        return array.astype(dtype, copy=False)
    if (not isinstance(value, (np.ndarray, np.generic)) and array.dtype.kind == "f") or array.dtype == np.float16:
        return array.astype(FLOAT32)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"cannot make a tensor of dtype {array.dtype}: convert it to numbers, as .astype(float)")
    return array.astype(as_dtype(array.dtype) if array.dtype.name != "uint64" else INT64, copy=False)


def constant(value: Any) -> Tensor:
    """A tensor whose present values may be kept by a trace (``cr.constant``)."""
    array = value.value("constant()") if isinstance(value, Tensor) else as_array(value)
    return Tensor(TensorSpec(array.shape, array.dtype), array, constant=True)


def tensor(array: Any, requires_grad: bool = False, dtype: Any = None) -> Tensor:
    """An eager tensor with a copy of the values.

    array: anything NumPy can read. Python floats and lists of them become float32, NumPy arrays keep their dtype.
    requires_grad: whether ``.backward()`` of something made from it fills its ``.grad``.
    """
    source = array.value("tensor()") if isinstance(array, Tensor) else array
    values = np.array(as_array(source, None if dtype is None else as_dtype(dtype)))
    made = Tensor(TensorSpec(values.shape, values.dtype), values)
    if requires_grad and not made.spec.floating:
        raise DTypeError(f"only floating-point tensors can require gradients, got {made.spec}")
    made.requires_grad = requires_grad
    return made
