"""The code of one loop nest: LLVM IR that depends on the nest's structure and never on its sizes, and the sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from typing import NamedTuple

from chainrule.backends.native.build import Module
from chainrule.backends.native.form import Form, form_of
from chainrule.backends.native.functions import definition
from chainrule.backends.native.loops import Loops
from chainrule.backends.native.values import Values
from chainrule.kernel.program import Buffer, Nest

Places = Mapping[int, tuple[int, int]]
"""Buffer of role "row" -> (the buffer that it is a part of, the element of it where it begins)."""


class NestCode(NamedTuple):
    """Machine code to be, of one nest.

    name: ``nest_`` and a digest of the text without its name: the same for nests of the same structure.
    text: LLVM IR of one function; intrinsics are not declared (LLVM does that by itself).
    module: the text, and the functions that it calls.
    params: what the function reads from its second argument, in order (int64).
    slots: positions among the params of the numbers of buffers.
    starts: (position among the params, buffer) of what says where in a buffer something begins.
    """

    name: str
    text: str
    module: Module
    params: tuple[int, ...]
    slots: tuple[int, ...]
    starts: tuple[tuple[int, int], ...]

    def params_at(self, base: int, rows: Places) -> tuple[int, ...]:
        """The params where the buffers' slots are numbered from ``base``, in a turn in which the rows are these."""
        params = list(self.params)
        for position in self.slots:
            buffer = params[position]
            params[position] = base + (rows[buffer][0] if buffer in rows else buffer)
        for position, buffer in self.starts:
            if buffer in rows:
                params[position] += rows[buffer][1]
        return tuple(params)


class _Written(NamedTuple):
    """The code of one nest of a form, and which of its params are other nests' own.

    slots, starts, origins: (position among the params, number of the buffer whose slot or beginning it is).
    """

    code: NestCode
    begins: tuple[int, ...]
    slots: tuple[tuple[int, int], ...]
    starts: tuple[tuple[int, int], ...]
    origins: tuple[tuple[int, int], ...]

    def code_for(self, form: Form) -> NestCode:
        params = list(self.code.params)
        for position, number in self.starts:
            params[position] += form.starts[number] - self.begins[number]
        buffers = tuple(form.numbers)
        for position, number in self.slots:
            params[position] = buffers[number]
        starts = tuple((position, buffers[number]) for position, number in (*self.starts, *self.origins))
        return self.code._replace(params=tuple(params), starts=starts)


_written: dict[Hashable, _Written] = {}
"""By the key of the form: fifty layers of one width, or the steps of a scan, are written once."""


def code_of(nest: Nest, buffers: tuple[Buffer, ...]) -> NestCode:
    """The code of ``nest``. GraphError for what the vocabulary does not have."""
    form = form_of(nest, buffers)
    if form.key not in _written:
        _written[form.key] = _write(nest, buffers, form)
    return _written[form.key].code_for(form)


def _write(nest: Nest, buffers: tuple[Buffer, ...], form: Form) -> _Written:
    values = Values(buffers)
    Loops(nest, values).grid()
    writer = values.writer
    name = f"nest_{hashlib.sha256(writer.text('nest').encode()).hexdigest()[:32]}"
    slots, starts, origins = (
        tuple((position, form.numbers[buffer]) for position, buffer in places)
        for places in (writer.slots, writer.starts, writer.origins)
    )
    text, params = writer.text(name), tuple(writer.params)
    module = Module("\n".join([*map(definition, sorted(writer.support)), text]), (name,))
    code = NestCode(name, text, module, params, tuple(p for p, _ in slots), ())
    return _Written(code, form.starts, slots, starts, origins)
