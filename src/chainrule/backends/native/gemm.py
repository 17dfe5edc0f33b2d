"""Matrix products as tasks: the parameters of one, its blocks, and the way each is made: tiny, packed, or by BLAS."""

from __future__ import annotations

import math

from chainrule.backends.native.tiny_gemm import DEEPEST
from chainrule.errors import ArgumentError
from chainrule.kernel import Gemm, Matrix

ROW_MAJOR, COLUMN_MAJOR, PLAIN, TRANSPOSED = 101, 102, 111, 112  # CBLAS's own numbers

PARAMETERS = (
    "left_slot", "left_at", "left_row", "left_batch",
    "right_slot", "right_at", "right_column", "right_batch",
    "result_slot", "result_at", "result_row", "result_column", "result_batch",
    "m", "n", "k", "adds", "order", "left_form", "right_form", "left_step", "right_step", "result_step",
    "way", "left_column", "right_row", "table",
)  # fmt: skip
"""What machine code reads, in order. Positions and strides are in elements. table: an address (see `products`)."""


def gemm_params(gemm: Gemm, table: int, base: int = 0) -> tuple[int, ...]:
    """The numbers of `PARAMETERS` for a product, whose buffers' slots are numbered from ``base``.

    ArgumentError: a matrix that BLAS cannot read in place, since neither its rows nor its columns are contiguous or
    they overlap; lowering copies such a matrix first.
    """
    order = ROW_MAJOR if _reads_plain(gemm.result, gemm.m, gemm.n) else COLUMN_MAJOR
    result_form, result_step = _form("result", gemm.result, gemm.m, gemm.n, order)
    left_form, left_step = _form("left", gemm.left, gemm.m, gemm.k, order)
    right_form, right_step = _form("right", gemm.right, gemm.k, gemm.n, order)
    if result_form == TRANSPOSED:
        raise ArgumentError(f"the result of a matrix product lies at {gemm.result}, which BLAS cannot write in place")
    left, right, result = gemm.left, gemm.right, gemm.result
    return (
        base + left.buffer, left.start, left.row, left.batch,
        base + right.buffer, right.start, right.column, right.batch,
        base + result.buffer, result.start, result.row, result.column, result.batch,
        gemm.m, gemm.n, gemm.k, int(gemm.adds), order, left_form, right_form, left_step, right_step, result_step,
        gemm_way(gemm), left.column, right.row, table,
    )  # fmt: skip


BLAS, TINY, PACKED = 0, 1, 2
"""The ways to make a product. BLAS does it too where the function of another way is not in the table."""


def gemm_way(gemm: Gemm) -> int:
    """The fastest, as measured."""
    most = TINY_WORK if gemm.right.column == 1 else TINY_WORK_TURNED
    work, plain = gemm.m * gemm.n * gemm.k, gemm.result.column == 1
    if work == 0:
        return BLAS
    if work <= most and gemm.k <= DEEPEST and plain and gemm.left.column == 1:
        return TINY
    contiguous = 1 in (gemm.left.row, gemm.left.column) and 1 in (gemm.right.row, gemm.right.column)
    turned = gemm.right.column != 1 and gemm.n >= NARROWEST
    fits = LEAST_PACKED <= work <= MOST_PACKED or (turned and (work < LEAST_PACKED or gemm.m <= MOST_TURNED))
    return PACKED if plain and contiguous and fits else BLAS


def _reads_plain(matrix: Matrix, rows: int, columns: int) -> bool:
    """Whether BLAS can read the matrix as row-major. A stride along a side of at most 1 means nothing."""
    return (matrix.column == 1 or columns <= 1) and (matrix.row >= columns or rows <= 1)


def _form(name: str, matrix: Matrix, rows: int, columns: int, order: int) -> tuple[int, int]:
    """(plain or transposed, leading dimension) of a matrix for BLAS in ``order``."""
    if _reads_plain(matrix, rows, columns):
        step = max(1, columns, matrix.row if rows > 1 else 1)
        return (PLAIN if order == ROW_MAJOR else TRANSPOSED), step
    turned = Matrix(matrix.buffer, matrix.start, matrix.column, matrix.row)
    if _reads_plain(turned, columns, rows):
        step = max(1, rows, matrix.column if columns > 1 else 1)
        return (TRANSPOSED if order == ROW_MAJOR else PLAIN), step
    raise ArgumentError(
        f"the {name} matrix of a product, {rows} x {columns} with strides {matrix.row} and {matrix.column}, has "
        "neither contiguous rows nor contiguous columns: copy it into a buffer of its own first"
    )


TINY_WORK, TINY_WORK_TURNED = 1 << 13, 1 << 15
"""Multiplications up to which `tiny_gemm` takes less time than OpenBLAS: with the right matrix plain, or transposed."""
LEAST_PACKED, MOST_PACKED = 1 << 20, 1 << 27
"""Multiplications between which `packed_gemm` takes less time than OpenBLAS; below them only where the right matrix is
transposed and not narrow, which OpenBLAS's routines for small matrices make slower: 32 x 64 x 64 ran at 73 and
43 GFLOP/s, but 64 x 10 x 128 at 42 and 72."""
MOST_TURNED = 1024
"""Rows up to which it does for any transposed right matrix, which OpenBLAS packs more slowly: 256 x 512 x 2048 ran at
104 and 96 GFLOP/s, 64 x 2048 x 2048 at 86 and 70, but 2048 x 1024 x 1024 at 99 and 102."""
PARTS = ((1 << 20, 1), (1 << 27, 2), (1 << 31, 4))
"""(multiplications, parts): a product of fewer multiplications is cut into so many blocks, a larger into MOST_PARTS.

OpenBLAS packs both operands anew for each block, so blocks cost speed: 784 x 256 weights at 128 rows ran at 77, 72, 63
and 55 GFLOP/s in 1, 2, 4 and 8 blocks, a 64 x 64 layer at 31 and 21 in 1 and 2."""
PARTS_OF_ROWS = ((1 << 22, 1), (1 << 27, 4))
"""The same for sums over the rows of a batch, for which little is packed: more blocks than threads, so that a core that
something else slows down leaves more of them to the others."""
MOST_PARTS = 8
NARROWEST = 16
"""Cuts fall on multiples of this many columns or rows, so that vectors are whole."""


def gemm_blocks(gemm: Gemm) -> tuple[tuple[int, int, int, int], ...]:
    """Ranges (g0, g1, v0, v1) that cover the result once. They follow from the shape alone, never from the threads.

    Whole batch entries where there are several; otherwise cuts along the longer side of the result, but along rows for
    a sum over the rows of a batch, a weight's gradient: gate and update then walk its memory in the same order.
    """
    rows = gemm.batch * gemm.m
    if rows == 0 or gemm.n == 0:
        return ()
    work = gemm.batch * gemm.m * gemm.n * gemm.k
    sums_rows = gemm.left.column != 1
    parts = next((parts for most, parts in (PARTS_OF_ROWS if sums_rows else PARTS) if work < most), MOST_PARTS)
    if gemm.batch > 1:
        return tuple((a * gemm.m, b * gemm.m, 0, gemm.n) for a, b in _cuts(gemm.batch, parts, 1))
    if gemm.n >= gemm.m and not sums_rows:
        return tuple((0, rows, a, b) for a, b in _cuts(gemm.n, parts, NARROWEST))
    return tuple((a, b, 0, gemm.n) for a, b in _cuts(rows, parts, NARROWEST))


def _cuts(length: int, parts: int, least: int) -> list[tuple[int, int]]:
    """[0, length) in at most ``parts`` ranges of equal length, a multiple of ``least`` each but the last."""
    each = math.ceil(math.ceil(length / parts) / least) * least
    return [(a, min(a + each, length)) for a in range(0, length, each)]


def gemm_code(dtype: str) -> str:
    """IR of chainrule_gemm_<dtype>, with the signature of every task: grid points are rows of all batch entries, lanes
    columns."""
    scalar, routine = {"float32": ("float", "chainrule_sgemm"), "float64": ("double", "chainrule_dgemm")}[dtype]
    loads = "".join(
        f"  %at_{name} = getelementptr i64, ptr %params, i64 {i}\n  %{name} = load i64, ptr %at_{name}\n"
        for i, name in enumerate(PARAMETERS)
    )
    return f"""
declare i64 @llvm.smin.i64(i64, i64)
declare void @{routine}(i32, i32, i32, i64, i64, i64, {scalar}, ptr, i64, ptr, i64, {scalar}, ptr, i64)

define void @chainrule_gemm_{dtype}(ptr %slots, ptr %params, i64 %g0, i64 %g1, i64 %v0, i64 %v1) {{
entry:
{loads}\
  %order32 = trunc i64 %order to i32
  %left_form32 = trunc i64 %left_form to i32
  %right_form32 = trunc i64 %right_form to i32
  %keep = icmp ne i64 %adds, 0
  %beta = select i1 %keep, {scalar} 1.0, {scalar} 0.0
  %columns = sub i64 %v1, %v0
  %functions = inttoptr i64 %table to ptr
  %function_at = getelementptr ptr, ptr %functions, i64 %way
  %function = load ptr, ptr %function_at
  %is_made = icmp ne ptr %function, null
  %left_p = getelementptr ptr, ptr %slots, i64 %left_slot
  %left = load ptr, ptr %left_p
  %right_p = getelementptr ptr, ptr %slots, i64 %right_slot
  %right = load ptr, ptr %right_p
  %result_p = getelementptr ptr, ptr %slots, i64 %result_slot
  %result = load ptr, ptr %result_p
  %right_column0 = mul i64 %v0, %right_column
  %right_0 = add i64 %right_at, %right_column0
  %result_column0 = mul i64 %v0, %result_column
  %result_0 = add i64 %result_at, %result_column0
  %no_rows = icmp sge i64 %g0, %g1
  %no_columns = icmp sle i64 %columns, 0
  %nothing = or i1 %no_rows, %no_columns
  br i1 %nothing, label %end, label %entries
entries:
  %b0 = sdiv i64 %g0, %m
  %b0_rows = mul i64 %b0, %m
  %row0 = sub i64 %g0, %b0_rows
  br label %loop
loop:                                             ; one batch entry's rows a turn
  %g = phi i64 [%g0, %entries], [%g_next, %next]
  %b = phi i64 [%b0, %entries], [%b_next, %next]
  %row = phi i64 [%row0, %entries], [0, %next]
  %left_here = sub i64 %m, %row
  %asked = sub i64 %g1, %g
  %rows = call i64 @llvm.smin.i64(i64 %left_here, i64 %asked)
  %lb = mul i64 %b, %left_batch
  %lr = mul i64 %row, %left_row
  %l1 = add i64 %left_at, %lb
  %l2 = add i64 %l1, %lr
  %left_ptr = getelementptr {scalar}, ptr %left, i64 %l2
  %rb = mul i64 %b, %right_batch
  %r1 = add i64 %right_0, %rb
  %right_ptr = getelementptr {scalar}, ptr %right, i64 %r1
  %cb = mul i64 %b, %result_batch
  %cr = mul i64 %row, %result_row
  %c1 = add i64 %result_0, %cb
  %c2 = add i64 %c1, %cr
  %result_ptr = getelementptr {scalar}, ptr %result, i64 %c2
  br i1 %is_made, label %own, label %blas
own:
  call void %function(ptr %left_ptr, i64 %left_row, i64 %left_column, ptr %right_ptr, i64 %right_row, \
i64 %right_column, ptr %result_ptr, i64 %result_row, i64 %rows, i64 %columns, i64 %k, i1 %keep, ptr %functions)
  br label %next
blas:
  call void @{routine}(i32 %order32, i32 %left_form32, i32 %right_form32, i64 %rows, i64 %columns, i64 %k, \
{scalar} 1.0, ptr %left_ptr, i64 %left_step, ptr %right_ptr, i64 %right_step, {scalar} %beta, ptr %result_ptr, \
i64 %result_step)
  br label %next
next:
  %g_next = add i64 %g, %rows
  %b_next = add i64 %b, 1
  %more = icmp slt i64 %g_next, %g1
  br i1 %more, label %loop, label %end
end:
  ret void
}}
"""
