"""Machine code for matrix products with AVX-512: tiles of the result whose sums stay in registers.

A tile is up to 12 rows and one or two vectors of columns. It reads, k by k, a strip of so many rows of the left
operand and a panel of so many columns of the right one. What does not lie close together in memory is first copied so
(Goto & van de Geijn 2008, https://doi.org/10.1145/1356052.1356053, section 4). An element's terms are added in
ascending order of k, in runs that follow from k alone, so its bits do not depend on the block it is computed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

ROWS_PACKED = 264
"""Rows of the left operand that lie packed at once: with DEPTH, what stays in the second cache."""

DEPTH_BYTES = 1024
"""Of k packed at once, in each column: two vectors of columns by so much stay in the first cache."""


NEAR, SHORT, FEW = 1024, 128, 128
"""An operand is read where it lies if its strips or panels are at most NEAR elements apart from k to k; a panel if at
most FEW rows read it; rows apart if k is at most SHORT or no multiple of CROWDED bytes lies between them. Copying costs
more there than it saves, as measured."""

CROWDED = 4096
"""Bytes after which lines share a set of the first cache, which holds 8 of them or 12: fewer than a tile has rows."""

FETCHED_AHEAD = 8
"""Steps of k before a strip or panel is read at which its line is asked for, and so are the lines after the next of
rows that are copied: what does not lie close together may be in another core's cache or further, and no processor
guesses a stride of rows. A step of 784-256-128-10 at 128 rows took 660 us without and 635 with."""


class _Number(NamedTuple):
    """A type of float: its name in IR, in intrinsics, its bytes, and how many rows a tile may have.

    12 x 2 sums, 2 vectors of columns and the row's number fit the 32 registers; a strip is at most a vector wide.
    """

    scalar: str
    suffix: str
    size: int
    heights: tuple[int, ...]

    @property
    def lanes(self) -> int:
        return 64 // self.size

    @property
    def crowded(self) -> int:
        return CROWDED // self.size

    @property
    def depth(self) -> int:
        return DEPTH_BYTES // self.size

    @property
    def vector(self) -> str:
        return f"<{self.lanes} x {self.scalar}>"

    @property
    def mask(self) -> str:
        return f"<{self.lanes} x i1>"


_NUMBERS = {"float32": _Number("float", "f32", 4, (12, 8, 4)), "float64": _Number("double", "f64", 8, (8, 4))}


class Tiles(NamedTuple):
    """Tiles of every height and so many vectors."""

    vectors: int

    def places(self, dtype: str) -> dict[str, int]:
        """Name of each tile -> its place after the first (see `packed_gemm_code`)."""
        heights = _NUMBERS[dtype].heights
        return {f"tile_{dtype}_{h}_{self.vectors}": h - min(heights) + self.vectors - 1 for h in heights}


def tiles_of(dtype: str, widths: Iterable[int]) -> list[Tiles]:
    """The tiles that `packed_gemm` may call for blocks of so many columns."""
    lanes, widths = _NUMBERS[dtype].lanes, list(widths)
    one = any(0 < w % (2 * lanes) <= lanes for w in widths)
    two = any(w > lanes for w in widths)
    return [Tiles(vectors) for vectors, used in ((1, one), (2, two)) if used]


def packed_gemm_code(dtype: str, first_tile: int) -> str:
    """IR of packed_gemm_<dtype>(left, its row stride, column stride, right, row stride, column stride, result,
    row stride, rows, columns, k, whether it adds, table). One stride of each operand is 1.

    table: addresses, where `Tiles.places` say that tiles lie, from ``first_tile`` on.
    """
    number = _NUMBERS[dtype]
    return _declarations(number) + _pack(dtype, number) + _product(dtype, number, first_tile)


def tiles_code(dtype: str, tiles: Tiles) -> str:
    """IR of the tiles."""
    number = _NUMBERS[dtype]
    each = (_tile(dtype, number, height, tiles.vectors) for height in number.heights)
    return _declarations(number) + "".join(each)


def _declarations(number: _Number) -> str:
    v, mask, lanes, suffix = number.vector, number.mask, number.lanes, number.suffix
    return f"""
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
declare i64 @llvm.smin.i64(i64, i64)
declare {v} @llvm.fma.v{lanes}{suffix}({v}, {v}, {v})
declare {v} @llvm.masked.load.v{lanes}{suffix}.p0(ptr, i32, {mask}, {v})
declare void @llvm.masked.store.v{lanes}{suffix}.p0({v}, ptr, i32, {mask})
"""


def _masked(number: _Number, name: str, count: str) -> str:
    """``name``: the lanes below the i64 ``count``."""
    lanes = number.lanes
    numbers = ", ".join(f"i64 {i}" for i in range(lanes))
    return f"""\
  %{name}_0 = insertelement <{lanes} x i64> zeroinitializer, i64 {count}, i64 0
  %{name}_1 = shufflevector <{lanes} x i64> %{name}_0, <{lanes} x i64> zeroinitializer, <{lanes} x i32> zeroinitializer
  %{name} = icmp slt <{lanes} x i64> <{numbers}>, %{name}_1
"""


def _pack(dtype: str, number: _Number) -> str:
    """pack_<dtype>(source, its stride across, its stride along k, how many across, depth, target, step).

    Row k of the target holds the vector across, with anything beyond ``count``, and begins ``step`` after the one
    before; what a row writes beyond its step is overwritten by the next. Up to a vector of rows is written beyond the
    depth.
    """
    v, lanes, scalar = number.vector, number.lanes, number.scalar
    load = f"call {v} @llvm.masked.load.v{lanes}{number.suffix}.p0"
    rows = "".join(
        f"""\
  %is{r} = icmp sgt i64 %count, {r}
  %row{r} = select i1 %is{r}, i64 {r}, i64 0
  %shift{r} = mul i64 %row{r}, %across
  %at{r} = getelementptr {scalar}, ptr %block, i64 %shift{r}
  %ahead{r} = getelementptr {scalar}, ptr %at{r}, i64 {2 * lanes}
  call void @llvm.prefetch.p0(ptr %ahead{r}, i32 0, i32 3, i32 1)
  %t0_{r} = {load}(ptr %at{r}, i32 {number.size}, {number.mask} %below, {v} zeroinitializer)
"""
        for r in range(lanes)
    )
    turned, last = _transposition(number)
    stores = "".join(
        f"""\
  %to{r} = mul i64 %k_{r}, %step
  %target{r} = getelementptr {scalar}, ptr %target, i64 %to{r}
  store {v} %t{last}_{r}, ptr %target{r}, align {number.size}
"""
        for r in range(lanes)
    )
    positions = "".join(f"  %k_{r} = add i64 %k, {r}\n" for r in range(lanes))
    return f"""
define internal void @pack_{dtype}(ptr %source, i64 %across, i64 %along, i64 %count, i64 %depth, ptr %target, \
i64 %step) {{
entry:
  %beside = icmp eq i64 %across, 1
{_masked(number, "valid", "%count")}\
  br i1 %beside, label %copy, label %turn
copy:                                             ; what lies across lies side by side
  %c = phi i64 [0, %entry], [%c_next, %copy]
  %from_shift = mul i64 %c, %along
  %from = getelementptr {scalar}, ptr %source, i64 %from_shift
  %into_shift = mul i64 %c, %step
  %into = getelementptr {scalar}, ptr %target, i64 %into_shift
  %copied = {load}(ptr %from, i32 {number.size}, {number.mask} %valid, {v} zeroinitializer)
  store {v} %copied, ptr %into, align {number.size}
  %c_next = add i64 %c, 1
  %c_more = icmp slt i64 %c_next, %depth
  br i1 %c_more, label %copy, label %end
turn:                                             ; what lies along k does: squares are transposed
  %k = phi i64 [0, %entry], [%k_next, %turn]
  %block = getelementptr {scalar}, ptr %source, i64 %k
  %left = sub i64 %depth, %k
{_masked(number, "below", "%left")}\
{rows}{turned}{positions}{stores}\
  %k_next = add i64 %k, {lanes}
  %k_more = icmp slt i64 %k_next, %depth
  br i1 %k_more, label %turn, label %end
end:
  ret void
}}
"""


def _transposition(number: _Number) -> tuple[str, int]:
    """Shuffles that turn the square of vectors t0_*, and the stage in which the result stands.

    Stage s exchanges, between rows whose numbers differ in bit s alone, the lanes whose numbers differ in that bit.
    """
    v, lanes = number.vector, number.lanes
    lines, stage = [], 0
    while 1 << stage < lanes:
        bit = 1 << stage
        for r in range(lanes):
            low, high = r & ~bit, r | bit
            # Row `low` takes the even blocks of both rows, row `high` the odd ones.
            if r & bit:
                picks = [i | bit if not i & bit else lanes + i for i in range(lanes)]
            else:
                picks = [i if not i & bit else lanes + (i & ~bit) for i in range(lanes)]
            order = ", ".join(f"i32 {p}" for p in picks)
            pair = f"{v} %t{stage}_{low}, {v} %t{stage}_{high}"
            lines.append(f"  %t{stage + 1}_{r} = shufflevector {pair}, <{lanes} x i32> <{order}>\n")
        stage += 1
    return "".join(lines), stage


def _tile(dtype: str, number: _Number, height: int, vectors: int) -> str:
    """tile_<dtype>_<height>_<vectors>(left, its row stride, its stride along k, panel, its stride along k, result, row
    stride, rows, depth, mask of the last vector, adds)."""
    v, lanes, scalar, size = number.vector, number.lanes, number.scalar, number.size
    cells = [(r, c) for r in range(height) for c in range(vectors)]
    sums = "".join(f"  %s{r}_{c} = phi {v} [zeroinitializer, %ask], [%n{r}_{c}, %along]\n" for r, c in cells)
    load = f"call {v} @llvm.masked.load.v{lanes}{number.suffix}.p0"
    columns = "".join(
        f"  %b_at{c} = getelementptr {v}, ptr %b, i64 {c}\n"
        + (
            f"  %b{c} = load {v}, ptr %b_at{c}, align {size}\n"
            if c + 1 < vectors
            else f"  %b{c} = {load}(ptr %b_at{c}, i32 {size}, {number.mask} %mask, {v} zeroinitializer)\n"
        )
        for c in range(vectors)
    )
    distances = "".join(
        f"  %far_{side} = mul i64 %{of}_k, {FETCHED_AHEAD}\n" for side, of in (("a", "left"), ("b", "panel"))
    )
    ahead = _fetched(number, "%b", "b", vectors) + _fetched(number, "%a_at0", "a", 1)
    starts, steps, places = _row_places(scalar, height)
    products = "".join(
        f"""\
  %a{r} = load {scalar}, ptr %a_at{r}
  %w{r} = insertelement {v} zeroinitializer, {scalar} %a{r}, i64 0
  %x{r} = shufflevector {v} %w{r}, {v} zeroinitializer, <{lanes} x i32> zeroinitializer
"""
        + "".join(
            f"  %n{r}_{c} = call {v} @llvm.fma.v{lanes}{number.suffix}({v} %x{r}, {v} %b{c}, {v} %s{r}_{c})\n"
            for c in range(vectors)
        )
        for r in range(height)
    )
    fetches = "".join(
        f"""\
  %fetch{c} = getelementptr {v}, ptr %fetch, i64 {c}
  call void @llvm.prefetch.p0(ptr %fetch{c}, i32 1, i32 3, i32 1)
"""
        for c in range(vectors)
    )
    return f"""
define void @tile_{dtype}_{height}_{vectors}(ptr %left, i64 %left_row, \
i64 %left_k, ptr %panel, i64 %panel_k, ptr %result, i64 %row, i64 %rows, i64 %depth, {number.mask} %mask, i1 %adds) {{
entry:
{starts}{distances}  br label %ask
ask:                                              ; for the lines of the result
  %asked = phi i64 [0, %entry], [%asked_next, %ask]
  %fetch = phi ptr [%result, %entry], [%fetch_next, %ask]
{fetches}\
  %fetch_next = getelementptr {scalar}, ptr %fetch, i64 %row
  %asked_next = add i64 %asked, 1
  %asking = icmp slt i64 %asked_next, {height}
  br i1 %asking, label %ask, label %along
along:
  %k = phi i64 [0, %ask], [%k_next, %along]
  %b = phi ptr [%panel, %ask], [%b_next, %along]
{sums}{steps}{ahead}{columns}{places}{products}\
  %b_next = getelementptr {scalar}, ptr %b, i64 %panel_k
  %k_next = add i64 %k, 1
  %more = icmp slt i64 %k_next, %depth
  br i1 %more, label %along, label %finish
finish:
  %adds_0 = insertelement {number.mask} zeroinitializer, i1 %adds, i64 0
  %old = shufflevector {number.mask} %adds_0, {number.mask} zeroinitializer, <{lanes} x i32> zeroinitializer
  %old_last = and {number.mask} %old, %mask
  br label %put0
{_stored(number, height, vectors)}\
end:
  ret void
}}
"""


def _fetched(number: _Number, now: str, side: str, vectors: int) -> str:
    """Ask for what the tile reads of one operand FETCHED_AHEAD steps of k after what lies at ``now``."""
    lines = [f"  %{side}_far = getelementptr {number.scalar}, ptr {now}, i64 %far_{side}\n"]
    for c in range(vectors):
        lines.append(f"  %{side}_far{c} = getelementptr {number.vector}, ptr %{side}_far, i64 {c}\n")
        lines.append(f"  call void @llvm.prefetch.p0(ptr %{side}_far{c}, i32 0, i32 3, i32 1)\n")
    return "".join(lines)


def _row_places(scalar: str, height: int) -> tuple[str, str, str]:
    """What comes before the loop over k, at its head and inside it, so that %a_at<r> is row r's element.

    Three rows share a pointer: the processor adds the stride once or twice by itself.
    """
    starts, head, places = "  %twice = shl i64 %left_row, 1\n", "", ""
    for r in range(height):
        first = r - r % 3
        if r == first:
            starts += f"  %from{r} = mul i64 %left_row, {r}\n"
            starts += f"  %start{r} = getelementptr {scalar}, ptr %left, i64 %from{r}\n"
            head += f"  %a_at{r} = phi ptr [%start{r}, %ask], [%a_next{r}, %along]\n"
            places += f"  %a_next{r} = getelementptr {scalar}, ptr %a_at{r}, i64 %left_k\n"
        else:
            by = "%left_row" if r == first + 1 else "%twice"
            places += f"  %a_at{r} = getelementptr {scalar}, ptr %a_at{first}, i64 {by}\n"
    return starts, head, places


def _stored(number: _Number, height: int, vectors: int) -> str:
    """The rows of a tile, one after another while there are rows, into the result; added to it in lanes of ``%old``."""
    v, lanes, scalar, size = number.vector, number.lanes, number.scalar, number.size
    load = f"call {v} @llvm.masked.load.v{lanes}{number.suffix}.p0"
    store = f"call void @llvm.masked.store.v{lanes}{number.suffix}.p0"
    lines = []
    for r in range(height):
        above = f"ptr %put_at{r - 1}, i64 %row" if r else "ptr %result, i64 0"
        lines.append(f"put{r}:\n  %put_at{r} = getelementptr {scalar}, {above}\n")
        for c in range(vectors):
            at, last = f"%put_at{r}_{c}", c == vectors - 1
            mask = "%mask" if last else f"<{', '.join(['i1 true'] * lanes)}>"
            old = "%old_last" if last else "%old"
            lines.append(f"  {at} = getelementptr {v}, ptr %put_at{r}, i64 {c}\n")
            lines.append(f"  %old{r}_{c} = {load}(ptr {at}, i32 {size}, {number.mask} {old}, {v} zeroinitializer)\n")
            lines.append(f"  %sum{r}_{c} = fadd {v} %old{r}_{c}, %n{r}_{c}\n")
            lines.append(f"  {store}({v} %sum{r}_{c}, ptr {at}, i32 {size}, {number.mask} {mask})\n")
        if r + 1 == height:
            lines.append("  br label %end\n")
            continue
        lines.append(f"  %put_more{r} = icmp sgt i64 %rows, {r + 1}\n")
        lines.append(f"  br i1 %put_more{r}, label %put{r + 1}, label %end\n")
    return "".join(lines)


def _height(number: _Number, name: str, rows: str) -> str:
    """``name``: the height of the next tile where ``rows`` are left. Of 16 rows, two times 8 beat 12 and 4."""
    *taller, low = number.heights
    lines, chosen = [], str(low)
    for height, least in zip(reversed(taller), (low + 1, max(number.heights[1:]) + 1), strict=False):
        lines.append(f"  %{name}_is{height} = icmp sge i64 {rows}, {least}\n")
        lines.append(f"  %{name}_{height} = select i1 %{name}_is{height}, i64 {height}, i64 {chosen}\n")
        chosen = f"%{name}_{height}"
    lines.append(f"  %{name}_pair = icmp eq i64 {rows}, 16\n")
    lines.append(f"  %{name} = select i1 %{name}_pair, i64 8, i64 {chosen}\n")
    return "".join(lines)


def _product(dtype: str, number: _Number, first_tile: int) -> str:
    scalar, lanes, depth = number.scalar, number.lanes, number.depth
    tallest = max(number.heights)
    strips = (ROWS_PACKED + tallest) * depth + (lanes + 1) * tallest + lanes
    panel = (depth + lanes) * 2 * lanes
    width = 2 * lanes
    return f"""
define void @packed_gemm_{dtype}(ptr %left, i64 %left_row, i64 %left_column, ptr %right, i64 %right_row, \
i64 %right_column, ptr %result, i64 %result_row, i64 %rows, i64 %columns, i64 %k, i1 %adds, ptr %table) {{
entry:
  %strips = alloca [{strips} x {scalar}], align 64
  %packed_panel = alloca [{panel} x {scalar}], align 64
  %k_up = add i64 %k, {depth - 1}
  %runs = sdiv i64 %k_up, {depth}
  %k_up2 = add i64 %k, %runs
  %k_up3 = sub i64 %k_up2, 1
  %run = sdiv i64 %k_up3, %runs
  %beside = icmp eq i64 %left_row, 1
  %near = icmp sle i64 %left_column, {NEAR}
  %strips_lie = and i1 %beside, %near
  %in_rows = icmp eq i64 %left_column, 1
  %short = icmp sle i64 %k, {SHORT}
  %between = and i64 %left_row, {number.crowded - 1}
  %spread = icmp ne i64 %between, 0
  %rows_may_lie = or i1 %short, %spread
  %rows_lie = and i1 %in_rows, %rows_may_lie
  %left_lies = or i1 %strips_lie, %rows_lie
  %right_plain = icmp eq i64 %right_column, 1
  %right_near = icmp sle i64 %right_row, {NEAR}
  %few = icmp sle i64 %rows, {FEW}
  %right_0 = and i1 %right_plain, %right_near
  %right_lies = and i1 %right_0, %few
  br label %deep
deep:                                             ; runs of k of equal length
  %k0 = phi i64 [0, %entry], [%k1, %deep_done]
  %k_left = sub i64 %k, %k0
  %depth = call i64 @llvm.smin.i64(i64 %k_left, i64 %run)
  %further = icmp sgt i64 %k0, 0
  %adding = or i1 %adds, %further
  %left_shift = mul i64 %k0, %left_column
  %left_k = getelementptr {scalar}, ptr %left, i64 %left_shift
  %right_shift = mul i64 %k0, %right_row
  %right_k = getelementptr {scalar}, ptr %right, i64 %right_shift
  br label %tall
tall:                                             ; rows that lie packed at once
  %i0 = phi i64 [0, %deep], [%i1, %tall_done]
  %i_left = sub i64 %rows, %i0
  %packed_rows = call i64 @llvm.smin.i64(i64 %i_left, i64 {ROWS_PACKED})
  br label %pack_strip
pack_strip:                                       ; of one that lies well only a last strip that is not full: a tile
  %p = phi i64 [0, %tall], [%p_next, %strip_done] ; reads all its rows
  %p_left = sub i64 %packed_rows, %p
{_height(number, "p_height", "%p_left")}\
  %p_count = call i64 @llvm.smin.i64(i64 %p_left, i64 %p_height)
  %p_full = icmp sge i64 %p_left, %p_height
  %p_lies = and i1 %left_lies, %p_full
  br i1 %p_lies, label %strip_done, label %copy_strip
copy_strip:
  %p_row = add i64 %i0, %p
  %p_shift = mul i64 %p_row, %left_row
  %p_from = getelementptr {scalar}, ptr %left_k, i64 %p_shift
  %p_at = mul i64 %p, %depth
  %p_to = getelementptr {scalar}, ptr %strips, i64 %p_at
  call void @pack_{dtype}(ptr %p_from, i64 %left_row, i64 %left_column, i64 %p_count, i64 %depth, ptr %p_to, \
i64 %p_height)
  br label %strip_done
strip_done:
  %p_next = add i64 %p, %p_height
  %p_more = icmp slt i64 %p_next, %packed_rows
  br i1 %p_more, label %pack_strip, label %wide
wide:                                             ; columns of a panel
  %j = phi i64 [0, %strip_done], [%j_next, %wide_done]
  %j_left = sub i64 %columns, %j
  %j_count = call i64 @llvm.smin.i64(i64 %j_left, i64 {width})
  %two = icmp sgt i64 %j_count, {lanes}
  %step = select i1 %two, i64 {width}, i64 {lanes}
  %j_shift = mul i64 %j, %right_column
  %j_from = getelementptr {scalar}, ptr %right_k, i64 %j_shift
  %second = sub i64 %j_count, {lanes}
  br i1 %right_lies, label %tiles, label %pack_first
pack_first:
  call void @pack_{dtype}(ptr %j_from, i64 %right_column, i64 %right_row, i64 %j_count, i64 %depth, ptr %packed_panel, \
i64 %step)
  br i1 %two, label %pack_second, label %tiles
pack_second:
  %s_shift = mul i64 %right_column, {lanes}
  %s_from = getelementptr {scalar}, ptr %j_from, i64 %s_shift
  %s_to = getelementptr {scalar}, ptr %packed_panel, i64 {lanes}
  call void @pack_{dtype}(ptr %s_from, i64 %right_column, i64 %right_row, i64 %second, i64 %depth, ptr %s_to, \
i64 %step)
  br label %tiles
tiles:
  %panel = select i1 %right_lies, ptr %j_from, ptr %packed_panel
  %panel_k = select i1 %right_lies, i64 %right_row, i64 %step
  %last_count = select i1 %two, i64 %second, i64 %j_count
{_masked(number, "mask", "%last_count")}\
  %vectors_less_1 = zext i1 %two to i64
  br label %tile
tile:
  %i = phi i64 [0, %tiles], [%i_next, %tile_done]
  %rows_left = sub i64 %packed_rows, %i
{_height(number, "height", "%rows_left")}\
  %strip_at = mul i64 %i, %depth
  %packed_strip = getelementptr {scalar}, ptr %strips, i64 %strip_at
  %row = add i64 %i0, %i
  %own_shift = mul i64 %row, %left_row
  %own_strip = getelementptr {scalar}, ptr %left_k, i64 %own_shift
  %is_full = icmp sge i64 %rows_left, %height
  %in_place = and i1 %left_lies, %is_full
  %strip = select i1 %in_place, ptr %own_strip, ptr %packed_strip
  %strip_k = select i1 %in_place, i64 %left_column, i64 %height
  %strip_row = select i1 %in_place, i64 %left_row, i64 1
  %row_shift = mul i64 %row, %result_row
  %cell_at = add i64 %row_shift, %j
  %cell = getelementptr {scalar}, ptr %result, i64 %cell_at
  %place_0 = add i64 %height, %vectors_less_1
  %place = add i64 %place_0, {first_tile - min(number.heights)}
  %tile_at = getelementptr ptr, ptr %table, i64 %place
  %tile_here = load ptr, ptr %tile_at
  call void %tile_here(ptr %strip, i64 %strip_row, i64 %strip_k, ptr %panel, i64 %panel_k, ptr %cell, \
i64 %result_row, i64 %rows_left, i64 %depth, {number.mask} %mask, i1 %adding)
  br label %tile_done
tile_done:
  %i_next = add i64 %i, %height
  %i_more = icmp slt i64 %i_next, %packed_rows
  br i1 %i_more, label %tile, label %wide_done
wide_done:
  %j_next = add i64 %j, {width}
  %j_more = icmp slt i64 %j_next, %columns
  br i1 %j_more, label %wide, label %tall_done
tall_done:
  %i1 = add i64 %i0, {ROWS_PACKED}
  %tall_more = icmp slt i64 %i1, %rows
  br i1 %tall_more, label %tall, label %deep_done
deep_done:
  %k1 = add i64 %k0, %depth
  %deep_more = icmp slt i64 %k1, %k
  br i1 %deep_more, label %deep, label %end
end:
  ret void
}}
"""
