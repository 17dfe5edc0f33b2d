"""A NumPy namespace that records: every call is made, and kept as the Python expression that would make it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.graph.namespace import NUMPY, NumpyNamespace

SIGNS: dict[str, ast.operator] = {
    "add": ast.Add(),
    "subtract": ast.Sub(),
    "multiply": ast.Mult(),
    "divide": ast.Div(),
    "remainder": ast.Mod(),
    "floor_divide": ast.FloorDiv(),
    "matmul": ast.MatMult(),
}
COMPARISONS: dict[str, ast.cmpop] = {
    "equal": ast.Eq(),
    "not_equal": ast.NotEq(),
    "less": ast.Lt(),
    "less_equal": ast.LtE(),
    "greater": ast.Gt(),
    "greater_equal": ast.GtE(),
}
OWN = {name for name, f in vars(NumpyNamespace).items() if isinstance(f, staticmethod) and name != "power"}
"""What the namespace has and NumPy lacks."""


class Recorded:
    """An array and how it was made: an expression over earlier ones, which stand in it as names ``@3``."""

    __array_ufunc__ = None  # so that ndarray * Recorded comes to __rmul__

    def __init__(self, recorder: Recorder, value: Any, tree: ast.expr) -> None:
        self.recorder, self.value, self.tree = recorder, value, tree
        self.index = len(recorder.made)
        recorder.made.append(self)

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    dtype = property(lambda self: self.value.dtype)
    size = property(lambda self: self.value.size)

    def __getitem__(self, place: Any) -> Any:
        value = self.value[_plain(place)]
        return Recorded(self.recorder, value, ast.Subscript(spelled(self), spelled(place), ast.Load()))

    def __neg__(self) -> Any:
        return self.recorder.call("negative", self)


def _operator(name: str, reflected: bool = False) -> Callable[..., Any]:
    def method(self: Recorded, other: Any) -> Any:
        return self.recorder.call(name, other, self) if reflected else self.recorder.call(name, self, other)

    return method


for _name, _method in {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "mod": "remainder",
    "floordiv": "floor_divide", "matmul": "matmul", "pow": "power",
}.items():  # fmt: skip
    setattr(Recorded, f"__{_name}__", _operator(_method))
    setattr(Recorded, f"__r{_name}__", _operator(_method, reflected=True))
for _name, _method in {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}.items():  # fmt: skip
    setattr(Recorded, f"__{_name}__", _operator(_method))
Recorded.__hash__ = object.__hash__  # type: ignore[method-assign]


class Recorder:
    """The namespace."""

    def __init__(self) -> None:
        self.made: list[Recorded] = []
        """In the order of evaluation."""
        self.own: set[str] = set()
        """The functions used that NumPy lacks."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(NUMPY, name)
        if not callable(found) or isinstance(found, type):
            return found
        return lambda *args, **keywords: self.call(name, *args, **keywords)

    def named(self, name: str, value: Any) -> Recorded:
        """An argument of the program."""
        return Recorded(self, value, ast.Name(name, ast.Load()))

    def call(self, name: str, *args: Any, **keywords: Any) -> Any:
        """Call the function on the arrays, and keep the call unless all of it is constant."""
        value = getattr(NUMPY, name)(*_plain(args), **_plain(keywords))
        if not _depends((args, keywords)):
            return value
        if name in OWN:
            self.own.add(name)
        return Recorded(self, value, _call(name, args, keywords))


def _plain(value: Any) -> Any:
    """Arrays in place of what is recorded."""
    if isinstance(value, Recorded):
        return value.value
    if isinstance(value, (tuple, list)):
        return type(value)(map(_plain, value))
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def _depends(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_depends, value))
    return any(map(_depends, value.values())) if isinstance(value, dict) else isinstance(value, Recorded)


def _call(name: str, args: Sequence[Any], keywords: dict[str, Any]) -> ast.expr:
    """A call as a person would write it: operators, ``.T``, ``.reshape``; the bits are those of the function."""
    operands = _operands(args) if not keywords else [spelled(a) for a in args]
    if name in SIGNS and len(args) == 2:
        return ast.BinOp(operands[0], SIGNS[name], operands[1])
    if name in COMPARISONS:
        return ast.Compare(operands[0], [COMPARISONS[name]], [operands[1]])
    if name == "negative":
        return ast.UnaryOp(ast.USub(), operands[0])
    if name in ("maximum", "minimum"):
        return _numpy(name, operands)
    if name == "where":
        return _numpy(name, [spelled(args[0]), *_operands(args[1:])])
    if (name == "matrix_transpose" and args[0].ndim == 2) or (name == "permute_dims" and tuple(args[1]) == (1, 0)):
        return ast.Attribute(spelled(args[0]), "T", ast.Load())
    if name == "permute_dims":
        return _numpy("transpose", operands)
    if name in ("astype", "reshape") and isinstance(args[0], Recorded):
        return ast.Call(ast.Attribute(spelled(args[0]), name, ast.Load()), [spelled(a) for a in args[1:]], [])
    keywords = {k: v for k, v in keywords.items() if not _says_nothing(k, v, args)}
    if isinstance(keywords.get("axis"), tuple) and len(keywords["axis"]) == 1:
        keywords["axis"] = keywords["axis"][0]
    named = [ast.keyword(k, spelled(v)) for k, v in keywords.items()]
    if name in OWN:
        return ast.Call(ast.Name(name, ast.Load()), [spelled(a) for a in args], named)
    return _numpy(name, [spelled(a) for a in args], named)


def _says_nothing(key: str, value: Any, args: Sequence[Any]) -> bool:
    """Whether a keyword has the value that NumPy takes without it."""
    if key == "keepdims":
        return value is False
    return key == "dtype" and args[0].dtype.kind == "f" and args[0].dtype == value


def _numpy(name: str, args: Sequence[ast.expr], keywords: Sequence[ast.keyword] = ()) -> ast.expr:
    return ast.Call(ast.Attribute(ast.Name("np", ast.Load()), name, ast.Load()), list(args), list(keywords))


def _operands(args: Sequence[Any]) -> list[ast.expr]:
    """Constants as bare numbers where an array of their own dtype stands beside them, which then decides the dtype."""
    dtypes = {a.dtype for a in args if isinstance(a, Recorded)}
    return [
        ast.parse(_digits(np.asarray(a)[()]), mode="eval").body
        if _is_scalar(a) and dtypes == {a.dtype} and np.isfinite(a)
        else spelled(a)
        for a in args
    ]


def _is_scalar(a: Any) -> bool:
    return isinstance(a, (np.ndarray, np.generic)) and a.ndim == 0


def spelled(value: Any) -> ast.expr:
    """A value as an expression."""
    if isinstance(value, Recorded):
        return ast.Name(f"@{value.index}", ast.Load())
    if isinstance(value, (tuple, list)):
        kind = ast.Tuple if isinstance(value, tuple) else ast.List
        return kind([spelled(v) for v in value], ast.Load())
    if isinstance(value, slice):
        parts = [None if v is None else spelled(v) for v in (value.start, value.stop, value.step)]
        return ast.Slice(*parts)
    if isinstance(value, (np.ndarray, np.generic)):
        return ast.parse(literal(np.asarray(value)), mode="eval").body
    if isinstance(value, (np.dtype, type)):
        return ast.parse(f"np.{np.dtype(value).name.replace('bool', 'bool_')}", mode="eval").body
    if isinstance(value, float) and not np.isfinite(value):
        return ast.parse(f"-np.{-value}" if value < 0 else f"np.{value}", mode="eval").body
    return ast.parse(repr(value), mode="eval").body


def literal(array: np.ndarray) -> str:
    """Source text of an array, exact to the bit."""
    dtype = f"np.{array.dtype.name}" if array.dtype != bool else "np.bool_"
    if array.size > 1 and not any(array.strides):
        return f"np.full({array.shape}, {_digits(array.reshape(-1)[0])}, {dtype})"
    if array.ndim == 0:
        return f"{dtype}({_digits(array[()])})"
    if (array.dtype.kind == "f" and not np.isfinite(array).all()) or array.size > MOST_DIGITS:
        return in_hexadecimal(array)
    return f"np.array({_nested(array)}, {dtype}).reshape({array.shape})" if array.size == 0 else (
        f"np.array({_nested(array)}, {dtype})"
    )  # fmt: skip


MOST_DIGITS = 64
"""Elements of an array that is written in decimal digits; larger ones are written as bytes."""


def _nested(array: np.ndarray) -> str:
    if array.ndim == 0:
        return _digits(array[()])
    return f"[{', '.join(_nested(a) for a in array)}]"


def _digits(value: Any) -> str:
    """The fewest digits that give the same bits."""
    if value.dtype.kind != "f":
        return repr(value.item())
    if not np.isfinite(value):
        return f"float('{value}')"
    short = str(value)
    return short if value.dtype.type(float(short)) == value else repr(float(value))


BYTES_A_LINE = 56


def in_hexadecimal(array: np.ndarray) -> str:
    """The bytes of an array, little end first."""
    stored = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    digits = stored.tobytes().hex()
    lines = [digits[i : i + 2 * BYTES_A_LINE] for i in range(0, len(digits), 2 * BYTES_A_LINE)]
    inside = "\n".join(lines)
    return (
        f'np.frombuffer(bytes.fromhex("""\n{inside}\n"""), "{stored.dtype.str}").astype(np.{array.dtype.name})'
        f".reshape({array.shape})"
    )
