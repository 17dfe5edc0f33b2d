"""Nests as machine code in this process, run on NumPy arrays."""

import ctypes
import functools

import llvmlite.binding as llvm
import numpy as np

from chainrule.backends.native.emit import NestCode, code_of
from chainrule.kernel import Buffer, Nest

FUNCTION = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 4)
_kept = []
"""Compiled modules live as long as the process: function pointers into them are handed out."""


@functools.cache
def machine() -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=2
    )


def compile_text(text: str, name: str, level: int = 1) -> ctypes._CFuncPtr:
    target = machine()
    module = llvm.parse_assembly(text)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(target, options)
    builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, target)
    engine.finalize_object()
    _kept.append((engine, builder))
    return FUNCTION(engine.get_function_address(name))


_functions: dict[str, ctypes._CFuncPtr] = {}


def function_of(code: NestCode) -> ctypes._CFuncPtr:
    if code.name not in _functions:
        _functions[code.name] = compile_text(code.module.text, code.name)
    return _functions[code.name]


def run(
    nest: Nest, buffers: tuple[Buffer, ...], arrays: list[np.ndarray], points=None, lanes=None, addresses=None
) -> None:
    """Run a nest on flat arrays, one a buffer, in place. points, lanes: ranges; the whole if None."""
    code = code_of(nest, buffers)
    slots = (ctypes.c_void_p * len(buffers))(*(addresses or [a.ctypes.data for a in arrays]))
    params = (ctypes.c_int64 * len(code.params))(*code.params)
    g0, g1 = points or (0, int(np.prod(nest.extents, dtype=np.int64)))
    v0, v1 = lanes or (0, nest.loops[0].extent)
    function_of(code)(ctypes.addressof(slots), ctypes.addressof(params), g0, g1, v0, v1)
