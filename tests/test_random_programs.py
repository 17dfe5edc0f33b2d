"""Random programs of core primitives, at awkward sizes, as machine code: the numbers of the reference."""

from __future__ import annotations

import platform
import subprocess
import sys

import numpy as np
import pytest

from chainrule import ops
from chainrule.compiler.compile import compile_graph
from chainrule.graph import evaluate
from programs import BINARY, traced

SIZES = [*range(34), 47, 48, 49, 63, 64, 65, 67]

UNARY = [ops.exp, ops.tanh, ops.relu, ops.negative, ops.abs, ops.sin, ops.square, ops.expm1, ops.cos, ops.floor]


def grown(random, values, size):
    """One more value of rows x size, or of one of the shapes that meet it."""
    a, b = (values[int(random.integers(len(values)))] for _ in range(2))
    kind = int(random.integers(11))
    if kind < 3:
        return UNARY[int(random.integers(len(UNARY)))](a)
    if kind < 6:
        return BINARY[int(random.integers(len(BINARY)))](a, b)
    if kind == 6:
        return a - ops.sum(a, axis=-1, keepdims=True) / 64.0
    if kind == 7:
        return a * ops.mean(a, axis=0, keepdims=True) if a.shape[0] else a
    if kind == 8:
        return ops.tanh(a @ ops.matrix_transpose(b) @ b / 64.0) if a.ndim == 2 and a.shape == b.shape else a + 1.0
    if kind == 9:
        return ops.where(a > b, a, ops.abs(b))
    return ops.flip(a, axis=0) if a.ndim else a


def random_rows(seed: int, rows: int, size: int):
    """A graph of 8 to 20 operations on [rows, size], [size] and [rows, 1], and arrays for its inputs."""
    random = np.random.default_rng([11, seed, rows, size])
    arrays = [random.uniform(-1, 1, s) for s in ((rows, size), (size,), (rows, 1))]

    def program(*inputs):
        values = [inputs[0], inputs[0] * inputs[1], inputs[0] + inputs[2]]
        for _ in range(int(random.integers(8, 20))):
            values.append(grown(random, values, size))
        return [*values[-3:], ops.sum(values[-1], axis=0), ops.sum(values[-2])]

    return traced(program, *arrays), arrays


def agrees(graph, arrays) -> None:
    found = compile_graph(graph, "native")(*arrays)
    for reference, native in zip(evaluate(graph, *arrays), found, strict=True):
        reference, native = np.asarray(reference), np.asarray(native)
        assert (native.shape, native.dtype) == (reference.shape, reference.dtype)
        finite = np.isfinite(reference)
        np.testing.assert_array_equal(finite, np.isfinite(native))
        scale = np.abs(reference[finite]).max(initial=1.0)
        assert (
            np.abs(native[finite] - reference[finite]).max(initial=0.0)
            <= 1e-13 * scale * max(reference.size, 64) ** 0.5
        )


@pytest.mark.parametrize("size", SIZES)
def test_machine_code_of_random_programs_gives_the_numbers_of_the_reference(size):
    for rows in (0, 1, 2, 5, 16, 17, 33)[size % 3 :: 3]:
        agrees(*random_rows(size, rows, size))


PROBE = """
import ctypes, mmap, platform, sys
assert platform.machine().lower() in ("x86_64", "amd64")
# stmxcsr [rdi]; ret
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("0fae1fc3"))
at = ctypes.addressof(ctypes.c_char.from_buffer(code))
read = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint32))(at)
def mode():
    held = ctypes.c_uint32()
    read(held)
    return held.value & ~0x3F  # the low six bits are flags of what has happened, not modes
before = mode()
import numpy as np, chainrule as cr
from chainrule import nn, optim
net = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))
step = cr.step(net, optim.Adam())(lambda x, y: cr.cross_entropy(net(x), y))
x = np.random.default_rng(0).standard_normal((256, 64)).astype("f")
cr.set_threads(2)
for _ in range(3):
    step(x, np.arange(256) % 3)
print(before, mode())
"""


X86_LINUX = sys.platform.startswith("linux") and platform.machine().lower() in ("x86_64", "amd64")


@pytest.mark.skipif(not X86_LINUX, reason="the probe is machine code that reads MXCSR, a register of x86 processors")
def test_training_changes_no_floating_point_mode_of_the_process():
    ended = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    before, after = map(int, ended.stdout.split())
    assert before == after
