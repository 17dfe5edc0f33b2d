"""What the native loop costs: tasks, groups, waking, products, and a step while a neighbour holds a core.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE PYTHONPATH=src:tests python benchmarks/native_runtime.py

Figures of one and of two threads are taken in turns, and the median of the rounds is printed with the least.
"""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from chainrule.backends.native import runtime
from chainrule.backends.native.blas import blas
from chainrule.backends.native.gemm import gemm_blocks, gemm_params
from chainrule.backends.native.products import load_products, pieces_of
from chainrule.backends.native.table import Block, Group, Task, pack
from chainrule.kernel import Gemm, Matrix
from handwritten import LAG, NOTHING, address

ROUNDS = 15
NETWORKS = {
    "MLP 2-16-16-2, batch 32": (32, 2, 16, 16, 2),
    "MLP 64-128-64-10, batch 64": (64, 64, 128, 64, 10),
    "MLP 784-256-128-10, batch 128": (128, 784, 256, 128, 10),
    "MLP 1024-2048-2048-10, batch 256": (256, 1024, 2048, 2048, 10),
}


SUMS = 20
"""Independent sums: more than a processor has multiply-adds under way at a time, and few enough for 32 registers."""


def multiply_adds() -> str:
    """The body of a task: p1 times a multiply-add of 16 lanes on each of SUMS registers; slots[p0] gets the result."""
    v = "<16 x float>"
    phis = "".join(f"  %s{i} = phi {v} [zeroinitializer, %entry], [%n{i}, %loop]\n" for i in range(SUMS))
    steps = "".join(f"  %n{i} = call {v} @llvm.fma.v16f32({v} %s{i}, {v} %x, {v} %x)\n" for i in range(SUMS))
    joined = "".join(f"  %t{i} = fadd {v} %{f't{i - 1}' if i else 'n0'}, %n{i}\n" for i in range(SUMS))
    return f"""
  %p = load i64, ptr %params
  %times_at = getelementptr i64, ptr %params, i64 1
  %times = load i64, ptr %times_at
  %base_at = getelementptr ptr, ptr %slots, i64 %p
  %base = load ptr, ptr %base_at
  %x = load {v}, ptr %base, align 4
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%i_next, %loop]
{phis}{steps}\
  %i_next = add i64 %i, 1
  %more = icmp slt i64 %i_next, %times
  br i1 %more, label %loop, label %end
end:
{joined}\
  store {v} %t{SUMS - 1}, ptr %base, align 4
  ret void
}}
"""


def peak() -> float:
    """GFLOP/s of one core that does nothing but multiply-adds in registers; the best of some short trials."""
    times = 20_000
    task = Task(address(multiply_adds()), (0, times), 0, 1, 0, 1)
    binding = bound([Group((Block((task,)),), 0.0)], np.full(16, 1e-3, np.float32))
    return times * SUMS * 32 / min(timed(binding, 0.005) for _ in range(10)) * 1e-3


def timed(binding: runtime.Binding, seconds: float) -> float:
    """us a step."""
    start = time.perf_counter()
    binding.run(3)
    once = (time.perf_counter() - start) / 3
    steps = max(1, int(seconds / once))
    start = time.perf_counter()
    binding.run(steps)
    return (time.perf_counter() - start) / steps * 1e6


def one_and_two(binding: runtime.Binding) -> str:
    figures: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for threads, taken in figures.items():
            runtime.set_threads(threads)
            taken.append(timed(binding, 0.02))
    medians = {n: statistics.median(taken) for n, taken in figures.items()}
    return "; ".join(f"{n}: {medians[n]:9.2f} us (least {min(t):9.2f})" for n, t in figures.items()) + (
        f"; ratio {medians[2] / medians[1]:.2f} (least {min(figures[2]) / min(figures[1]):.2f})"
    )


def bound(groups: list[Group], *arrays: np.ndarray) -> runtime.Binding:
    return runtime.bind(pack(groups), np.array([a.ctypes.data for a in arrays], np.int64))


def products(batch: int, *widths: int) -> tuple[list[Group], list[np.ndarray], float]:
    """The matrix products of a step, their memory, and their floating-point operations."""
    arrays: list[np.ndarray] = []

    def fresh(*shape: int) -> int:
        arrays.append(np.full(shape, 0.01, np.float32))
        return len(arrays) - 1

    activations = [fresh(batch, w) for w in widths]
    errors = [fresh(batch, w) for w in widths]
    weights = [fresh(o, i) for i, o in itertools.pairwise(widths)]
    gradients = [fresh(o, i) for i, o in itertools.pairwise(widths)]
    steps = []
    for layer, (i, o) in enumerate(itertools.pairwise(widths)):
        left, right = Matrix(activations[layer], 0, i, 1), Matrix(weights[layer], 0, 1, i)
        steps.append(Gemm(batch, o, i, left, right, Matrix(activations[layer + 1], 0, o, 1)))
    for layer in reversed(range(len(weights))):
        i, o = widths[layer], widths[layer + 1]
        left, right = Matrix(errors[layer + 1], 0, 1, o), Matrix(activations[layer], 0, i, 1)
        steps.append(Gemm(o, i, batch, left, right, Matrix(gradients[layer], 0, i, 1)))
        if layer:
            left, right = Matrix(errors[layer + 1], 0, o, 1), Matrix(weights[layer], 0, i, 1)
            steps.append(Gemm(batch, i, o, left, right, Matrix(errors[layer], 0, i, 1)))
    dtype = np.dtype("f")
    code = load_products(piece for product in steps for piece in pieces_of(product, dtype))[dtype]
    groups = []
    for product in steps:
        params = gemm_params(product, code.table)
        blocks = tuple(Block((Task(code.task, params, *b),)) for b in gemm_blocks(product))
        groups.append(Group(blocks, product.m * product.n * product.k / 50))
    return groups, arrays, sum(2.0 * p.m * p.n * p.k for p in steps)


def print_overheads() -> None:
    nothing, lag = address(NOTHING), address(LAG)
    x = np.zeros(1024, np.int64)
    runtime.set_threads(1)
    task = Task(nothing, (), 0, 1, 0, 1)
    alone = bound([Group((Block((task,)),), 0.0)] * 1000, x)
    print(f"a task in a group of its own, one thread: {min(timed(alone, 0.02) for _ in range(ROUNDS)):.1f} ns")
    call = bound([Group((Block((task,)),), 0.0)], x)
    print(f"a call from Python: {least(lambda: call.run(), 20_000):.2f} us")
    for blocks in (2, 4, 16):
        group = Group(tuple(Block((task,)) for _ in range(blocks)), 1e9)
        print(f"100 empty groups of {blocks:2} blocks  {one_and_two(bound([group] * 100, x))}")
    for counts in (500, 2_000, 10_000, 50_000):
        group = Group(tuple(Block((Task(lag, (0, counts), 16 * i, 1, 0, 1),)) for i in range(4)), 1e9)
        print(f"20 groups of 4 x {counts:6} counts  {one_and_two(bound([group] * 20, x))}")


def least(call: Callable[[], object], times: int) -> float:
    """us a call, the least of 5."""
    found = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(times):
            call()
        found.append((time.perf_counter() - start) / times * 1e6)
    return min(found)


def print_waking() -> None:
    """A step of 2 x ~100 us after a pause: how much of the second thread's help is lost to waking it."""
    x = np.zeros(64, np.int64)
    group = Group(tuple(Block((Task(address(LAG), (0, 50_000), 16 * i, 1, 0, 1),)) for i in range(2)), 1e9)
    binding = bound([group], x)
    for threads, pause in ((1, 0.0), (2, 0.0), (2, 0.001)):
        runtime.set_threads(threads)
        found = []
        for _ in range(200):
            time.sleep(pause)
            start = time.perf_counter()
            binding.run()
            found.append((time.perf_counter() - start) * 1e6)
        print(f"{threads} threads, {pause * 1e3:.0f} ms between calls: median {statistics.median(found):.1f} us")


def print_networks(names: list[str]) -> None:
    for name in names:
        groups, arrays, operations = products(*NETWORKS[name])
        binding = bound(groups, *arrays)
        line = one_and_two(binding)
        runtime.set_threads(1)
        best = peak()
        rate = operations / min(timed(binding, 0.02) for _ in range(5)) * 1e-3
        best = max(best, peak())
        print(
            f"products of {name:34} {line}; {rate:.0f} GFLOP/s on one thread, {rate / best:.0%} of its peak {best:.0f}"
        )


def main() -> None:
    print(platform.processor() or platform.machine(), "|", blas().version, "| kernel", blas().kernel)
    print_overheads()
    print_waking()
    print_networks(list(NETWORKS))
    if hasattr(os, "sched_setaffinity"):
        core = max(os.sched_getaffinity(0))
        busy = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
        neighbour = subprocess.Popen([sys.executable, "-c", busy])
        try:
            time.sleep(0.3)
            print(f"with a neighbour that holds core {core}:")
            print_networks(list(NETWORKS)[1:])
        finally:
            neighbour.kill()
            neighbour.wait()


if __name__ == "__main__":
    main()
