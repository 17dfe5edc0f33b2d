"""IR text -> addresses of machine code: compiled where the cache has none, once a process, never unloaded."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from chainrule.backends.native import cache
from chainrule.backends.native.blas import blas
from chainrule.backends.native.gemm import gemm_code, gemm_name
from chainrule.backends.native.runtime_code import FUNCTIONS, runtime_code
from chainrule.errors import MissingDependencyError

FORMAT = "1"
"""Of how text becomes code here: raise it when `_Machine.compile` changes, so that older entries are strangers. What
else a version of chainrule changes shows in the text, which is part of the key."""


class Code(Protocol):
    """IR of one function, ``nest_<key>``. support: names of definitions it calls, added once to its module."""

    @property
    def key(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def support(self) -> frozenset[str]: ...


_lock = threading.RLock()
_addresses: dict[str, int] = {}


def load(codes: Iterable[Code], definition: Callable[[str], str]) -> dict[str, int]:
    """Key -> address of ``nest_<key>``, with the signature of a task.

    definition: name of a support function -> its IR. MissingDependencyError: llvmlite or OpenBLAS is not installed.
    """
    wanted = {code.key: code for code in codes}
    with _lock:
        modules = {}
        for key, code in wanted.items():
            if f"nest_{key}" not in _addresses:
                support = "\n".join(definition(name) for name in sorted(code.support))
                modules[f"nest_{key}"] = f"{support}\n{code.text}"
        if modules:
            stored = [_object(text) for text in modules.values()]
            _addresses.update(_machine().link(stored, tuple(modules)))
        return {key: _addresses[f"nest_{key}"] for key in wanted}


def runtime_functions() -> dict[str, int]:
    """Name -> address of `runtime_code.FUNCTIONS`."""
    with _lock:
        if FUNCTIONS[0] not in _addresses:
            _addresses.update(_machine().link([_object(runtime_code())], FUNCTIONS))
        return {name: _addresses[name] for name in FUNCTIONS}


def gemm_function(dtype: np.dtype) -> int:
    """Address of the task that multiplies matrices of ``dtype``; its params are `gemm.gemm_params`.

    ArgumentError: dtype is neither float32 nor float64.
    """
    name = gemm_name(dtype)
    with _lock:
        if name not in _addresses:
            _addresses.update(_machine().link([_object(gemm_code(dtype, _machine().packs))], (name,)))
        return _addresses[name]


def _object(text: str) -> bytes:
    """The object file of an IR module, from the cache if it is there."""
    machine = _machine()
    key = hashlib.sha256("\0".join((*machine.identity, text)).encode()).hexdigest()
    stored = cache.load(key)
    if stored is None:
        stored = machine.compile(text)
        cache.store(key, stored)
    return stored


class _Machine:
    """LLVM, ready to make code for this processor."""

    def __init__(self) -> None:
        try:
            import llvmlite.binding as llvm
        except ImportError as error:
            raise MissingDependencyError(
                "the native backend needs LLVM, but the package llvmlite is not installed. Run: pip install "
                "'llvmlite>=0.44', or use backend='reference'."
            ) from error
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.llvm: Any = llvm
        self.cpu, self.features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
        for name, address in {**blas().addresses, **_system_calls()}.items():
            llvm.add_symbol(name, address)

    @property
    def packs(self) -> bool:
        """Whether `packed_gemm` runs here: with AVX-512, and where a function may use 256 KiB of stack unasked."""
        return "+avx512f" in self.features.split(",") and os.name == "posix"

    @functools.cached_property
    def identity(self) -> tuple[str, ...]:
        """What machine code depends on besides its text."""
        from llvmlite import __version__ as llvmlite_version

        version = ".".join(map(str, self.llvm.llvm_version_info))
        triple = self.llvm.get_process_triple()
        return FORMAT, llvmlite_version, version, triple, self.cpu, self.features

    @functools.cached_property
    def target(self) -> Any:
        target = self.llvm.Target.from_triple(self.llvm.get_process_triple())
        # Level 0 aborts the process on masked vectors.
        return target.create_target_machine(cpu=self.cpu, features=self.features, opt=2, jit=True)

    def compile(self, text: str) -> bytes:
        """An object file. No pass optimises but the inlining of what is marked so: IR comes as it is meant to run."""
        llvm = self.llvm
        with llvm.create_context() as context, llvm.parse_assembly(text, context) as module:
            module.verify()
            passes = llvm.create_new_module_pass_manager()
            passes.add_always_inliner_pass()
            passes.run(module, self._pass_builder)
            return self.target.emit_object(module)

    @functools.cached_property
    def _pass_builder(self) -> Any:
        return self.llvm.create_pass_builder(self.target, self.llvm.create_pipeline_tuning_options(speed_level=1))

    def link(self, stored: Iterable[bytes], names: tuple[str, ...]) -> dict[str, int]:
        """Put object files into memory, for as long as the process lives -> addresses of their functions ``names``."""
        llvm = self.llvm
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), self._linking_target())
        for each in stored:
            engine.add_object_file(llvm.ObjectFileRef.from_data(each))
        engine.finalize_object()
        addresses = {name: engine.get_function_address(name) for name in names}
        # Threads may run this code until the process has ended, later than Python would dispose of the engine.
        engine.detach()
        return addresses

    def _linking_target(self) -> Any:
        """A machine of its own for each engine, which takes it over."""
        target = self.llvm.Target.from_triple(self.llvm.get_process_triple())
        return target.create_target_machine(cpu=self.cpu, features=self.features, opt=2, jit=True)


@functools.cache
def _machine() -> _Machine:
    return _Machine()


def _system_calls() -> dict[str, int]:
    """What `runtime_code` needs of the system, by the names it uses."""
    if os.name == "nt":
        kernel = ctypes.CDLL("kernel32")
        return {
            "chainrule_nap": _address(kernel.Sleep),
            "chainrule_clock": _address(kernel.QueryPerformanceCounter),
        }
    library = ctypes.CDLL(None)
    calls = {"chainrule_nap": _address(library.usleep), "chainrule_clock": _address(library.clock_gettime)}
    return {**calls, "chainrule_syscall": _address(library.syscall)} if sys.platform == "linux" else calls


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
