"""The native loop and its threads: order, bits, waking, forks, stops and gates."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from backends.guard import Guarded, needs_mprotect
from chainrule.backends.native import build, runtime
from chainrule.backends.native.runtime_code import runtime_module
from chainrule.backends.native.table import Block, Gate, Group, Table, Task, pack
from chainrule.errors import ArgumentError
from handwritten import ADD_TO_ELEMENTS, CHECK_ALL, LAG, NOTHING, WHO, address

TESTS = Path(__file__).parent.parent
ALWAYS_SHARED = 1e9  # a cost in ns at which no cost model keeps a group to one thread


@pytest.fixture(autouse=True)
def one_thread_afterwards():
    yield
    runtime.set_threads(1)


def addresses(*arrays: np.ndarray) -> np.ndarray:
    return np.array([a.ctypes.data for a in arrays], np.int64)


def adding(slot: int, amount: int, g0: int, g1: int) -> Task:
    return Task(address(ADD_TO_ELEMENTS), (slot, amount), g0, g1, 0, 1)


def one_by_one(n: int, amount: int = 1) -> Group:
    """n blocks, each of which adds to an element of its own."""
    return Group(tuple(Block((adding(0, amount, i, i + 1),)) for i in range(n)), ALWAYS_SHARED)


def sharing_always(binding: runtime.Binding) -> runtime.Binding:
    """As if a step alone took years, so that sharing is never given up, however busy the machine is."""
    binding.call[10], binding.call[11], binding.call[14] = 1 << 60, 3, 1 << 62
    return binding


def in_a_new_process(text: str) -> str:
    code = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n{text}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_native_package_is_imported_without_llvm():
    names = in_a_new_process("import chainrule, chainrule.backends.native.runtime\nprint('llvmlite' in sys.modules)")
    assert names.strip() == "False"


def test_tasks_of_a_block_and_groups_run_in_order():
    x = np.zeros(4, np.int64)
    double = Block((adding(0, 5, 0, 4), adding(0, -2, 1, 3)))
    assert runtime.run(pack([Group((double,), 0.0), one_by_one(2, 10)]), addresses(x)) == 0
    assert x.tolist() == [15, 13, 3, 5]


def test_an_empty_table_and_a_group_without_blocks_do_nothing():
    x = np.zeros(1, np.int64)
    assert runtime.run(pack([]), addresses(x)) == 0
    assert runtime.run(pack([Group((), ALWAYS_SHARED), Group((Block(()),), 0.0)]), addresses(x)) == 0


def test_a_closed_gate_ends_the_program_and_names_itself():
    x, open_, closed = np.zeros(1, np.int64), np.ones(1, np.bool_), np.zeros(1, np.bool_)
    group = one_by_one(1)
    table = pack([group, Gate(1), group, Gate(2), group])
    assert runtime.run(table, addresses(x, open_, closed)) == 2
    assert x[0] == 2


def test_slots_advance_after_each_step_and_stay_where_a_gate_ended_the_run():
    x, gates = np.zeros(5, np.int64), np.array([1, 1, 1, 0, 1], np.bool_)
    slots = addresses(x, gates)
    status = runtime.run_many(pack([Gate(1), one_by_one(1)]), slots, np.array([8, 1], np.int64), 5)
    assert status == (1, 3)
    assert x.tolist() == [1, 1, 1, 0, 0]
    assert (slots - addresses(x, gates)).tolist() == [24, 3]


def test_zero_steps_do_nothing():
    x = np.zeros(1, np.int64)
    assert runtime.bind(pack([one_by_one(1)]), addresses(x)).run(0) == (0, 0)
    assert x[0] == 0


def test_another_thread_stops_a_run_between_steps():
    x = np.zeros(3, np.int64)
    binding = runtime.bind(pack([one_by_one(3)]), addresses(x))
    timer = threading.Timer(0.05, binding.stop)
    timer.start()
    started = time.monotonic()
    status, steps = binding.run(10**12)
    assert time.monotonic() - started < 30
    timer.join()
    assert status == 0
    assert x.tolist() == [steps] * 3
    assert binding.run(1) == (0, 0)
    binding.resume()
    assert binding.run(1) == (0, 1)


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_every_block_runs_once_before_the_next_group_starts(threads):
    """100,000 groups of 1 to 200 blocks of uneven length; a check between groups finds what is not done."""
    runtime.set_threads(threads)
    draw = random.Random(threads)
    done, expected, wrong, lag = np.zeros(200, np.int64), np.ones(1, np.int64), np.zeros(1, np.int64), np.zeros(200)
    count_to, check = address(LAG), address(CHECK_ALL)
    entries = []
    for i in range(250):
        n = 200 if i % 50 == 0 else draw.choice([1, 2, 3, 4, 7, 12])
        blocks = []
        for b in range(n):
            lagging = Task(count_to, (3, draw.choice([1, 1, 10, 100, 1000])), b, b + 1, 0, 1)
            blocks.append(Block((lagging, adding(0, 1, b, b + 1))))
        entries.append(Group(tuple(blocks), ALWAYS_SHARED))
        entries.append(Group((Block((Task(check, (0, 1, n, 2), 0, 1, 0, 1),)),), 0.0))
    binding = sharing_always(runtime.bind(pack(entries), addresses(done, expected, wrong, lag)))
    assert binding.run(400) == (0, 400)
    assert wrong[0] == 0
    assert not done.any()


@needs_mprotect
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_touching_changes_nothing_and_stays_inside(dtype, at_end):
    runtime.set_threads(2)
    function = build.load([runtime_module()])["chainrule_touch"]
    draw, size = np.random.default_rng(0), np.dtype(dtype).itemsize
    for rows, columns in [(1, 1), (1, 15), (7, 16), (3, 17), (64, 64), (5, 100), (33, 1), (0, 5), (4, 0)]:
        memory = Guarded(rows * columns * size)
        matrix = memory.array(rows * columns, np.dtype(dtype), at_end)
        matrix[:] = draw.standard_normal(rows * columns)
        before = matrix.tobytes()
        half, side = rows // 2, columns // 2
        params = (0, 0, columns * size, size)
        shares = ((0, half, 0, columns), (half, rows, 0, side), (half, rows, side, columns))
        table = pack([Group(tuple(Block((Task(function, params, *share),)) for share in shares), ALWAYS_SHARED)])
        assert sharing_always(runtime.bind(table, addresses(matrix))).run(20) == (0, 20)
        assert matrix.tobytes() == before


@needs_mprotect
@pytest.mark.parametrize(("threads", "survives"), [(1, True), (2, False)])
def test_touching_stores_where_threads_share_and_only_there(threads, survives):
    """On pages that may only be read: the process ends if anything is stored."""
    ended = subprocess.run([sys.executable, "-c", f"""
import ctypes, mmap, sys
sys.path.insert(0, {str(TESTS)!r})
import numpy as np
from backends.test_runtime import *
page = mmap.mmap(-1, mmap.PAGESIZE)
at = ctypes.addressof(ctypes.c_char.from_buffer(page))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(at), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ) == 0
runtime.set_threads({threads})
task = Task(build.load([runtime_module()])["chainrule_touch"], (0, 0, 64, 4), 0, 3, 0, 16)
table = pack([Group((Block((task,)), Block((task,))), ALWAYS_SHARED)])
sharing_always(runtime.bind(table, np.array([at]))).run(5)
print("survived")
"""], capture_output=True, text=True, timeout=120)  # fmt: skip
    assert ("survived" in ended.stdout) == (ended.returncode == 0) == survives, ended.stderr


def test_results_have_the_same_bits_for_any_number_of_threads():
    from chainrule.backends.native.gemm import gemm_blocks, gemm_params
    from chainrule.backends.native.products import load_products, pieces_of
    from chainrule.kernel import Gemm, Matrix

    draw = np.random.default_rng(0)
    m, n, k = 150, 517, 91
    left, right = draw.standard_normal((m, k)).astype("f"), draw.standard_normal((k, n)).astype("f")
    result = np.empty((m, n), np.float32)
    product = Gemm(m, n, k, Matrix(0, 0, k, 1), Matrix(1, 0, n, 1), Matrix(2, 0, n, 1))
    code = load_products(pieces_of(product, left.dtype))[left.dtype]
    params = gemm_params(product, code.table)
    blocks = gemm_blocks(product)
    assert len(blocks) >= 2
    table = pack([Group(tuple(Block((Task(code.task, params, *b),)) for b in blocks), ALWAYS_SHARED)])
    binding = sharing_always(runtime.bind(table, addresses(left, right, result)))
    seen = set()
    for threads in (1, 2, 3, 4):
        runtime.set_threads(threads)
        for _ in range(50):
            result[:] = np.nan
            binding.run()
            seen.add(result.tobytes())
    assert len(seen) == 1
    np.testing.assert_allclose(result, left @ right, rtol=0, atol=1e-4)


def threads_seen(binding: runtime.Binding, who: np.ndarray, patience: float) -> int:
    """How many stacks the blocks ran on, looking until there are two or for ``patience`` s."""
    until = time.monotonic() + patience
    stacks: set[int] = set()
    while len(stacks) < 2 and time.monotonic() < until:
        binding.run(20)
        stacks.update((who >> 16).tolist())
    return len(stacks)


def test_other_threads_take_part_in_shared_groups_only():
    runtime.set_threads(2)
    who, lag = np.zeros(32, np.int64), np.zeros(32, np.int64)
    blocks = tuple(
        Block((Task(address(LAG), (1, 20_000), i, 0, 0, 1), Task(address(WHO), (), i, 0, 0, 1))) for i in range(32)
    )
    shared, alone = (pack([Group(blocks, cost)]) for cost in (ALWAYS_SHARED, 0.0))
    assert threads_seen(sharing_always(runtime.bind(shared, addresses(who, lag))), who, 30) == 2
    assert threads_seen(runtime.bind(alone, addresses(who, lag)), who, 0.1) == 1


def test_sharing_is_given_up_where_it_is_slower_than_one_thread():
    """A step is said to take 1 ns alone, so that every shared step looks like a loss."""
    runtime.set_threads(2)
    who, lag = np.zeros(32, np.int64), np.zeros(32, np.int64)
    blocks = tuple(
        Block((Task(address(LAG), (1, 20_000), i, 0, 0, 1), Task(address(WHO), (), i, 0, 0, 1))) for i in range(32)
    )
    binding = sharing_always(runtime.bind(pack([Group(blocks, ALWAYS_SHARED)]), addresses(who, lag)))
    binding.call[11] = 1
    binding.run(1)
    given_up_until = binding.call[14]
    assert given_up_until > 0
    binding.run(1)
    assert len(set((who >> 16).tolist())) == 1


def test_two_python_threads_run_their_programs_at_once():
    runtime.set_threads(2)
    arrays = [np.zeros(20, np.int64) for _ in range(3)]
    bindings = [sharing_always(runtime.bind(pack([one_by_one(20)] * 5), addresses(a))) for a in arrays]
    started = [threading.Thread(target=lambda b=b: [b.run(100) for _ in range(20)]) for b in bindings]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(60)
        assert not thread.is_alive()
    for array in arrays:
        assert array.tolist() == [10_000] * 20


def test_python_goes_on_during_a_run():
    x = np.zeros(1, np.int64)
    binding = runtime.bind(pack([one_by_one(1)]), addresses(x))
    thread = threading.Thread(target=binding.run, args=(10**12,))
    thread.start()
    while x[0] < 1000:  # would hang if the run held the interpreter
        time.sleep(0.001)
    binding.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_idle_threads_sleep():
    runtime.set_threads(4)
    x = np.zeros(20, np.int64)
    binding = sharing_always(runtime.bind(pack([one_by_one(20)] * 5), addresses(x)))
    used = []
    for _ in range(5):
        binding.run(50)
        time.sleep(0.02)  # 400 times what a thread spins
        before = time.process_time()
        time.sleep(0.1)
        used.append(time.process_time() - before)
    assert min(used) < 0.005  # one spinning thread would use 0.1; a busy host makes single figures large
    assert x[0] == 1250


def test_fewer_threads_than_before_take_part_and_more_come_back():
    x = np.zeros(50, np.int64)
    binding = sharing_always(runtime.bind(pack([one_by_one(50)] * 3), addresses(x)))
    for n, threads in enumerate((1, 4, 2, 3, 1, 4), start=1):
        runtime.set_threads(threads)
        assert runtime.threads() == threads
        binding.run(100)
        assert x.tolist() == [300 * n] * 50


FORK = """
import os, warnings, numpy as np
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of any fork beside threads
from backends.guard import Guarded, needs_mprotect
from chainrule.backends.native import build, runtime
from chainrule.backends.native.runtime_code import runtime_module
from chainrule.backends.native.table import *
from handwritten import ADD_TO_ELEMENTS, address
runtime.set_threads(3)
add, x = address(ADD_TO_ELEMENTS), np.zeros(40, np.int64)
group = Group(tuple(Block((Task(add, (0, 1), i, i + 1, 0, 1),)) for i in range(40)), 1e9)
binding = runtime.bind(pack([group] * 4), np.array([x.ctypes.data], np.int64))
binding.call[10], binding.call[11], binding.call[14] = 1 << 60, 3, 1 << 62  # always share
binding.run(50)
child = os.fork()
alive = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
binding.run(50)
fine = (x == 400).all()
if child == 0:
    os._exit(0 if fine else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert fine
print("fine")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_runs_with_threads_of_its_own():
    assert in_a_new_process(FORK).strip() == "fine"


def test_a_process_ends_while_its_threads_spin():
    for _ in range(3):
        text = FORK.split("child =")[0]
        assert in_a_new_process(text) == ""


@pytest.mark.parametrize("n", [0, -1, 65, 1.5, True, "2"])
def test_a_number_of_threads_that_cannot_be_meant_is_refused(n):
    with pytest.raises(ArgumentError, match="set_threads takes an integer between 1 and 64"):
        runtime.set_threads(n)


def test_by_default_the_usable_cores_take_part(monkeypatch):
    monkeypatch.setattr(runtime._pool, "wanted", None)
    assert 1 <= runtime.threads() <= (os.cpu_count() or 1)


def test_slots_of_another_type_are_refused():
    with pytest.raises(ArgumentError, match="slots must be one contiguous row of int64"):
        runtime.bind(pack([]), np.zeros(3, np.float64))
    with pytest.raises(ArgumentError, match="advances must be"):
        runtime.bind(pack([]), np.zeros(3, np.int64), np.zeros(2, np.int64))


def test_cheap_groups_and_serial_tables_stay_on_one_thread():
    nothing = Task(address(NOTHING), (), 0, 1, 0, 1)
    blocks = (Block((nothing,)), Block((nothing,)))
    shared: list[Table] = [pack([Group(blocks, cost)]) for cost in (0.0, ALWAYS_SHARED)]
    assert [t.shared for t in shared] == [False, True]
    assert not pack([Group(blocks, ALWAYS_SHARED)], serial=True).shared
