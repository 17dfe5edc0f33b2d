"""What a nest means, point by point in NumPy: slow, plain, and written without a look at the emitter."""

import itertools
import math

import numpy as np

from chainrule.kernel import Affine, Const, Gather, Load, Local, Variable

UFUNCS = {
    "divide": np.divide, "pow": np.power, "sign": np.sign, "abs": np.abs, "round": np.round, "equal": np.equal,
    "philox0": None, "philox1": None, "erf": None, "where": np.where,
}  # fmt: skip
UNARY_IN_FLOAT64 = ("exp", "expm1", "log", "log1p", "sin", "cos", "tanh")
STARTS = {"sum": 0, "all": True, "any": False}
JOINS = {"sum": np.add, "maximum": np.maximum, "minimum": np.minimum, "all": np.logical_and, "any": np.logical_or}


def start(how, dtype):
    if how in STARTS:
        return np.asarray(STARTS[how], dtype)
    lowest, highest = (-math.inf, math.inf) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.asarray(lowest if how == "maximum" else highest, dtype)


def philox(words):
    """Philox-4x32-10 in unbounded integers."""
    c0, c1, c2, c3, k0, k1 = (w.astype(object) for w in words)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ c3 ^ k1, p0 & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0.astype(np.uint32), c1.astype(np.uint32)


def apply(name, dtype, arguments):
    with np.errstate(all="ignore"):
        if name == "cast":
            return arguments[0].astype(dtype)
        if name in ("philox0", "philox1"):
            return philox(np.broadcast_arrays(*arguments))[int(name[-1])]
        if name == "erf":
            return np.vectorize(math.erf, otypes=[dtype])(arguments[0])
        if name in UNARY_IN_FLOAT64:
            return getattr(np, name)(arguments[0].astype(np.float64)).astype(dtype)
        if name == "pow" and dtype.kind == "f":
            return np.power(*(a.astype(np.float64) for a in arguments)).astype(dtype)
        return (UFUNCS.get(name) or getattr(np, name))(*arguments).astype(dtype)


class Evaluation:
    """Arrays, and the values of variables and locals at the point at hand."""

    def __init__(self, nest, arrays):
        self.nest, self.arrays = nest, arrays
        self.values, self.locals = {}, {}

    def run(self):
        for point in itertools.product(*map(range, self.nest.extents)):
            self.values = dict(zip(self.nest.variables, point, strict=True))
            self.locals = {}
            for loop in self.nest.loops:
                self.lane_loop(loop)

    def lane_loop(self, loop):
        self.extent = loop.extent
        self.values[loop.variable] = np.arange(loop.extent)
        for serial in loop.serial:
            for a in serial.accumulates:
                self.locals[a.name] = np.full(loop.extent, start(a.how, a.value.dtype))
            for point in itertools.product(*map(range, serial.extents)):
                self.values |= dict(zip(serial.variables, point, strict=True))
                self.locals |= {
                    a.name: JOINS[a.how](self.locals[a.name], self.value(a.value)) for a in serial.accumulates
                }
                self.store(serial.stores)
        self.store(loop.stores)
        self.locals |= {a.name: self.total(a) for a in loop.accumulates}

    def total(self, a):
        value, lanes = self.value(a.value), np.full(16, start(a.how, a.value.dtype))
        for first in range(0, self.extent, 16):
            part = value[first : first + 16]
            lanes[: len(part)] = JOINS[a.how](lanes[: len(part)], part)
        for half in (8, 4, 2, 1):
            lanes = JOINS[a.how](lanes[:half], lanes[half : 2 * half])
        return lanes[0] if self.extent else start(a.how, a.value.dtype)

    def store(self, stores):
        for s in stores:
            at, value, array = self.position(s.at), self.value(s.value), self.arrays[s.buffer]
            for k, v in zip(at, value, strict=True):
                if 0 <= k < len(array):
                    array[k] = array[k] + v if s.adds else v

    def position(self, at):
        if isinstance(at, Affine):
            return np.broadcast_to(at.start + sum(self.values[n] * s for n, s in at.strides), self.extent)
        return self.value(at)

    def value(self, e):
        return np.broadcast_to(self.compute(e), self.extent)

    def compute(self, e):
        if isinstance(e, Const):
            return np.asarray(e.value, e.dtype)
        if isinstance(e, Variable):
            return np.asarray(self.values[e.name], np.int64)
        if isinstance(e, Local):
            return self.locals[e.name]
        if isinstance(e, (Load, Gather)):
            array = self.arrays[e.buffer]
            at = self.position(e.at) if isinstance(e, Load) else self.value(e.at)
            seen = (at >= 0) & (at < len(array))
            if isinstance(e, Load) and e.where is not None:
                seen = seen & self.value(e.where)
            read = np.full(self.extent, e.other, e.dtype)
            read[seen] = array[at[seen]]
            return read
        return apply(e.name, e.dtype, [self.compute(a) for a in e.arguments])
