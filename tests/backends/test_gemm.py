"""Matrix products as tasks, against NumPy."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from backends.guard import SIZES as SIZES_GUARDED
from backends.guard import Guarded, needs_mprotect
from chainrule.backends.native import runtime
from chainrule.backends.native.blas import blas
from chainrule.backends.native.build import has_wide_registers
from chainrule.backends.native.gemm import BLAS, PACKED, PARAMETERS, TINY, gemm_blocks, gemm_params, gemm_way
from chainrule.backends.native.packed_gemm import Tiles
from chainrule.backends.native.products import Loaded, Piece, load_products, pieces_of
from chainrule.backends.native.table import Block, Group, Task, pack
from chainrule.backends.native.tiny_gemm import DEEPEST
from chainrule.errors import ArgumentError, MissingDependencyError
from chainrule.kernel import Gemm, Matrix

SIZES = [
    (1, 1, 1),
    (32, 16, 16),
    (9, 33, 64),
    (8, 16, 65),
    (1, 5, 3),
    (5, 1, 3),
    (3, 5, 1),
    (2, 16, 32),
    (33, 17, 65),
    (64, 130, 70),
    (300, 520, 40),
    (40, 50, 600),
    (300, 45, 90),
    (25, 70, 700),
]


def matrix(slot: int, array: np.ndarray, base: np.ndarray) -> Matrix:
    """Where a [batch, rows, columns] view of ``base`` lies."""
    size = array.dtype.itemsize
    strides = [s // size for s in array.strides]
    start = (array.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // size
    return Matrix(slot, start, strides[1], strides[2], strides[0])


def laid_out(draw, batch, rows, columns, transposed, dtype):
    """(memory, view [batch, rows, columns]) with room around every row, so that strides exceed extents."""
    shape = (batch, columns + 3, rows + 2) if transposed else (batch, rows + 2, columns + 3)
    memory = draw.standard_normal(shape).astype(dtype)
    view = memory.transpose(0, 2, 1) if transposed else memory
    return memory, view[:, 1 : rows + 1, 2 : columns + 2]


def loaded(dtype) -> Loaded:
    """With every piece that this machine has."""
    dtype = np.dtype(dtype)
    parts = ["task", "tiny", *(["packed", Tiles(1), Tiles(2)] if has_wide_registers() else [])]
    return load_products(Piece(dtype.name, part) for part in parts)[dtype]


def multiplied(product: Gemm, dtype, *memories: np.ndarray, blocks=None) -> None:
    code = loaded(dtype)
    params = gemm_params(product, code.table)
    blocks = gemm_blocks(product) if blocks is None else blocks
    group = Group(tuple(Block((Task(code.task, params, *b),)) for b in blocks), 0.0)
    assert runtime.run(pack([group]), np.array([m.ctypes.data for m in memories], np.int64)) == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("m", "n", "k"), SIZES)
def test_products_agree_with_numpy_in_every_layout(m, n, k, dtype):
    draw = np.random.default_rng(m * n * k)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    for batch, left_turned, right_turned, result_turned, adds in itertools.product(
        (1, 3), (False, True), (False, True), (False, True), (False, True)
    ):
        a_memory, a = laid_out(draw, batch, m, k, left_turned, dtype)
        b_memory, b = laid_out(draw, batch, k, n, right_turned, dtype)
        c_memory, c = laid_out(draw, batch, m, n, result_turned, dtype)
        product = Gemm(m, n, k, matrix(0, a, a_memory), matrix(1, b, b_memory), matrix(2, c, c_memory), batch, adds)
        before, around = c.copy(), c_memory.copy()
        around_view = c_memory  # what lies around the result must stay
        multiplied(product, dtype, a_memory, b_memory, c_memory)
        a64, b64 = a.astype("f8"), b.astype("f8")
        exact = a64 @ b64 + (before if adds else 0)
        bound = np.abs(a64) @ np.abs(b64) + np.abs(before)
        assert (np.abs(c - exact) <= tolerance * bound).all()
        c[...] = before
        np.testing.assert_array_equal(around_view, around)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("right_turned", [False, True])
@pytest.mark.parametrize("left_turned", [False, True])
def test_an_element_has_the_same_bits_in_whatever_block_it_is_computed(left_turned, right_turned, dtype):
    m, n, k = 37, 90, 700
    draw = np.random.default_rng(3)
    a, b = (draw.standard_normal(s).astype(dtype) for s in ((k, m) if left_turned else (m, k), (n, k)))
    b = b if right_turned else np.ascontiguousarray(b.T)
    left = Matrix(0, 0, 1, m) if left_turned else Matrix(0, 0, k, 1)
    right = Matrix(1, 0, 1, k) if right_turned else Matrix(1, 0, n, 1)
    product = Gemm(m, n, k, left, right, Matrix(2, 0, n, 1))
    whole, cut = np.empty((m, n), dtype), np.empty((m, n), dtype)
    multiplied(product, dtype, a, b, whole, blocks=[(0, m, 0, n)])
    columns = [(0, 1), (1, 30), (30, 64), (64, n)]
    multiplied(
        product, dtype, a, b, cut, blocks=[(r, s, c, d) for r, s in ((0, 5), (5, 29), (29, m)) for c, d in columns]
    )
    assert gemm_way(product) == PACKED
    np.testing.assert_array_equal(whole, cut)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m", [8, 12, 31, 131])
def test_an_element_has_the_same_bits_however_far_apart_rows_lie(m, dtype):
    draw = np.random.default_rng(m)
    n, k = 72, 700
    a, b = draw.standard_normal((m, k)).astype(dtype), draw.standard_normal((n, k)).astype(dtype)
    found = []
    for row in (k, 1024, 1027):  # rows 4096 bytes apart, or a multiple of them, are copied
        memory = np.full((m, row), np.nan, dtype)
        memory[:, :k] = a
        c = np.empty((m, n), dtype)
        product = Gemm(m, n, k, Matrix(0, 0, row, 1), Matrix(1, 0, 1, k), Matrix(2, 0, n, 1))
        assert gemm_way(product) == PACKED
        multiplied(product, dtype, memory, b, c)
        found.append(c)
    np.testing.assert_allclose(found[0], a @ b.T, rtol=0, atol=1e-3 if dtype == "float32" else 1e-12)
    assert all(np.array_equal(c, found[0]) for c in found)


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0), (64, 64, 0)])
def test_a_size_of_zero_gives_zeros_or_nothing(m, n, k, adds):
    a, b = np.full((m, k), np.nan, "f"), np.full((k, n), np.nan, "f")
    c = np.full((m, n), 7, "f")
    product = Gemm(m, n, k, Matrix(0, 0, k, 1), Matrix(1, 0, n, 1), Matrix(2, 0, n, 1), 1, adds)
    multiplied(product, "f", a, b, c)
    assert (c == (7 if adds else 0)).all()
    multiplied(product, "f", a, b, c, blocks=[(0, 0, 0, n), (0, m, 0, 0)])


@pytest.mark.parametrize("size", [4, 200])
def test_what_was_in_the_result_does_not_matter_unless_it_adds(size):
    a = np.ones((size, size), "f")
    c = np.full((size, size), np.nan, "f")
    multiplied(Gemm(size, size, size, *(Matrix(i, 0, size, 1) for i in range(3))), "f", a, a, c)
    assert (c == size).all()


def test_one_matrix_for_all_entries_of_a_batch_has_a_batch_stride_of_zero():
    draw = np.random.default_rng(0)
    a, b, c = draw.standard_normal((5, 8, 4)), draw.standard_normal((4, 6)), np.empty((5, 8, 6))
    left, right, result = Matrix(0, 0, 4, 1, 32), Matrix(1, 0, 6, 1, 0), Matrix(2, 0, 6, 1, 48)
    multiplied(Gemm(8, 6, 4, left, right, result, 5), "f8", a, b, c)
    np.testing.assert_allclose(c, a @ b, rtol=1e-13)


def test_a_range_of_rows_may_begin_and_end_inside_batch_entries():
    draw = np.random.default_rng(0)
    a, b, c = draw.standard_normal((4, 5, 3)), draw.standard_normal((4, 3, 7)), np.zeros((4, 5, 7))
    product = Gemm(5, 7, 3, Matrix(0, 0, 3, 1, 15), Matrix(1, 0, 7, 1, 21), Matrix(2, 0, 7, 1, 35), 4)
    multiplied(product, "f8", a, b, c, blocks=[(3, 17, 2, 6)])
    expected = np.zeros((20, 7))
    expected[3:17, 2:6] = (a @ b).reshape(20, 7)[3:17, 2:6]
    np.testing.assert_allclose(c.reshape(20, 7), expected, rtol=1e-13)


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize(("m", "n", "k"), [*SIZES, (256, 2048, 2048), (2048, 256, 999), (1, 100_000, 64)])
def test_blocks_cover_the_result_once(m, n, k, batch):
    square = Matrix(0, 0, 1, 1)
    covered = np.zeros((batch * m, n), np.int8)
    for g0, g1, v0, v1 in gemm_blocks(Gemm(m, n, k, square, square, square, batch)):
        assert g0 < g1
        assert v0 < v1
        covered[g0:g1, v0:v1] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("strides", [(6, 2), (0, 1), (2, 1), (-3, 1), (1, -3), (1, 1)])
def test_a_matrix_that_blas_cannot_read_in_place_is_refused(strides):
    fine = Matrix(0, 0, 3, 1)
    with pytest.raises(ArgumentError, match=r"the left matrix of a product, 3 x 3 with strides .* copy it"):
        gemm_params(Gemm(3, 3, 3, Matrix(0, 0, *strides), fine, fine), 0)
    with pytest.raises(ArgumentError, match=r"the result matrix"):
        gemm_params(Gemm(3, 3, 3, fine, fine, Matrix(0, 0, *strides)), 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_tiny_product_has_the_same_bits_in_any_block_of_rows(dtype):
    draw = np.random.default_rng(0)
    a, b = draw.standard_normal((23, 11)).astype(dtype), draw.standard_normal((19, 11)).astype(dtype)
    product = Gemm(23, 19, 11, Matrix(0, 0, 11, 1), Matrix(1, 0, 1, 11), Matrix(2, 0, 19, 1))
    whole, split = np.empty((23, 19), dtype), np.empty((23, 19), dtype)
    multiplied(product, dtype, a, b, whole, blocks=[(0, 23, 0, 19)])
    multiplied(product, dtype, a, b, split, blocks=[(0, 3, 0, 19), (3, 22, 0, 5), (3, 22, 5, 19), (22, 23, 0, 19)])
    assert whole.tobytes() == split.tobytes()


WAYS = {"tiny": TINY, "packed": PACKED, "blas": BLAS}


@needs_mprotect
@pytest.mark.parametrize("at_end", (True, False))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("way", WAYS)
def test_no_product_reads_or_writes_outside_its_matrices(way, dtype, at_end):
    """Every size up to 67 on each side at a time, and sizes around powers of two; both operands plain and turned."""
    dtype, code = np.dtype(dtype), loaded(dtype)
    memories = [Guarded(520 * 72 * dtype.itemsize) for _ in range(3)]
    random = np.random.default_rng(0)
    others = ((3, 5), (17, 33))
    shapes = [(n, a, b) for n in SIZES_GUARDED[1:] for a, b in others if n <= 520]
    shapes = [s for m, n, k in shapes for s in ((m, n, k), (n, m, k), (n, k, m))]
    for m, n, k in shapes:
        for left_turned, right_turned in ((False, False), (False, True), (True, False)):
            if way == "tiny" and k > DEEPEST:
                continue
            left, right, result = (
                memory.array(size, dtype, at_end) for memory, size in zip(memories, (m * k, k * n, m * n), strict=True)
            )
            left[:], right[:] = random.standard_normal(m * k), random.standard_normal(k * n)
            product = Gemm(
                m, n, k,
                Matrix(0, 0, 1, m) if left_turned else Matrix(0, 0, k, 1),
                Matrix(1, 0, 1, k) if right_turned else Matrix(1, 0, n, 1),
                Matrix(2, 0, n, 1),
            )  # fmt: skip
            params = list(gemm_params(product, code.table))
            params[PARAMETERS.index("way")] = WAYS[way]
            task = Task(code.task, tuple(params), 0, m, 0, n)
            group = Group((Block((task,)),), 0.0)
            assert runtime.run(pack([group]), np.array([a.ctypes.data for a in (left, right, result)], np.int64)) == 0
            a = left.reshape(k, m).T if left_turned else left.reshape(m, k)
            b = right.reshape(n, k).T if right_turned else right.reshape(k, n)
            close = 1e-4 if dtype == np.float32 else 1e-12
            np.testing.assert_allclose(result.reshape(m, n), a @ b, rtol=close, atol=close * 30)


def test_products_of_integers_are_refused():
    square = Matrix(0, 0, 3, 1)
    with pytest.raises(ArgumentError, match="float32 or float64, got int64; cast"):
        pieces_of(Gemm(3, 3, 3, square, square, square), np.dtype("i8"))


WITH_NOTHING_ELSE = """
import itertools, numpy as np
from chainrule.backends.native import products, runtime
from chainrule.backends.native.gemm import gemm_blocks, gemm_params
from chainrule.backends.native.places import places_of
from chainrule.backends.native.table import Block, Group, Task, pack
from chainrule.kernel import Gemm, Matrix

draw = np.random.default_rng(0)
sizes = [(8, 16, 32), (600, 8, 300), (64, 64, 64), (1, 300, 70), (100, 17, 700), (50, 40, 1024), (13, 784, 128)]
sizes += [(784, 113, 130), (128, 257, 256)]
ways = set()
for (m, n, k), dtype, left_turned, right_turned in itertools.product(
    sizes, ("float32", "float64"), (False, True), (False, True)
):
    a, b = (draw.standard_normal(s).astype(dtype) for s in ((k, m) if left_turned else (m, k), (k, n)))
    b = np.ascontiguousarray(b.T) if right_turned else b
    left = Matrix(0, 0, 1, m) if left_turned else Matrix(0, 0, k, 1)
    right = Matrix(1, 0, 1, k) if right_turned else Matrix(1, 0, n, 1)
    product = Gemm(m, n, k, left, right, Matrix(2, 0, n, 1))
    places_of(dtype)[:] = 0  # a call of what is not there again ends the process
    pieces = products.pieces_of(product, np.dtype(dtype))
    code = products.load_products(pieces)[np.dtype(dtype)]
    rows = [(r, min(r + 29, m), 0, n) for r in range(0, m, 29)]
    for blocks in (gemm_blocks(product), rows):
        c = np.empty((m, n), dtype)
        tasks = (Task(code.task, gemm_params(product, code.table), *block) for block in blocks)
        group = Group(tuple(Block((task,)) for task in tasks), 0.0)
        runtime.run(pack([group]), np.array([x.ctypes.data for x in (a, b, c)], np.int64))
        left_matrix, right_matrix = a.T if left_turned else a, b.T if right_turned else b
        np.testing.assert_allclose(c, left_matrix @ right_matrix, rtol=0, atol=1e-3 if dtype == "float32" else 1e-11)
    ways.add(frozenset(str(p.part) for p in pieces))
print(len(ways))
"""


def test_a_product_calls_no_piece_that_it_did_not_name():
    result = subprocess.run([sys.executable, "-c", WITH_NOTHING_ELSE], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= (5 if has_wide_registers() else 2)


def test_numpy_keeps_its_own_threads():
    """NumPy's copy of OpenBLAS is asked how many threads it has, before and after ours is loaded."""
    text = """
import ctypes, re, sys, numpy as np
from pathlib import Path
from chainrule.backends.native.blas import blas
maps = Path("/proc/self/maps").read_text()
path = next(p for p in re.findall(r"/\\S+", maps) if "openblas" in p and "numpy" in p)
theirs = ctypes.CDLL(path).scipy_openblas_get_num_threads64_
before = theirs()
assert blas().addresses
print(before, theirs())
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    result = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment, timeout=60)
    if "StopIteration" in result.stderr:
        pytest.skip("this NumPy does not bring an OpenBLAS")
    before, after = result.stdout.split()
    assert before == after != "1", result.stdout + result.stderr


def test_the_kernel_that_runs_is_known():
    assert blas().kernel
    assert blas().version.startswith("OpenBLAS 0.3.")


def test_a_missing_openblas_says_what_to_install(monkeypatch):
    blas.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'scipy-openblas64>=0\.3\.29'"):
        blas()
    monkeypatch.undo()
    blas.cache_clear()
    assert blas().kernel
