"""The code of one loop nest: LLVM IR that depends on the nest's structure and never on its sizes, and the sizes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from chainrule.backends.native.loops import Loops
from chainrule.backends.native.values import Values
from chainrule.kernel.program import Buffer, Nest


@dataclass(frozen=True)
class NestCode:
    """Machine code to be, of one nest.

    key: digest of ``text`` without its name: the same for nests of the same structure.
    text: LLVM IR of one function, ``nest_<key>``; intrinsics are not declared (LLVM does that by itself).
    params: what the function reads from its second argument, in order (int64).
    support: names of the functions that it calls; ``functions.definition(name)`` is each one's text.
    """

    key: str
    text: str
    params: tuple[int, ...]
    support: frozenset[str]

    @property
    def name(self) -> str:
        return f"nest_{self.key}"


def code_of(nest: Nest, buffers: tuple[Buffer, ...]) -> NestCode:
    """The code of ``nest``. GraphError for what the vocabulary does not have."""
    values = Values(buffers)
    Loops(nest, values).grid()
    writer = values.writer
    key = hashlib.sha256(writer.text("nest").encode()).hexdigest()[:32]
    return NestCode(key, writer.text(f"nest_{key}"), tuple(writer.params), frozenset(writer.support))
