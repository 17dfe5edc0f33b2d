"""The text of one LLVM function as it grows: instructions, blocks, sizes from ``params``, buffers from ``slots``."""

from __future__ import annotations

import numpy as np

from chainrule.backends.native.vectors import BYTES, LANES, element, vector


class Writer:
    """Instructions in order. An operand is a string: ``%t7`` or a constant.

    What is read once for the whole call (sizes, base pointers, room on the stack) goes to the function's entry.
    """

    def __init__(self) -> None:
        self.entry: list[str] = []
        self.body: list[str] = []
        self.params: list[int] = []
        self.slots: list[tuple[int, int]] = []
        """(position among the params, buffer): which of them are numbers of buffers, and of which."""
        self.starts: list[tuple[int, int]] = []
        """The same for those that say where in a buffer an access begins."""
        self.origins: list[tuple[int, int]] = []
        """The same for those that say where in a buffer its element 0 lies: in itself at 0, in what a row moves along
        somewhere else."""
        self.support: set[str] = set()
        self.block = "start"
        self._names = 0
        self._bases: dict[int, str] = {}
        self._origins: dict[int, str] = {}

    def name(self) -> str:
        self._names += 1
        return f"t{self._names}"

    def do(self, instruction: str) -> None:
        self.body.append(instruction)

    def value(self, instruction: str) -> str:
        """Add an instruction that gives a value; its operand."""
        result = f"%{self.name()}"
        self.body.append(f"{result} = {instruction}")
        return result

    def label(self, label: str) -> None:
        """Begin a block."""
        self.body.append(f"{label}:")
        self.block = label

    def go(self, label: str) -> None:
        self.do(f"br label %{label}")

    def branch(self, condition: str, then: str, otherwise: str) -> None:
        self.do(f"br i1 {condition}, label %{then}, label %{otherwise}")

    def phi(self, type_: str, first: str, block: str) -> tuple[str, int]:
        """A value that a loop carries, ``first`` when entered from ``block``. ``close`` it with what comes round."""
        result = f"%{self.name()}"
        self.body.append(f"{result} = phi {type_} [ {first}, %{block} ]")
        return result, len(self.body) - 1

    def close(self, phi: int, value: str) -> None:
        """Say what the value of a ``phi`` is when this block jumps back."""
        self.body[phi] += f", [ {value}, %{self.block} ]"

    def at_entry(self, instruction: str) -> str:
        result = f"%{self.name()}"
        self.entry.append(f"{result} = {instruction}")
        return result

    def param(self, value: int) -> str:
        """The operand (i64) that holds a size, stride or index of this statement."""
        at = self.at_entry(f"getelementptr i64, ptr %params, i64 {len(self.params)}")
        self.params.append(int(value))
        return self.at_entry(f"load i64, ptr {at}, align 8")

    def constant(self, dtype: np.dtype, value: float | int) -> str:
        """The operand that holds in every lane a number that is a param, a float as its bits."""
        t = element(dtype)
        bits = f"i{8 * dtype.itemsize}"
        one = self.param(int(np.asarray(value, dtype).view(f"i{dtype.itemsize}")))
        if bits != "i64":
            one = self.at_entry(f"trunc i64 {one} to {bits}")
        if t != bits:
            one = self.at_entry(f"bitcast {bits} {one} to {t}")
        v = vector(dtype)
        first = self.at_entry(f"insertelement {v} poison, {t} {one}, i64 0")
        return self.at_entry(f"shufflevector {v} {first}, {v} poison, <{LANES} x i32> zeroinitializer")

    def start(self, buffer: int, value: int) -> str:
        """The operand (i64) that holds where in a buffer an access begins."""
        self.starts.append((len(self.params), buffer))
        return self.param(value)

    def base(self, buffer: int) -> str:
        """The operand (ptr) of a buffer's memory, to which beginnings of accesses are added."""
        if buffer not in self._bases:
            self.slots.append((len(self.params), buffer))
            slot = self.at_entry(f"getelementptr ptr, ptr %slots, i64 {self.param(buffer)}")
            self._bases[buffer] = self.at_entry(f"load ptr, ptr {slot}, align 8")
        return self._bases[buffer]

    def origin(self, buffer: int, element_type: str) -> str:
        """The operand (ptr) of a buffer's element 0, for positions that are computed."""
        if buffer not in self._origins:
            base = self.base(buffer)
            self.origins.append((len(self.params), buffer))
            self._origins[buffer] = self.at_entry(f"getelementptr {element_type}, ptr {base}, i64 {self.param(0)}")
        return self._origins[buffer]

    def room(self, element_type: str) -> str:
        """A vector's room on the stack."""
        return self.at_entry(f"alloca <{LANES} x {element_type}>, align {BYTES[element_type] * LANES}")

    def splat(self, element_type: str, scalar: str) -> str:
        vector = f"<{LANES} x {element_type}>"
        first = self.value(f"insertelement {vector} poison, {element_type} {scalar}, i64 0")
        return self.value(f"shufflevector {vector} {first}, {vector} poison, <{LANES} x i32> zeroinitializer")

    def call(self, result: str, function: str, *arguments: tuple[str, str]) -> str:
        """Call a function of ``functions.py`` or an intrinsic. arguments: (type, operand)."""
        if not function.startswith("llvm."):
            self.support.add(function)
        return self.value(f"call {result} @{function}({', '.join(f'{t} {o}' for t, o in arguments)})")

    def text(self, name: str) -> str:
        """The whole function."""
        head = f"define void @{name}(ptr %slots, ptr %params, i64 %g0, i64 %g1, i64 %v0, i64 %v1) {{"
        return "\n".join([head, "entry:", *self.entry, "br label %start", *self.body, "}"]) + "\n"
