"""Plans kept between processes: numbers and text in the directory of machine code, under the key of their parts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chainrule.compiler.key import FILES, files

if TYPE_CHECKING:
    from chainrule.backends.native.linked import Plan


@dataclass(frozen=True)
class Planned:
    """A plan of parts. staged: (name that only the plan knows, name of the same shape and dtype)."""

    plan: Plan
    staged: tuple[tuple[str, str], ...]


def kept(key: str | None) -> Planned | None:
    """What was kept under ``key``, with its code in memory. None if nothing was, or some of the code is lost."""
    from chainrule.backends.native import build, cache

    stored = None if key is None else cache.load(key)
    if stored is None:
        return None
    planned = _read(stored)
    return planned if build.load_kept(planned.plan.modules) else None


def keep(key: str | None, planned: Planned) -> None:
    """Let other processes have it."""
    from chainrule.backends.native import cache

    if key is not None and files() == FILES:
        cache.store(key, _written(planned))


ALIGNED = 16
"""Bytes of which the head and each array take a multiple."""


def _written(planned: Planned) -> bytes:
    """The length of the head, the head as JSON, and the arrays that it describes, one after another."""
    plan, table = planned.plan, planned.plan.table
    constants = [values for _, values in plan.constants]
    positions = [where for _, where in plan.products]
    arrays = [table.groups, table.starts, table.tasks, table.params, *positions, *constants]
    head = {
        "modules": [(m.key, m.functions) for m in plan.modules],
        "places": plan.places,
        "functions": plan.functions,
        "shared": table.shared,
        "products": [dtype for dtype, _ in plan.products],
        "slots": plan.slots,
        "buffers": plan.buffers,
        "arena": plan.arena,
        "scratch": plan.scratch,
        "constants": [slot for slot, _ in plan.constants],
        "staged": planned.staged,
        "arrays": [(a.dtype.str, a.shape) for a in arrays],
    }
    text = _filled(json.dumps(head, separators=(",", ":")).encode())
    return b"".join([_filled(len(text).to_bytes(8, "little")), text, *(_filled(a.tobytes()) for a in arrays)])


def _filled(content: bytes) -> bytes:
    return content + b" " * (-len(content) % ALIGNED)


def _read(stored: bytes) -> Planned:
    from chainrule.backends.native.build import Kept
    from chainrule.backends.native.linked import Plan
    from chainrule.backends.native.table import Table

    at = ALIGNED + int.from_bytes(stored[:8], "little")
    head = json.loads(stored[ALIGNED:at])
    arrays = []
    for dtype, shape in head["arrays"]:
        arrays.append(np.ndarray(shape, dtype, stored, at))
        at += -(-arrays[-1].nbytes // ALIGNED) * ALIGNED
    groups, starts, tasks, params, *others = arrays
    products, constants = others[: len(head["products"])], others[len(head["products"]) :]
    plan = Plan(
        modules=tuple(Kept(key, tuple(functions)) for key, functions in head["modules"]),
        places=tuple((dtype, name, place) for dtype, name, place in head["places"]),
        functions=tuple(head["functions"]),
        table=Table(groups, starts, tasks, params, head["shared"]),
        products=tuple(zip(head["products"], products, strict=True)),
        slots=head["slots"],
        buffers=head["buffers"],
        arena=head["arena"],
        scratch=tuple((slot, offset) for slot, offset in head["scratch"]),
        constants=tuple(zip(head["constants"], constants, strict=True)),
    )
    return Planned(plan, tuple((own, name) for own, name in head["staged"]))
