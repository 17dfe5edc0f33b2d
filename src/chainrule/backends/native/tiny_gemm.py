"""Machine code for matrix products so small that a call of BLAS would take longer than the product.

Columns go 16 at a time: their part of the right matrix is copied into a buffer on the stack, row by row, whatever its
strides are. Then 8 rows, or 1, are summed over k in ascending order with fused multiply-adds, so an element has the
same bits wherever its row lies.
"""

from __future__ import annotations

LANES = 16
DEEPEST = 64
"""The largest k: DEEPEST x LANES numbers fit the buffer."""
ROWS_AT_ONCE = 8


def tiny_gemm_code(dtype: str) -> str:
    """IR of tiny_gemm_<dtype>(left, its row stride, column stride, right, row stride, column stride, result,
    row stride, rows, columns, k, whether it adds, nothing that it reads)."""
    scalar, suffix = {"float32": ("float", "f32"), "float64": ("double", "f64")}[dtype]
    v, mask = f"<{LANES} x {scalar}>", f"<{LANES} x i1>"
    lanes = ", ".join(f"i64 {i}" for i in range(LANES))
    return f"""
declare {v} @llvm.fma.v{LANES}{suffix}({v}, {v}, {v})
declare {v} @llvm.masked.load.v{LANES}{suffix}.p0(ptr, i32, {mask}, {v})
declare void @llvm.masked.store.v{LANES}{suffix}.p0({v}, ptr, i32, {mask})
declare {v} @llvm.masked.gather.v{LANES}{suffix}.v{LANES}p0(<{LANES} x ptr>, i32, {mask}, {v})

define void @tiny_gemm_{dtype}(ptr %left, i64 %left_row, i64 %left_column, ptr %right, i64 %right_row, \
i64 %right_column, ptr %result, i64 %result_row, i64 %rows, i64 %columns, i64 %k, i1 %adds, ptr %table) {{
entry:
  %buffer = alloca [{DEEPEST} x {v}], align 64
  %contiguous = icmp eq i64 %right_column, 1
  %step0 = insertelement <{LANES} x i64> zeroinitializer, i64 %right_column, i64 0
  %step = shufflevector <{LANES} x i64> %step0, <{LANES} x i64> zeroinitializer, <{LANES} x i32> zeroinitializer
  %offsets = mul <{LANES} x i64> %step, <{lanes}>
  %rows_by_8 = and i64 %rows, -{ROWS_AT_ONCE}
  br label %panel
panel:                                            ; 16 columns a turn
  %column = phi i64 [0, %entry], [%column_next, %panel_done]
  %left_over = sub i64 %columns, %column
  %count0 = insertelement <{LANES} x i64> zeroinitializer, i64 %left_over, i64 0
  %count = shufflevector <{LANES} x i64> %count0, <{LANES} x i64> zeroinitializer, <{LANES} x i32> zeroinitializer
  %mask = icmp slt <{LANES} x i64> <{lanes}>, %count
  %panel_shift = mul i64 %column, %right_column
  %panel_at = getelementptr {scalar}, ptr %right, i64 %panel_shift
  br label %pack
pack:
  %p = phi i64 [0, %panel], [%p_next, %packed]
  %source_shift = mul i64 %p, %right_row
  %source = getelementptr {scalar}, ptr %panel_at, i64 %source_shift
  %target = getelementptr {v}, ptr %buffer, i64 %p
  br i1 %contiguous, label %pack_row, label %pack_column
pack_row:
  %loaded = call {v} @llvm.masked.load.v{LANES}{suffix}.p0(ptr %source, i32 4, {mask} %mask, {v} zeroinitializer)
  br label %packed
pack_column:
  %sources = getelementptr {scalar}, ptr %source, <{LANES} x i64> %offsets
  %gathered = call {v} @llvm.masked.gather.v{LANES}{suffix}.v{LANES}p0(<{LANES} x ptr> %sources, i32 4, \
{mask} %mask, {v} zeroinitializer)
  br label %packed
packed:
  %row_of_right = phi {v} [%loaded, %pack_row], [%gathered, %pack_column]
  store {v} %row_of_right, ptr %target
  %p_next = add i64 %p, 1
  %packing = icmp slt i64 %p_next, %k
  br i1 %packing, label %pack, label %many
{_row_loop("many", "rest", "0", "pack", "%rows_by_8", ROWS_AT_ONCE, v, mask, scalar, suffix)}\
{_row_loop("rest", "panel_done", "%rows_by_8", "many", "%rows", 1, v, mask, scalar, suffix)}\
panel_done:
  %column_next = add i64 %column, {LANES}
  %more_columns = icmp slt i64 %column_next, %columns
  br i1 %more_columns, label %panel, label %end
end:
  ret void
}}
"""


def _row_loop(
    name: str, after: str, first: str, before: str, last: str, rows: int, v: str, mask: str, scalar: str, suffix: str
) -> str:
    """``rows`` rows a turn, from row ``first`` while a row is below ``last``."""
    came_from = "packed" if before == "pack" else before
    lines = [
        f"{name}:",
        f"  %{name}_row = phi i64 [{first}, %{came_from}], [%{name}_next, %{name}_stored]",
        f"  %{name}_more = icmp slt i64 %{name}_row, {last}",
        f"  br i1 %{name}_more, label %{name}_start, label %{after}",
        f"{name}_start:",
    ]
    for r in range(rows):
        lines += [
            f"  %{name}_i{r} = add i64 %{name}_row, {r}",
            f"  %{name}_l{r} = mul i64 %{name}_i{r}, %left_row",
            f"  %{name}_a{r} = getelementptr {scalar}, ptr %left, i64 %{name}_l{r}",
        ]
    lines += [
        f"  br label %{name}_sum",
        f"{name}_sum:",
        f"  %{name}_p = phi i64 [0, %{name}_start], [%{name}_p1, %{name}_sum]",
    ]
    lines += [
        f"  %{name}_s{r} = phi {v} [zeroinitializer, %{name}_start], [%{name}_t{r}, %{name}_sum]" for r in range(rows)
    ]
    lines += [
        f"  %{name}_b_at = getelementptr {v}, ptr %buffer, i64 %{name}_p",
        f"  %{name}_b = load {v}, ptr %{name}_b_at",
        f"  %{name}_shift = mul i64 %{name}_p, %left_column",
    ]
    for r in range(rows):
        lines += [
            f"  %{name}_x_at{r} = getelementptr {scalar}, ptr %{name}_a{r}, i64 %{name}_shift",
            f"  %{name}_x{r} = load {scalar}, ptr %{name}_x_at{r}",
            f"  %{name}_y{r} = insertelement {v} zeroinitializer, {scalar} %{name}_x{r}, i64 0",
            f"  %{name}_z{r} = shufflevector {v} %{name}_y{r}, {v} zeroinitializer, <{LANES} x i32> zeroinitializer",
            f"  %{name}_t{r} = call {v} @llvm.fma.v{LANES}{suffix}({v} %{name}_z{r}, {v} %{name}_b, {v} %{name}_s{r})",
        ]
    lines += [
        f"  %{name}_p1 = add i64 %{name}_p, 1",
        f"  %{name}_go = icmp slt i64 %{name}_p1, %k",
        f"  br i1 %{name}_go, label %{name}_sum, label %{name}_store",
        f"{name}_store:",
    ]
    for r in range(rows):
        lines += [
            f"  %{name}_c{r} = mul i64 %{name}_i{r}, %result_row",
            f"  %{name}_d{r} = add i64 %{name}_c{r}, %column",
            f"  %{name}_o{r} = getelementptr {scalar}, ptr %result, i64 %{name}_d{r}",
        ]
    lines.append(f"  br i1 %adds, label %{name}_add, label %{name}_put")
    lines.append(f"{name}_add:")
    load = f"call {v} @llvm.masked.load.v{LANES}{suffix}.p0"
    for r in range(rows):
        lines.append(f"  %{name}_old{r} = {load}(ptr %{name}_o{r}, i32 4, {mask} %mask, {v} zeroinitializer)")
        lines.append(f"  %{name}_sum{r} = fadd {v} %{name}_old{r}, %{name}_t{r}")
    lines += [f"  br label %{name}_put", f"{name}_put:"]
    for r in range(rows):
        lines.append(f"  %{name}_new{r} = phi {v} [%{name}_t{r}, %{name}_store], [%{name}_sum{r}, %{name}_add]")
    for r in range(rows):
        store = f"call void @llvm.masked.store.v{LANES}{suffix}.p0"
        lines.append(f"  {store}({v} %{name}_new{r}, ptr %{name}_o{r}, i32 4, {mask} %mask)")
    lines += [
        f"  br label %{name}_stored",
        f"{name}_stored:",
        f"  %{name}_next = add i64 %{name}_row, {rows}",
        f"  br label %{name}",
    ]
    return "\n".join(lines) + "\n"
