"""LLVM IR of the loop that walks a table, and of the threads that share its groups.

How threads share a group. All words are in ``@pool``. The *claim* word holds (generation, first block left, blocks
left). Whoever runs the program writes the group's description while no block is left, then opens it: next generation,
all blocks left. A thread takes a block by compare-and-swap of the claim word. As the generation comes back only after
2^32 groups, success proves that the description it read belongs to that group, and the group cannot end before the
block is done; so a late thread cannot take a block of another group by mistake. Blocks done are counted; the group ends
when all are.

Threads of even numbers take the first block that is left, those of odd numbers the last. So what one thread wrote in
one group it mostly reads in the next, as blocks lie in the order of memory: a line that another core has written costs
as much time as sixty operations on it.

Nobody waits for a thread that has not claimed anything: the caller takes blocks until none is left, so threads that
are late, asleep or were never started cost nothing but speed. Sleeping and waking follow one pattern, in which one
side writes A and reads B while the other writes B and reads A, all sequentially consistent, so that at least one of
them sees the other; the system's wait then compares the word again under its own lock.
"""

from __future__ import annotations

import functools
import platform
import sys
import time

from chainrule.backends.native.build import Module, begin
from chainrule.memory import LINE

FUTEX_CALL = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}
"""The number of the system call futex on Linux, by machine."""

ALL = (1 << 31) - 1
"""Sleepers to wake: as many as there are."""

# Where a word lives in @pool, in units of 8 bytes; words that different threads write are 64 bytes apart.
CLAIM, DONE, DESCRIPTION, SHARING, PARKED, BELL, OWNER, WAITING, THREADS, PARK_AFTER, WAIT_AFTER = (
    0,
    8,
    16,
    20,
    24,
    32,
    40,
    48,
    56,
    57,
    58,
)

LOSS_BORNE, CREDIT, ALONE_FOR, LONGEST_ALONE, DOUBT_AFTER = 600_000, 2_000_000, 8, 50_000_000, 1_000_000_000
"""When threads stop sharing, in ns; see the comment in ``chainrule_run``."""


def begin_runtime() -> None:
    """Let what every program needs be made while the caller goes on."""
    begin([runtime_module()])


@functools.cache
def runtime_module() -> Module:
    """The functions that run a table.

    chainrule_run(ptr call, i64 steps) -> i64: runs a program; the steps that were completed. call is 16 words:
      groups, their number, starts, tasks, slots, moves (a slot's number and its bytes a step, for each slot that
      moves), their number, the number of the gate that ended it or 0 (written), stop (read between steps; nonzero ends
      the run), whether threads may share groups, and 6 that are zero at first (how well sharing goes).
    chainrule_worker(i64 number) -> ptr: a thread's life; the caller of a program is number 0.
    chainrule_forget(): this is a new process, in which no thread was started.
    chainrule_spin(i64 n): n pauses, to be timed.
    chainrule_touch(slots, params, g0, g1, v0, v1): a task that takes lines of a matrix from other cores.
    chainrule_limits(i64 threads, i64 park, i64 wait): how many threads share groups, the caller counted; the pauses
      before an idle thread parks; the pauses before the caller sleeps at the end of a group.
    """
    text = _POOL + _pause() + _sleep() + _clock() + _TASKS + _TOUCH + _CLAIM + _GROUP + _WORKER + _RUN
    names = ("run", "worker", "forget", "spin", "touch", "limits")
    return Module(text, tuple(f"chainrule_{name}" for name in names))


def _word(name: str, index: int) -> str:
    return f"  %{name} = getelementptr i64, ptr @pool, i64 {index}\n"


_POOL = f"""
@pool = internal global [64 x i64] zeroinitializer, align 64

define void @chainrule_forget() {{
  call void @llvm.memset.p0.i64(ptr @pool, i8 0, i64 512, i1 false)
  ret void
}}

define void @chainrule_limits(i64 %threads, i64 %park, i64 %wait) {{
{_word("t", THREADS)}{_word("p", PARK_AFTER)}{_word("w", WAIT_AFTER)}{_word("bell", BELL)}\
  store atomic i64 %park, ptr %p monotonic, align 8
  store atomic i64 %wait, ptr %w monotonic, align 8
  store atomic i64 %threads, ptr %t seq_cst, align 8
  %rung = atomicrmw add ptr %bell, i32 1 seq_cst
  call void @wake(ptr %bell)
  ret void
}}

define void @chainrule_spin(i64 %n) {{
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  call void @pause()
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}}

declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
"""


def _pause() -> str:
    """Tells the processor that a loop only waits."""
    hint = {
        "x86_64": ("call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()"),
        "aarch64": ("call void @llvm.aarch64.hint(i32 1)", "declare void @llvm.aarch64.hint(i32)"),
    }
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    call, declaration = hint.get(machine, ("fence seq_cst", ""))
    return f"""
define internal void @pause() alwaysinline {{
  {call}
  ret void
}}
{declaration}
"""


def _sleep() -> str:
    """@sleep_while(word, value, microseconds): until woken; not at all if the word differs. @wake(word): all sleepers.

    The one place that depends on the system: Linux has futex; elsewhere a sleeper looks again after ``microseconds``.
    """
    if sys.platform == "linux" and platform.machine() in FUTEX_CALL:
        number = FUTEX_CALL[platform.machine()]
        return f"""
declare i64 @chainrule_syscall(i64, ...)

define internal void @sleep_while(ptr %word, i32 %value, i32 %microseconds) noinline {{
  %r = call i64 (i64, ...) @chainrule_syscall(i64 {number}, ptr %word, i64 128, i32 %value, ptr null)
  ret void
}}

define internal void @wake(ptr %word) noinline {{
  %r = call i64 (i64, ...) @chainrule_syscall(i64 {number}, ptr %word, i64 129, i32 {ALL})
  ret void
}}
"""
    return """
declare void @chainrule_nap(i32)

define internal void @sleep_while(ptr %word, i32 %value, i32 %microseconds) noinline {
  %now = load atomic i32, ptr %word seq_cst, align 8
  %same = icmp eq i32 %now, %value
  br i1 %same, label %nap, label %end
nap:
  call void @chainrule_nap(i32 %microseconds)
  br label %end
end:
  ret void
}

define internal void @wake(ptr %word) {
  ret void
}
"""


def _clock() -> str:
    """@now(): ns of a clock that never goes back."""
    if sys.platform == "win32":  # its counter has run at 10 MHz on every machine since 2018
        return """
declare i32 @chainrule_clock(ptr)

define internal i64 @now() {
  %at = alloca i64
  %r = call i32 @chainrule_clock(ptr %at)
  %ticks = load i64, ptr %at
  %ns = mul i64 %ticks, 100
  ret i64 %ns
}
"""
    return f"""
declare i32 @chainrule_clock(i32, ptr)

define internal i64 @now() {{
  %at = alloca [2 x i64]
  %r = call i32 @chainrule_clock(i32 {time.CLOCK_MONOTONIC}, ptr %at)
  %s = load i64, ptr %at
  %fraction_at = getelementptr i64, ptr %at, i64 1
  %fraction = load i64, ptr %fraction_at
  %whole = mul i64 %s, 1000000000
  %ns = add i64 %whole, %fraction
  ret i64 %ns
}}
"""


_TASKS = """
define internal void @do_tasks(ptr %slots, ptr %first, ptr %end) {
entry:
  %none = icmp eq ptr %first, %end
  br i1 %none, label %done, label %loop
loop:
  %task = phi ptr [%first, %entry], [%next, %loop]
  %function = load ptr, ptr %task
  %p1 = getelementptr i64, ptr %task, i64 1
  %params = load ptr, ptr %p1
  %p2 = getelementptr i64, ptr %task, i64 2
  %g0 = load i64, ptr %p2
  %p3 = getelementptr i64, ptr %task, i64 3
  %g1 = load i64, ptr %p3
  %p4 = getelementptr i64, ptr %task, i64 4
  %v0 = load i64, ptr %p4
  %p5 = getelementptr i64, ptr %task, i64 5
  %v1 = load i64, ptr %p5
  call void %function(ptr %slots, ptr %params, i64 %g0, i64 %g1, i64 %v0, i64 %v1)
  %next = getelementptr i64, ptr %task, i64 6
  %last = icmp eq ptr %next, %end
  br i1 %last, label %done, label %loop
done:
  ret void
}
"""

_TOUCH = f"""
define void @chainrule_touch(ptr %slots, ptr %params, i64 %g0, i64 %g1, i64 %v0, i64 %v1) {{
  ; Rows g0 to g1 and columns v0 to v1 of a matrix. params: its slot, and in bytes where it begins in it, from row to
  ; row, and an element. A store is the only thing that takes a line from a core that has only read it: the first word
  ; of each is stored as it is. The next group, which writes the lines, need not wait for each of them then; this one
  ; does not, as it goes on while stores wait. 64-(64 x 50)-10 at 64 rows took 511 us without and 480 with.
entry:
{_word("sharing_at", SHARING)}  %sharing = load atomic i64, ptr %sharing_at monotonic, align 8
  %p1 = getelementptr i64, ptr %params, i64 1
  %p2 = getelementptr i64, ptr %params, i64 2
  %p3 = getelementptr i64, ptr %params, i64 3
  %slot = load i64, ptr %params
  %begin = load i64, ptr %p1
  %step = load i64, ptr %p2
  %size = load i64, ptr %p3
  %slot_at = getelementptr ptr, ptr %slots, i64 %slot
  %memory = load ptr, ptr %slot_at
  %first_byte = mul i64 %v0, %size
  %end_byte = mul i64 %v1, %size
  %left_at = getelementptr i8, ptr %memory, i64 %begin
  %alone = icmp eq i64 %sharing, 0
  %no_row = icmp sge i64 %g0, %g1
  %no_column = icmp sge i64 %v0, %v1
  %empty = or i1 %no_row, %no_column
  %nothing = or i1 %alone, %empty
  br i1 %nothing, label %end, label %row
row:
  %g = phi i64 [%g0, %entry], [%g_next, %row_done]
  %down = mul i64 %g, %step
  %row_at = getelementptr i8, ptr %left_at, i64 %down
  br label %line
line:
  %byte = phi i64 [%first_byte, %row], [%byte_next, %line]
  %at = getelementptr i8, ptr %row_at, i64 %byte
  %word = load atomic i32, ptr %at monotonic, align 4
  store atomic i32 %word, ptr %at monotonic, align 4
  %byte_next = add i64 %byte, {LINE}
  %more = icmp slt i64 %byte_next, %end_byte
  br i1 %more, label %line, label %row_done
row_done:
  %g_next = add i64 %g, 1
  %rows_more = icmp slt i64 %g_next, %g1
  br i1 %rows_more, label %row, label %end
end:
  ret void
}}
"""

FIRST_BITS, LEFT_BITS = 16, 16
"""Of the claim word, below the generation: the first block that is left, and how many are."""

_LEFT = (1 << LEFT_BITS) - 1
_GENERATION = 1 << (FIRST_BITS + LEFT_BITS)

_CLAIM = f"""
define internal i1 @do_a_block(i1 %from_end) {{
entry:
{_word("claim", CLAIM)}{_word("done_word", DONE)}{_word("waiting", WAITING)}{_word("d0", DESCRIPTION)}\
{_word("d1", DESCRIPTION + 1)}{_word("d2", DESCRIPTION + 2)}{_word("d3", DESCRIPTION + 3)}\
  %c0 = load atomic i64, ptr %claim seq_cst, align 8
  br label %try
try:
  %c = phi i64 [%c0, %entry], [%seen, %take]
  %left = and i64 %c, {_LEFT}
  %none = icmp eq i64 %left, 0
  br i1 %none, label %nothing, label %take
take:
  %tasks = load atomic ptr, ptr %d0 monotonic, align 8
  %starts = load atomic ptr, ptr %d1 monotonic, align 8
  %slots = load atomic ptr, ptr %d2 monotonic, align 8
  %blocks = load atomic i64, ptr %d3 monotonic, align 8
  %by = select i1 %from_end, i64 -1, i64 {(1 << LEFT_BITS) - 1}
  %less = add i64 %c, %by
  %swap = cmpxchg ptr %claim, i64 %c, i64 %less seq_cst seq_cst
  %seen = extractvalue {{ i64, i1 }} %swap, 0
  %mine = extractvalue {{ i64, i1 }} %swap, 1
  br i1 %mine, label %work, label %try
work:
  %above = lshr i64 %c, {LEFT_BITS}
  %front = and i64 %above, {(1 << FIRST_BITS) - 1}
  %others = sub i64 %left, 1
  %skipped = select i1 %from_end, i64 %others, i64 0
  %block = add i64 %front, %skipped
  %s0 = getelementptr i64, ptr %starts, i64 %block
  %s1 = getelementptr i64, ptr %s0, i64 1
  %i0 = load i64, ptr %s0
  %i1 = load i64, ptr %s1
  %o0 = mul i64 %i0, 6
  %o1 = mul i64 %i1, 6
  %first = getelementptr i64, ptr %tasks, i64 %o0
  %end = getelementptr i64, ptr %tasks, i64 %o1
  call void @do_tasks(ptr %slots, ptr %first, ptr %end)
  %blocks32 = trunc i64 %blocks to i32
  %before = atomicrmw add ptr %done_word, i32 1 seq_cst
  %after = add i32 %before, 1
  %all = icmp eq i32 %after, %blocks32
  br i1 %all, label %last, label %something
last:
  %asleep = load atomic i32, ptr %waiting seq_cst, align 8
  %sleeps = icmp ne i32 %asleep, 0
  br i1 %sleeps, label %tell, label %something
tell:
  call void @wake(ptr %done_word)
  br label %something
something:
  ret i1 true
nothing:
  ret i1 false
}}
"""

_GROUP = f"""
define internal void @share_group(ptr %tasks, ptr %starts, ptr %slots, i64 %blocks) {{
entry:
{_word("claim", CLAIM)}{_word("done_word", DONE)}{_word("waiting", WAITING)}{_word("d0", DESCRIPTION)}\
{_word("d1", DESCRIPTION + 1)}{_word("d2", DESCRIPTION + 2)}{_word("d3", DESCRIPTION + 3)}{_word("parked", PARKED)}\
{_word("bell", BELL)}{_word("limit", WAIT_AFTER)}\
  store atomic ptr %tasks, ptr %d0 monotonic, align 8
  store atomic ptr %starts, ptr %d1 monotonic, align 8
  store atomic ptr %slots, ptr %d2 monotonic, align 8
  store atomic i64 %blocks, ptr %d3 monotonic, align 8
  store atomic i32 0, ptr %done_word monotonic, align 8
  %old = load atomic i64, ptr %claim monotonic, align 8
  %generation = and i64 %old, {-_GENERATION}
  %next = add i64 %generation, {_GENERATION}
  %opened = or i64 %next, %blocks
  store atomic i64 %opened, ptr %claim seq_cst, align 8
  %p = load atomic i32, ptr %parked seq_cst, align 8
  %any = icmp ne i32 %p, 0
  br i1 %any, label %ring, label %work
ring:
  store atomic i32 0, ptr %parked seq_cst, align 8
  %rung = atomicrmw add ptr %bell, i32 1 seq_cst
  call void @wake(ptr %bell)
  br label %work
work:
  %did = call i1 @do_a_block(i1 false)
  br i1 %did, label %work, label %spin_start
spin_start:
  %blocks32 = trunc i64 %blocks to i32
  %patience = load atomic i64, ptr %limit monotonic, align 8
  br label %spin
spin:
  %i = phi i64 [0, %spin_start], [%i1, %spin_on]
  %n = load atomic i32, ptr %done_word seq_cst, align 8
  %all = icmp eq i32 %n, %blocks32
  br i1 %all, label %end, label %spin_on
spin_on:
  call void @pause()
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %patience
  br i1 %more, label %spin, label %sleep
sleep:
  store atomic i32 1, ptr %waiting seq_cst, align 8
  %n2 = load atomic i32, ptr %done_word seq_cst, align 8
  %all2 = icmp eq i32 %n2, %blocks32
  br i1 %all2, label %awake, label %doze
doze:
  call void @sleep_while(ptr %done_word, i32 %n2, i32 50)
  br label %sleep
awake:
  store atomic i32 0, ptr %waiting seq_cst, align 8
  br label %end
end:
  ret void
}}
"""

_WORKER = f"""
define ptr @chainrule_worker(i64 %number) {{
entry:
{_word("threads", THREADS)}{_word("claim", CLAIM)}{_word("parked", PARKED)}{_word("bell", BELL)}\
{_word("limit", PARK_AFTER)}\
  %odd = trunc i64 %number to i1
  br label %work
work:
  %heard0 = load atomic i32, ptr %bell seq_cst, align 8
  %members = load atomic i64, ptr %threads seq_cst, align 8
  %member = icmp slt i64 %number, %members
  br i1 %member, label %help, label %rest
rest:                                             ; fewer threads were asked for: sleep until that changes
  call void @sleep_while(ptr %bell, i32 %heard0, i32 100000)
  br label %work
help:
  %did = call i1 @do_a_block(i1 %odd)
  br i1 %did, label %work, label %idle
idle:
  %patience = load atomic i64, ptr %limit monotonic, align 8
  br label %spin
spin:
  %i = phi i64 [0, %idle], [%i1, %spin_on]
  %c = load atomic i64, ptr %claim monotonic, align 8
  %left = and i64 %c, {_LEFT}
  %open = icmp ne i64 %left, 0
  br i1 %open, label %work, label %spin_on
spin_on:
  call void @pause()
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %patience
  br i1 %more, label %spin, label %park
park:
  %heard = load atomic i32, ptr %bell seq_cst, align 8
  store atomic i32 1, ptr %parked seq_cst, align 8
  %c2 = load atomic i64, ptr %claim seq_cst, align 8
  %left2 = and i64 %c2, {_LEFT}
  %open2 = icmp ne i64 %left2, 0
  br i1 %open2, label %work, label %sleep
sleep:
  call void @sleep_while(ptr %bell, i32 %heard, i32 1000)
  %c3 = load atomic i64, ptr %claim seq_cst, align 8
  %left3 = and i64 %c3, {_LEFT}
  %open3 = icmp ne i64 %left3, 0
  br i1 %open3, label %work, label %again
again:
  %now = load atomic i32, ptr %bell seq_cst, align 8
  %same = icmp eq i32 %now, %heard
  br i1 %same, label %park, label %work
}}
"""

_RUN = f"""
define i64 @chainrule_run(ptr %call, i64 %steps) {{
entry:
{_word("owner", OWNER)}{_word("threads", THREADS)}{_word("sharing_at", SHARING)}\
  %groups = load ptr, ptr %call
  %a1 = getelementptr i64, ptr %call, i64 1
  %group_count = load i64, ptr %a1
  %a2 = getelementptr i64, ptr %call, i64 2
  %starts = load ptr, ptr %a2
  %a3 = getelementptr i64, ptr %call, i64 3
  %tasks = load ptr, ptr %a3
  %a4 = getelementptr i64, ptr %call, i64 4
  %slots = load ptr, ptr %a4
  %a5 = getelementptr i64, ptr %call, i64 5
  %moves = load ptr, ptr %a5
  %a6 = getelementptr i64, ptr %call, i64 6
  %move_count = load i64, ptr %a6
  %closed_by = getelementptr i64, ptr %call, i64 7
  %stop = getelementptr i64, ptr %call, i64 8
  %a9 = getelementptr i64, ptr %call, i64 9
  %wants = load i64, ptr %a9
  %alone_at = getelementptr i64, ptr %call, i64 10
  %samples_at = getelementptr i64, ptr %call, i64 11
  %loss_at = getelementptr i64, ptr %call, i64 12
  %until_at = getelementptr i64, ptr %call, i64 13
  %sampled_at = getelementptr i64, ptr %call, i64 14
  %times_at = getelementptr i64, ptr %call, i64 15
  %words = mul i64 %group_count, 6
  %groups_end = getelementptr i64, ptr %groups, i64 %words
  %members = load atomic i64, ptr %threads monotonic, align 8
  %several = icmp sgt i64 %members, 1
  %shareable = icmp ne i64 %wants, 0
  %wanted = and i1 %several, %shareable
  br i1 %wanted, label %ask, label %start
ask:                                              ; one program at a time has the threads; another runs alone
  %swap = cmpxchg ptr %owner, i64 0, i64 1 seq_cst seq_cst
  %got = extractvalue {{ i64, i1 }} %swap, 1
  br label %start
start:
  %shares = phi i1 [false, %entry], [%got, %ask]
  br i1 %shares, label %first_look, label %step
first_look:
  %first_time = call i64 @now()
  br label %step
step:
  %s = phi i64 [0, %start], [0, %first_look], [%s1, %count]
  %time = phi i64 [0, %start], [%first_time, %first_look], [%time1, %count]
  %more = icmp slt i64 %s, %steps
  br i1 %more, label %look, label %finish
look:
  %asked = load atomic i64, ptr %stop monotonic, align 8
  %halt = icmp ne i64 %asked, 0
  br i1 %halt, label %finish, label %decide
decide:                                           ; alone while its time is not known, and after sharing did harm
  %samples = load i64, ptr %samples_at
  %until = load i64, ptr %until_at
  %known = icmp sge i64 %samples, 3
  %again_now = icmp sge i64 %time, %until
  %sensible = and i1 %known, %again_now
  %sharing = and i1 %shares, %sensible
  br i1 %shares, label %tell, label %group
tell:
  %sharing_word = zext i1 %sharing to i64
  store atomic i64 %sharing_word, ptr %sharing_at monotonic, align 8
  br label %group
group:
  %g = phi ptr [%groups, %decide], [%groups, %tell], [%g_next, %group_done]
  %over = icmp eq ptr %g, %groups_end
  br i1 %over, label %advance, label %group_start
group_start:
  %f4 = getelementptr i64, ptr %g, i64 4
  %gate = load i64, ptr %f4
  %f5 = getelementptr i64, ptr %g, i64 5
  %last_field = load i64, ptr %f5
  %is_gate = icmp ne i64 %gate, 0
  br i1 %is_gate, label %test, label %choose
test:
  %gate_slot = getelementptr ptr, ptr %slots, i64 %last_field
  %gate_at = load ptr, ptr %gate_slot
  %byte = load i8, ptr %gate_at
  %closed = icmp eq i8 %byte, 0
  br i1 %closed, label %finish, label %group_done
choose:
  %together = icmp ne i64 %last_field, 0
  %both = and i1 %together, %sharing
  br i1 %both, label %share, label %alone
share:
  %f2 = getelementptr i64, ptr %g, i64 2
  %first_block = load i64, ptr %f2
  %f3 = getelementptr i64, ptr %g, i64 3
  %blocks = load i64, ptr %f3
  %starts_here = getelementptr i64, ptr %starts, i64 %first_block
  call void @share_group(ptr %tasks, ptr %starts_here, ptr %slots, i64 %blocks)
  br label %group_done
alone:
  %t0 = load i64, ptr %g
  %f1 = getelementptr i64, ptr %g, i64 1
  %t1 = load i64, ptr %f1
  %o0 = mul i64 %t0, 6
  %o1 = mul i64 %t1, 6
  %first = getelementptr i64, ptr %tasks, i64 %o0
  %end = getelementptr i64, ptr %tasks, i64 %o1
  call void @do_tasks(ptr %slots, ptr %first, ptr %end)
  br label %group_done
group_done:
  %g_next = getelementptr i64, ptr %g, i64 6
  br label %group
advance:
  %none = icmp eq i64 %move_count, 0
  br i1 %none, label %advanced, label %advance_one
advance_one:
  %k = phi i64 [0, %advance], [%k1, %advance_one]
  %move = getelementptr [2 x i64], ptr %moves, i64 %k
  %slot = load i64, ptr %move
  %slot_at = getelementptr i64, ptr %slots, i64 %slot
  %by_at = getelementptr i64, ptr %move, i64 1
  %at = load i64, ptr %slot_at
  %by = load i64, ptr %by_at
  %moved = add i64 %at, %by
  store i64 %moved, ptr %slot_at
  %k1 = add i64 %k, 1
  %again = icmp slt i64 %k1, %move_count
  br i1 %again, label %advance_one, label %advanced
advanced:
  br i1 %shares, label %judge, label %count
judge:
  ; While another process holds a core, a thread that is put aside with a block in its hands makes all others wait.
  ; So each shared step is held against the time that a step takes alone. Losses above what was gained lately are
  ; followed by ALONE_FOR times as long without sharing, so that they cost at most an eighth of the time; and by twice
  ; as long after each further loss without a gain between them, as there are programs that some machines share well
  ; and others never (64-128-64-10 at 64 rows: 66 us alone and 51 shared on one, 58 and 70 on another).
  %end_time = call i64 @now()
  %took = sub i64 %end_time, %time
  %alone_before = load i64, ptr %alone_at
  br i1 %sharing, label %judge_shared, label %judge_alone
judge_alone:
  %cold = icmp eq i64 %samples, 0
  %drift = lshr i64 %alone_before, 6
  %drifted0 = add i64 %alone_before, %drift
  %drifted = add i64 %drifted0, 1
  %lower = call i64 @llvm.smin.i64(i64 %took, i64 %drifted)
  %alone_now = select i1 %cold, i64 %took, i64 %lower
  store i64 %alone_now, ptr %alone_at
  %samples1 = add i64 %samples, 1
  store i64 %samples1, ptr %samples_at
  store i64 %end_time, ptr %sampled_at
  br label %count
judge_shared:
  %loss_before = load i64, ptr %loss_at
  %lost = sub i64 %took, %alone_before
  %loss0 = add i64 %loss_before, %lost
  %loss = call i64 @llvm.smax.i64(i64 %loss0, i64 {-CREDIT})
  %harm = icmp sgt i64 %loss, {LOSS_BORNE}
  br i1 %harm, label %part, label %doubt
part:
  %times_before = load i64, ptr %times_at
  %times = call i64 @llvm.smax.i64(i64 %times_before, i64 {ALONE_FOR})
  %pause_wanted = mul i64 %loss, %times
  %pause_for = call i64 @llvm.smin.i64(i64 %pause_wanted, i64 {LONGEST_ALONE})
  %twice = shl i64 %times, 1
  %times_next = call i64 @llvm.smin.i64(i64 %twice, i64 {LONGEST_ALONE // LOSS_BORNE})
  store i64 %times_next, ptr %times_at
  %until_new = add i64 %end_time, %pause_for
  store i64 %until_new, ptr %until_at
  store i64 0, ptr %loss_at
  br label %count
doubt:                                            ; now and then a step alone, as the machine may have changed
  store i64 %loss, ptr %loss_at
  %gains = icmp slt i64 %loss, {-LOSS_BORNE}
  %times_held = load i64, ptr %times_at
  %times_kept = select i1 %gains, i64 0, i64 %times_held
  store i64 %times_kept, ptr %times_at
  %sampled = load i64, ptr %sampled_at
  %since = sub i64 %end_time, %sampled
  %old = icmp sgt i64 %since, {DOUBT_AFTER}
  %samples2 = select i1 %old, i64 2, i64 %samples
  store i64 %samples2, ptr %samples_at
  br label %count
count:
  %time1 = phi i64 [%time, %advanced], [%end_time, %judge_alone], [%end_time, %part], [%end_time, %doubt]
  %s1 = add i64 %s, 1
  br label %step
finish:
  %status = phi i64 [0, %step], [0, %look], [%gate, %test]
  store i64 %status, ptr %closed_by
  br i1 %shares, label %release, label %end_run
release:
  store atomic i64 0, ptr %owner seq_cst, align 8
  br label %end_run
end_run:
  ret i64 %s
}}

declare i64 @llvm.smax.i64(i64, i64)
"""
