"""IR text -> addresses of machine code: compiled where the cache has none, once a process, never unloaded.

Threads compile what was begun while the caller traces and lowers, and the caller helps when it has to wait.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from chainrule.backends.native import cache
from chainrule.backends.native.blas import blas
from chainrule.backends.native.makers import Makers
from chainrule.errors import MissingDependencyError

FORMAT = "1"
"""Of how text becomes code here: raise it when `_Machine.compile` changes, so that older entries are strangers. What
else a version of chainrule changes shows in the text, which is part of the key."""


class Module(NamedTuple):
    """LLVM IR that is compiled at once, and the names of those of its functions that others call."""

    text: str
    functions: tuple[str, ...]


class Kept(NamedTuple):
    """A module by the key under which the cache keeps its code, and its functions as in `Module`."""

    key: str
    functions: tuple[str, ...]


_lock = threading.RLock()
_addresses: dict[str, int] = {}


def begin(modules: Iterable[Module]) -> None:
    """Let the code of modules be made while the caller goes on.

    MissingDependencyError: llvmlite or OpenBLAS is not installed.
    """
    with _lock:
        for module in modules:
            if module.functions[0] not in _addresses:
                _begin(module.text)


def load(modules: Iterable[Module]) -> dict[str, int]:
    """Name -> address of each function of the modules. Raises as `begin` does."""
    asked = list(modules)
    with _lock:
        missing = {m.functions[0]: m for m in asked if m.functions[0] not in _addresses}
        if missing:
            _link(missing.values())
        return {name: _addresses[name] for m in asked for name in m.functions}


def load_kept(modules: Iterable[Kept]) -> bool:
    """Have the code of modules in memory; whether that can be, as each is there already or in the cache."""
    with _lock:
        missing = [m for m in modules if m.functions[0] not in _addresses]
        stored = [code for m in missing if (code := cache.load(m.key)) is not None]
        if len(stored) < len(missing):
            return False
        if missing:
            _addresses.update(_machine().link(stored, [name for m in missing for name in m.functions]))
        return True


def addresses() -> Mapping[str, int]:
    """Of every function that is in memory."""
    return MappingProxyType(_addresses)


def kept(module: Module) -> Kept:
    """What `load_kept` takes for a module."""
    return Kept(_key(module.text), module.functions)


def identity() -> tuple[str, ...]:
    """What machine code depends on besides its text. Raises as `begin` does."""
    return _machine().identity


def has_wide_registers() -> bool:
    """Whether functions may use AVX-512's 32 registers of 64 bytes, and 256 KiB of stack unasked."""
    return "+avx512f" in _machine().features.split(",") and os.name == "posix"


def _begin(text: str) -> None:
    """Have the object file of an IR module made, unless the cache has it."""
    if text not in _begun:
        _begun[text] = cache.load(_key(text))
        if _begun[text] is None:
            _makers.begin(text)


def _link(modules: Iterable[Module]) -> None:
    """Put modules into memory; their functions have addresses then."""
    modules = list(modules)
    begin(modules)
    stored = [_begun[m.text] or _makers.take(m.text) for m in modules]
    _addresses.update(_machine().link(stored, [name for m in modules for name in m.functions]))
    for module in modules:
        del _begun[module.text]


def _made(text: str) -> bytes:
    """The object file of an IR module, made now."""
    code = _machine().compile(text)
    cache.store(_key(text), code)
    return code


def _key(text: str) -> str:
    return hashlib.sha256("\0".join((*_machine().identity, text)).encode()).hexdigest()


_begun: dict[str, bytes | None] = {}
"""Modules that are not in memory yet: the object file that the cache had, or None for one that `_makers` make."""
_makers = Makers(_made)


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
        self.emit = _unlocked_emit(llvm)
        self.own = threading.local()
        self.cpu, self.features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
        for name, address in {**blas().addresses, **_system_calls()}.items():
            llvm.add_symbol(name, address)

    @functools.cached_property
    def identity(self) -> tuple[str, ...]:
        """What machine code depends on besides its text."""
        from llvmlite import __version__ as llvmlite_version

        version = ".".join(map(str, self.llvm.llvm_version_info))
        triple = self.llvm.get_process_triple()
        return FORMAT, llvmlite_version, version, triple, self.cpu, self.features

    def target(self) -> Any:
        """A new one: a thread's own, or an engine's, which takes it over."""
        target = self.llvm.Target.from_triple(self.llvm.get_process_triple())
        # Level 0 aborts the process on masked vectors.
        return target.create_target_machine(cpu=self.cpu, features=self.features, opt=2, jit=True)

    def compile(self, text: str) -> bytes:
        """An object file. No pass optimises but the inlining of what is marked so: IR comes as it is meant to run."""
        llvm, own = self.llvm, self.own
        if not hasattr(own, "target"):
            own.target = self.target()
            own.passes = llvm.create_pass_builder(own.target, llvm.create_pipeline_tuning_options(speed_level=1))
        with llvm.create_context() as context, llvm.parse_assembly(text, context) as module:
            module.verify()
            passes = llvm.create_new_module_pass_manager()
            passes.add_always_inliner_pass()
            passes.run(module, own.passes)
            return self.emit(own.target, module)

    def link(self, stored: Iterable[bytes], names: Iterable[str]) -> dict[str, int]:
        """Put object files into memory, for as long as the process lives -> addresses of their functions ``names``."""
        llvm = self.llvm
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), self.target())
        for each in stored:
            engine.add_object_file(llvm.ObjectFileRef.from_data(each))
        engine.finalize_object()
        addresses = {name: engine.get_function_address(name) for name in names}
        # Threads may run this code until the process has ended, later than Python would dispose of the engine.
        engine.detach()
        return addresses


def _unlocked_emit(llvm: Any) -> Callable[[Any, Any], bytes]:
    """(target machine, module) -> object file, in as many threads at once as call it.

    llvmlite's own method holds a lock that all its calls share. LLVM needs none for modules of different contexts with
    target machines of their own (LLVM Programmer's Manual, "Threads and LLVM").
    """
    locked = llvm.ffi.lib
    emit = ctypes.CDLL(locked._name, handle=locked._handle).LLVMPY_TargetMachineEmitToMemory
    emit.argtypes = [llvm.ffi.LLVMTargetMachineRef, llvm.ffi.LLVMModuleRef, ctypes.c_int, ctypes.c_void_p]
    emit.restype = llvm.ffi.LLVMMemoryBufferRef

    def emitted(target: Any, module: Any) -> bytes:
        with llvm.ffi.OutputString() as error:
            buffer = emit(target, module, 1, error)
            if not buffer:
                raise RuntimeError(f"LLVM made no code: {error}")
        try:
            return ctypes.string_at(locked.LLVMPY_GetBufferStart(buffer), locked.LLVMPY_GetBufferSize(buffer))
        finally:
            locked.LLVMPY_DisposeMemoryBuffer(buffer)

    return emitted


@functools.cache
def _machine() -> _Machine:
    return _Machine()


def _system_calls() -> dict[str, int]:
    """What `runtime_module` needs of the system, by the names it uses."""
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
