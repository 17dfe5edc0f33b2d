"""Run a program in NumPy, statement by statement: the oracle for every backend.

Sums follow the trees that the program states, so that a backend's sums agree to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.errors import GraphError
from chainrule.kernel.program import (
    Accumulate,
    Gate,
    Gemm,
    LaneLoop,
    Matrix,
    Nest,
    Program,
    Repeat,
    SerialLoop,
    Statement,
    Store,
    parts,
)
from chainrule.kernel.scalar import Affine, Const, Gather, Load, Local, Op, Scalar, Variable, walk

LANES = 16


def interpret(program: Program, *inputs: np.ndarray) -> tuple[list[np.ndarray], int]:
    """(the outputs as flat arrays, status): status 0, or the number of the gate that closed, counted from 1."""
    memory = _memory(program, inputs)
    gates = 0
    for statement in program.statements:
        if isinstance(statement, Gate):
            gates += 1
            if not memory[statement.buffer][0]:
                return [memory[i] for i in program.outputs], gates
        else:
            _run(statement, memory)
    return [memory[i] for i in program.outputs], 0


def _run(statement: Statement, memory: list[np.ndarray]) -> None:
    if isinstance(statement, Repeat):
        for t in range(statement.turns):
            for m in statement.moving:
                start = m.start + t * m.step
                memory[m.buffer] = memory[m.of][start : start + len(memory[m.buffer])]
            for inner in statement.statements:
                _run(inner, memory)
        return
    for part in parts(statement):
        if isinstance(part, Gemm):
            _multiply(part, memory)
        elif isinstance(part, Nest):
            _run_nest(part, memory)


def _memory(program: Program, inputs: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    memory = []
    for buffer in program.buffers:
        held = np.zeros(buffer.size, buffer.dtype) if buffer.values is None else buffer.values.reshape(-1)
        memory.append(held)
    for i, array in zip(program.inputs, inputs, strict=True):
        if array.size != program.buffers[i].size or array.dtype != program.buffers[i].dtype:
            wanted = program.buffers[i]
            raise GraphError(f"input {i} must be {wanted.dtype}[{wanted.size}], got {array.dtype}[{array.size}]")
        memory[i] = np.ascontiguousarray(array).reshape(-1)
    return memory


def _multiply(gemm: Gemm, memory: list[np.ndarray]) -> None:
    def view(matrix: Matrix, rows: int, columns: int, b: int) -> np.ndarray:
        flat = memory[matrix.buffer]
        item = flat.itemsize
        start = matrix.start + b * matrix.batch
        return np.lib.stride_tricks.as_strided(
            flat[start:], (rows, columns), (matrix.row * item, matrix.column * item), writeable=True
        )

    if gemm.m == 0 or gemm.n == 0:
        return
    for b in range(gemm.batch):
        result = view(gemm.result, gemm.m, gemm.n, b)
        if gemm.k == 0:
            product: Any = np.zeros((gemm.m, gemm.n), result.dtype)
        else:
            product = view(gemm.left, gemm.m, gemm.k, b) @ view(gemm.right, gemm.k, gemm.n, b)
        result[...] = result + product if gemm.adds else product


class _Points:
    """Values over all points of a nest: arrays [grid points, lanes], broadcastable."""

    def __init__(self, memory: list[np.ndarray], variables: dict[str, Any], locals_: dict[str, Any]) -> None:
        self.memory, self.variables, self.locals = memory, variables, locals_

    def position(self, at: Affine) -> Any:
        return at.start + sum((stride * self.variables[name] for name, stride in at.strides), np.int64(0))

    def value(self, expression: Scalar) -> Any:
        found: dict[Scalar, Any] = {}
        with np.errstate(all="ignore"):
            for e in walk(expression):
                found[e] = self._one(e, found)
        return found[expression]

    def _one(self, e: Scalar, found: dict[Scalar, Any]) -> Any:
        if isinstance(e, Const):
            return np.asarray(e.value, e.dtype)
        if isinstance(e, Variable):
            return np.asarray(self.variables[e.name], np.int64)
        if isinstance(e, Local):
            return self.locals[e.name]
        if isinstance(e, Load):
            at = self.position(e.at)
            if e.where is None:
                return self.memory[e.buffer][at]
            allowed, at = np.broadcast_arrays(found[e.where], at)
            return np.where(allowed, self.memory[e.buffer][np.where(allowed, at, 0)], np.asarray(e.other, e.dtype))
        if isinstance(e, Gather):
            at = np.asarray(found[e.at])
            inside = (at >= 0) & (at < e.size)
            if not e.size:
                return np.full(at.shape, e.other, e.dtype)
            return np.where(inside, self.memory[e.buffer][np.where(inside, at, 0)], np.asarray(e.other, e.dtype))
        assert isinstance(e, Op)
        return np.asarray(_apply(e, [found[a] for a in e.arguments]), e.dtype)


def _apply(e: Op, values: list[Any]) -> Any:
    if e.name == "cast":
        return np.asarray(values[0]).astype(e.dtype)
    if e.name == "erf":
        return np.asarray(np.frompyfunc(math.erf, 1, 1)(np.asarray(values[0], np.float64)), np.float64)
    if e.name == "where":
        return np.where(*values)
    if e.name in ("philox0", "philox1"):
        return _philox(values[:4], values[4:])[e.name == "philox1"]
    return getattr(np, e.name)(*values)


def _philox(counters: list[Any], key: list[Any]) -> tuple[Any, Any]:
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counters)
    k0, k1 = (np.asarray(k, np.uint64) for k in key)
    low, word = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (b >> word) ^ c1 ^ k0, b & low, (a >> word) ^ c3 ^ k1, a & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return c0.astype(np.uint32), c1.astype(np.uint32)


def start_value(how: str, dtype: np.dtype) -> Any:
    """What an accumulation begins with: joining it to a value leaves the value."""
    if how == "sum":
        return np.zeros((), dtype)
    if how in ("all", "any"):
        return np.asarray(how == "all")
    if dtype.kind == "f":
        return np.asarray(-np.inf if how == "maximum" else np.inf, dtype)
    limits = np.iinfo(dtype)
    return np.asarray(limits.min if how == "maximum" else limits.max, dtype)


def _join(how: str, a: Any, b: Any) -> Any:
    joins = {"sum": np.add, "maximum": np.maximum, "minimum": np.minimum, "all": np.logical_and, "any": np.logical_or}
    with np.errstate(all="ignore"):
        return joins[how](a, b)


def _run_nest(nest: Nest, memory: list[np.ndarray]) -> None:
    points = math.prod(nest.extents)
    if points == 0:
        return
    grid = np.unravel_index(np.arange(points), nest.extents) if nest.extents else ()
    variables: dict[str, Any] = {n: g.reshape(-1, 1) for n, g in zip(nest.variables, grid, strict=True)}
    held: dict[str, Any] = {}
    for loop in nest.loops:
        _run_lanes(loop, points, _Points(memory, variables, held))


def _run_lanes(loop: LaneLoop, points: int, at: _Points) -> None:
    at.variables[loop.variable] = np.arange(loop.extent).reshape(1, -1)
    shape = (points, loop.extent)
    for serial in loop.serial:
        _run_serial(serial, shape, at)
    for store in loop.stores:
        _store(store, shape, at)
    found = {a.name: _over_lanes(a, shape, at) for a in loop.accumulates}
    del at.variables[loop.variable]
    at.locals.update(found)


def _run_serial(serial: SerialLoop, shape: tuple[int, int], at: _Points) -> None:
    for a in serial.accumulates:
        at.locals[a.name] = np.broadcast_to(start_value(a.how, a.value.dtype), shape)
    for index in np.ndindex(*serial.extents):
        at.variables.update(zip(serial.variables, index, strict=True))
        joined = {a.name: _join(a.how, at.locals[a.name], at.value(a.value)) for a in serial.accumulates}
        at.locals.update(joined)
        for store in serial.stores:
            _store(store, shape, at)
    for name in serial.variables:
        at.variables.pop(name, None)


def _over_lanes(a: Accumulate, shape: tuple[int, int], at: _Points) -> np.ndarray:
    """[grid points, 1]: joined over lanes by the tree that LaneLoop states."""
    dtype = a.value.dtype
    values = np.broadcast_to(at.value(a.value), shape)
    start = start_value(a.how, dtype)
    lanes = np.broadcast_to(start, (shape[0], LANES)).copy()
    for first in range(0, shape[1], LANES):
        part = values[:, first : first + LANES]
        lanes[:, : part.shape[1]] = _join(a.how, lanes[:, : part.shape[1]], part)
    half = LANES
    while half > 1:
        half //= 2
        lanes = _join(a.how, lanes[:, :half], lanes[:, half : 2 * half])
    return np.asarray(lanes, dtype)


def _store(store: Store, shape: tuple[int, int], at: _Points) -> None:
    target = at.memory[store.buffer]
    value = np.broadcast_to(at.value(store.value), shape).astype(target.dtype)
    computed = isinstance(store.at, Scalar)
    where = np.broadcast_to(at.value(store.at) if computed else at.position(store.at), shape)  # type: ignore[arg-type]
    inside = (where >= 0) & (where < target.size)
    if not computed and not inside.all():
        raise GraphError(f"a store of buffer {store.buffer} leaves it: positions {where.min()} to {where.max()}")
    if store.adds:
        np.add.at(target, where[inside], value[inside])
    else:
        target[where[inside]] = value[inside]
