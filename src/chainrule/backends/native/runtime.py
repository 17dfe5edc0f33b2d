"""Run a table: bind it to memory, repeat it natively, and keep the threads that share its groups."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import threading
import time
from typing import NamedTuple

import numpy as np

from chainrule.backends.native.build import load
from chainrule.backends.native.cores import usable_cores
from chainrule.backends.native.runtime_code import runtime_module
from chainrule.backends.native.table import Table
from chainrule.errors import ArgumentError

MOST_THREADS = 64
PARK_AFTER = 50.0
"""us that an idle thread looks for work before it sleeps."""
WAIT_AFTER = 50.0
"""us that the caller looks whether other threads are done before it sleeps."""
GATE, STOP = 7, 8
"""Words of a call that are read or written from here."""


class Binding(NamedTuple):
    """A table with the memory it works on.

    slots: int64, the address of each buffer, which may be written between runs. moves: int64 [n, 2], the numbers of
    those that move after a step, and by how many bytes. call: the words that native code reads (see
    runtime_code.runtime_module), which lie at call_at.
    """

    table: Table
    slots: np.ndarray
    moves: np.ndarray
    call: ctypes.Array[ctypes.c_int64]
    call_at: int
    native: _Native

    def repeat(self, steps: int) -> int:
        """Repeat the program -> steps that were completed; fewer than asked where a gate or `stop` ended it.

        After each completed step slots move. Other Python threads run meanwhile.
        """
        if self.table.shared and not _pool.ready:
            start_threads()
        return self.native.run(self.call_at, steps)

    def run(self, steps: int = 1) -> tuple[int, int]:
        """The same -> (0 or the number of the gate that ended it, steps that were completed)."""
        done = self.repeat(steps)
        return self.call[GATE], done

    def stop(self) -> None:
        """End the run before its next step, from another thread; stays until `resume`."""
        self.call[STOP] = 1

    def resume(self) -> None:
        self.call[STOP] = 0


def bind(table: Table, slots: np.ndarray, advances: np.ndarray | None = None) -> Binding:
    """Join a table and the addresses of its buffers, which the caller keeps alive.

    advances: int64, the bytes by which each buffer moves after a step; by default none does.
    """
    advances = np.zeros_like(slots) if advances is None else advances
    for name, array in (("slots", slots), ("advances", advances)):
        if array.dtype != np.int64 or array.ndim != 1 or not array.flags.c_contiguous or len(array) != len(slots):
            raise ArgumentError(
                f"{name} must be one contiguous row of int64, one for each of {len(slots)} buffers, got {array.dtype} "
                f"of shape {array.shape}"
            )
    moving = np.flatnonzero(advances)
    moves = np.stack([moving, advances[moving]], axis=1)
    addresses = [table.groups, table.starts, table.tasks, slots, moves]
    groups, starts, tasks, slots_at, moves_at = (a.ctypes.data for a in addresses)
    counts = len(table.groups), len(moves)
    words = [groups, counts[0], starts, tasks, slots_at, moves_at, counts[1], 0, 0, int(table.shared), *[0] * 6]
    call = (ctypes.c_int64 * len(words))(*words)
    return Binding(table, slots, moves, call, ctypes.addressof(call), _native())


def run(table: Table, slots: np.ndarray) -> int:
    """Run a table once -> 0, or the number of the gate that ended it."""
    return bind(table, slots).run()[0]


def run_many(table: Table, slots: np.ndarray, advances: np.ndarray, steps: int) -> tuple[int, int]:
    """Repeat a table -> (0 or the number of the gate that ended it, steps that were completed)."""
    return bind(table, slots, advances).run(steps)


class _Native:
    """The runtime's functions, callable. ctypes lets other Python threads run during a call."""

    def __init__(self) -> None:
        at = load([runtime_module()])
        i64 = ctypes.c_int64
        self.worker = at["chainrule_worker"]
        self.run = ctypes.CFUNCTYPE(i64, ctypes.c_void_p, i64)(at["chainrule_run"])
        self.spin = ctypes.CFUNCTYPE(None, i64)(at["chainrule_spin"])
        self.limits = ctypes.CFUNCTYPE(None, i64, i64, i64)(at["chainrule_limits"])
        self.forget = ctypes.CFUNCTYPE(None)(at["chainrule_forget"])


@functools.cache
def _native() -> _Native:
    return _Native()


class _Pool:
    """The threads of this process: how many are wanted, how many live, and whether they know."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.wanted: int | None = None
        self.started = 1  # the caller
        self.ready = False


_pool = _Pool()


def threads() -> int:
    """How many threads share the work of a program: what was set, else the cores this process may use."""
    return usable_cores() if _pool.wanted is None else _pool.wanted


def set_threads(n: int) -> None:
    """Let ``n`` threads share the work of a program. Results have the same bits for any number.

    ArgumentError: n is no integer between 1 and 64.
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST_THREADS:
        raise ArgumentError(f"set_threads takes an integer between 1 and {MOST_THREADS}, got {n!r}")
    with _pool.lock:
        _pool.wanted = n
        _pool.ready = False


def start_threads() -> None:
    """Make the threads that are wanted and do not live yet, and tell all of them how many take part."""
    native = _native()
    with _pool.lock:
        wanted = min(threads(), MOST_THREADS)
        while _pool.started < wanted:
            _start_thread(native.worker, _pool.started)
            _pool.started += 1
        pauses = _pauses_per_us(native)
        native.limits(wanted, int(PARK_AFTER * pauses), int(WAIT_AFTER * pauses))
        _pool.ready = True


def _pauses_per_us(native: _Native) -> float:
    """The best of some short trials: in the others the system ran something else."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        native.spin(500)
        best = min(best, time.perf_counter() - start)
    return 500 / (best * 1e6)


def _start_thread(worker: int, number: int) -> None:
    """A thread that lives in native code until the process ends; the system ends it with the process."""
    if os.name != "posix":
        import _thread

        _thread.start_new_thread(ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)(worker), (number,))
        return
    library = ctypes.CDLL(None)
    thread = ctypes.c_ulong()
    # Signals are for the threads that Python knows.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        failed = library.pthread_create(ctypes.byref(thread), None, ctypes.c_void_p(worker), ctypes.c_void_p(number))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if failed:
        raise OSError(failed, f"the system started no thread ({os.strerror(failed)}); use chainrule.set_threads(1)")
    library.pthread_detach(thread)


def _forget() -> None:
    """A child made by fork has none of its parent's threads; its first shared program starts new ones."""
    _pool.lock = threading.Lock()
    if _native.cache_info().currsize:
        _native().forget()
    _pool.started, _pool.ready = 1, False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
