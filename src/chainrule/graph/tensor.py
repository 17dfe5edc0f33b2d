"""Tensors and the nodes that make them: the edges and vertices of a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError, DataDependentError, DTypeError, ShapeError
from chainrule.graph.context import context
from chainrule.graph.primitive import OPERATIONS, Primitive
from chainrule.graph.source import shown
from chainrule.spec import FLOAT32, INT64, TensorSpec, as_dtype, is_masked

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


def _called(name: str) -> Callable[..., Tensor]:
    """A method that applies the operation of this name to its tensor."""

    def method(self: Tensor, *args: Any, **keywords: Any) -> Tensor:
        return OPERATIONS[name](self, *args, **keywords)

    method.__name__ = method.__qualname__ = name
    return method


def _reflected(name: str) -> Callable[..., Tensor]:
    """A method for ``other + tensor``, where ``other`` is not a tensor."""

    def method(self: Tensor, other: Any) -> Tensor:
        return OPERATIONS[name](other, self)

    method.__name__ = method.__qualname__ = f"reflected_{name}"
    return method


def _of_booleans(name: str) -> Callable[..., Tensor]:
    """A method for ``&``, ``|``, ``^`` or ``~``, which on integers would mean bits."""
    apply = _called(name)

    def method(self: Tensor, *others: Any) -> Tensor:
        for x in (self, *others):
            found = x if isinstance(x, Tensor) else as_array(x)
            if found.dtype.kind != "b":
                shown_as = f"{found.dtype.name}{list(found.shape)}"
                raise DTypeError(f"& | ^ ~ take booleans, got {shown_as}: compare first, as (x > 0)")
        return apply(self, *others)

    return method


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

    def __eq__(self, other: object) -> Any:
        return OPERATIONS["equal"](self, other)

    def __ne__(self, other: object) -> Any:
        return OPERATIONS["not_equal"](self, other)

    __hash__ = object.__hash__

    # Operators and methods call the operation of that name, which ops declares above this package.
    __add__, __radd__ = _called("add"), _reflected("add")
    __sub__, __rsub__ = _called("subtract"), _reflected("subtract")
    __mul__, __rmul__ = _called("multiply"), _reflected("multiply")
    __truediv__, __rtruediv__ = _called("divide"), _reflected("divide")
    __pow__, __rpow__ = _called("pow"), _reflected("pow")
    __matmul__, __rmatmul__ = _called("matmul"), _reflected("matmul")
    __floordiv__, __rfloordiv__ = _called("floor_divide"), _reflected("floor_divide")
    __mod__, __rmod__ = _called("remainder"), _reflected("remainder")
    __and__ = __rand__ = _of_booleans("logical_and")
    __or__ = __ror__ = _of_booleans("logical_or")
    __xor__ = __rxor__ = _of_booleans("logical_xor")
    __lt__ = _called("less")
    __le__ = _called("less_equal")
    __gt__ = _called("greater")
    __ge__ = _called("greater_equal")
    __neg__ = _called("negative")
    __abs__ = _called("abs")
    __invert__ = _of_booleans("logical_not")
    sum = _called("sum")
    mean = _called("mean")
    max = _called("max")
    min = _called("min")
    prod = _called("prod")
    var = _called("var")
    std = _called("std")
    all = _called("all")
    any = _called("any")
    argmax = _called("argmax")
    argmin = _called("argmin")
    cumsum = _called("cumsum")
    softmax = _called("softmax")
    log_softmax = _called("log_softmax")
    logsumexp = _called("logsumexp")
    exp = _called("exp")
    log = _called("log")
    sqrt = _called("sqrt")
    sin = _called("sin")
    cos = _called("cos")
    tanh = _called("tanh")
    sigmoid = _called("sigmoid")
    relu = _called("relu")
    clip = _called("clip")
    permute_dims = _called("permute_dims")
    squeeze = _called("squeeze")
    reshape = _called("reshape")
    flatten = _called("flatten")


def as_array(value: Any, dtype: np.dtype | None = None) -> np.ndarray:
    """An array of a dtype that tensors can have; floats of other widths and lists of them become float32.

    Shares memory with ``value`` where it can: copy it if it may change.
    """
    if is_masked(value):
        raise DTypeError(f"masked arrays lose their mask here ({value.size} elements): fill it with .filled(value)")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"cannot make a tensor of rows of different lengths ({error}): pad or cut them") from None
    if dtype is not None:
        return array.astype(dtype, copy=False)
    if (not isinstance(value, (np.ndarray, np.generic)) and array.dtype.kind == "f") or array.dtype == np.float16:
        return array.astype(FLOAT32)
    unsigned = array.dtype.kind == "u" and array.dtype.itemsize == 8
    if unsigned and array.size and array.max() > np.iinfo(INT64).max:
        raise DTypeError(f"uint64 becomes int64 here, which cannot hold {array.max()}: convert it to another dtype")
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"cannot make a tensor of dtype {array.dtype}: convert it to numbers, as .astype(float)")
    return array.astype(INT64 if unsigned else as_dtype(array.dtype), copy=False)


def constant(value: Any) -> Tensor:
    """A tensor with a copy of the present values, which a trace may keep (``cr.constant``)."""
    array = np.array(value.value("constant()") if isinstance(value, Tensor) else as_array(value))
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
