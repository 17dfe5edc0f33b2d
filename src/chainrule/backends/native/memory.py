"""Reading and writing buffers 16 lanes at a time: next to each other, apart, or at computed positions."""

from __future__ import annotations

import numpy as np

from chainrule.backends.native.operations import join
from chainrule.backends.native.vectors import ALL_LANES, BYTES, LANES, POSITIONS, splat, stored, suffix
from chainrule.backends.native.writer import Writer

POINTERS = f"<{LANES} x ptr>"


def from_memory(w: Writer, dtype: np.dtype, lanes: str) -> str:
    """What was read, as values: bytes become bools."""
    return w.value(f"icmp ne <16 x i8> {lanes}, zeroinitializer") if dtype.kind == "b" else lanes


def to_memory(w: Writer, dtype: np.dtype, lanes: str) -> str:
    return w.value(f"zext <16 x i1> {lanes} to <16 x i8>") if dtype.kind == "b" else lanes


def _memory_splat(dtype: np.dtype, value: float | int | bool) -> str:
    return f"splat (i8 {int(bool(value))})" if dtype.kind == "b" else splat(dtype, value)


def load_one(w: Writer, dtype: np.dtype, pointer: str) -> str:
    """One element, in every lane."""
    t = stored(dtype)
    return from_memory(w, dtype, w.splat(t, w.value(f"load {t}, ptr {pointer}, align {BYTES[t]}")))


def load_next(w: Writer, dtype: np.dtype, pointer: str, mask: str, other: float | int | bool) -> str:
    """16 elements next to each other; ``other`` in lanes that are not in the mask, where nothing is read."""
    t = stored(dtype)
    if mask == ALL_LANES:
        return from_memory(w, dtype, w.value(f"load <16 x {t}>, ptr {pointer}, align {BYTES[t]}"))
    read = w.call(
        f"<16 x {t}>",
        f"llvm.masked.load.{suffix(t)}.p0",
        ("ptr", pointer),
        ("i32", str(BYTES[t])),
        ("<16 x i1>", mask),
        (f"<16 x {t}>", _memory_splat(dtype, other)),
    )
    return from_memory(w, dtype, read)


def load_apart(w: Writer, dtype: np.dtype, pointers: str, mask: str, other: float | int | bool) -> str:
    """16 elements, each at its own address."""
    t = stored(dtype)
    read = w.call(
        f"<16 x {t}>",
        f"llvm.masked.gather.{suffix(t)}.v16p0",
        (POINTERS, pointers),
        ("i32", str(BYTES[t])),
        ("<16 x i1>", mask),
        (f"<16 x {t}>", _memory_splat(dtype, other)),
    )
    return from_memory(w, dtype, read)


def apart(w: Writer, dtype: np.dtype, pointer: str, positions: str) -> str:
    """The addresses of elements at ``positions`` (i64 in each lane) from ``pointer``."""
    return w.value(f"getelementptr {stored(dtype)}, ptr {pointer}, {POSITIONS} {positions}")


def first_of(w: Writer, dtype: np.dtype, base: str, positions: str) -> str:
    """The address of lane 0's element. It may be outside the buffer where lane 0 is not in the mask."""
    first = w.value(f"extractelement {POSITIONS} {positions}, i64 0")
    return w.value(f"getelementptr {stored(dtype)}, ptr {base}, i64 {first}")


def inside(w: Writer, positions: str, size: str) -> str:
    """Which lanes hold a position in [0, size). size: operand, i64."""
    return w.value(f"icmp ult {POSITIONS} {positions}, {w.splat('i64', size)}")


def both(w: Writer, mask: str, condition: str) -> str:
    if mask == ALL_LANES:
        return condition
    return mask if condition == ALL_LANES else w.value(f"and <16 x i1> {mask}, {condition}")


FETCHED_AHEAD = 512
"""Bytes before a store at which its line is asked for, to be written. A line that another core has read or written is
fetched long before the store has to wait for it: 64-(64 x 50)-10 at 64 rows took 717 us a step without, 587 with."""


def store_next(w: Writer, dtype: np.dtype, pointer: str, value: str, mask: str, adds: bool) -> None:
    """16 elements next to each other."""
    if adds:
        value = join(w, "sum", dtype, load_next(w, dtype, pointer, mask, 0), value)
    t, lanes = stored(dtype), to_memory(w, dtype, value)
    if mask == ALL_LANES:
        ahead = w.value(f"getelementptr i8, ptr {pointer}, i64 {FETCHED_AHEAD}")
        w.do(f"call void @llvm.prefetch.p0(ptr {ahead}, i32 1, i32 3, i32 1)")
        w.do(f"store <16 x {t}> {lanes}, ptr {pointer}, align {BYTES[t]}")
        return
    w.do(
        f"call void @llvm.masked.store.{suffix(t)}.p0(<16 x {t}> {lanes}, ptr {pointer}, i32 {BYTES[t]}, "
        f"<16 x i1> {mask})"
    )


def store_apart(w: Writer, dtype: np.dtype, pointers: str, value: str, mask: str, adds: bool) -> None:
    """16 elements, each at its own address. Where lanes meet the last one stays; adding, they may not meet."""
    if adds:
        value = join(w, "sum", dtype, load_apart(w, dtype, pointers, mask, 0), value)
    t, lanes = stored(dtype), to_memory(w, dtype, value)
    w.do(
        f"call void @llvm.masked.scatter.{suffix(t)}.v16p0(<16 x {t}> {lanes}, {POINTERS} {pointers}, "
        f"i32 {BYTES[t]}, <16 x i1> {mask})"
    )


def store_one(w: Writer, dtype: np.dtype, pointer: str, value: str, last: str) -> None:
    """Every lane stores to the same element, so the last lane's value stays. last: operand, i64."""
    t, lanes = stored(dtype), to_memory(w, dtype, value)
    one = w.value(f"extractelement <16 x {t}> {lanes}, i64 {last}")
    w.do(f"store {t} {one}, ptr {pointer}, align {BYTES[t]}")


def add_in_order(w: Writer, dtype: np.dtype, base: str, positions: str, value: str, mask: str) -> None:
    """buffer[position] += value, lane after lane, as lanes may meet."""
    t = stored(dtype)
    positions = w.value(f"select <16 x i1> {mask}, {POSITIONS} {positions}, {POSITIONS} splat (i64 -1)")
    places, addends = w.room("i64"), w.room(t)
    w.do(f"store {POSITIONS} {positions}, ptr {places}, align 128")
    w.do(f"store <16 x {t}> {to_memory(w, dtype, value)}, ptr {addends}, align {LANES * BYTES[t]}")
    before, head, add, skip, done = w.block, w.name(), w.name(), w.name(), w.name()
    w.go(head)
    w.label(head)
    lane, lane_phi = w.phi("i64", "0", before)
    at = w.value(f"load i64, ptr {w.value(f'getelementptr i64, ptr {places}, i64 {lane}')}, align 8")
    w.branch(w.value(f"icmp slt i64 {at}, 0"), skip, add)
    w.label(add)
    target = w.value(f"getelementptr {t}, ptr {base}, i64 {at}")
    old = w.value(f"load {t}, ptr {target}, align {BYTES[t]}")
    addend = w.value(f"load {t}, ptr {w.value(f'getelementptr {t}, ptr {addends}, i64 {lane}')}, align {BYTES[t]}")
    adding = {"f": "fadd", "b": "or"}.get(dtype.kind, "add")
    w.do(f"store {t} {w.value(f'{adding} {t} {old}, {addend}')}, ptr {target}, align {BYTES[t]}")
    w.go(skip)
    w.label(skip)
    following = w.value(f"add i64 {lane}, 1")
    w.close(lane_phi, following)
    w.branch(w.value(f"icmp ult i64 {following}, {LANES}"), head, done)
    w.label(done)
