"""Machine code of matrix products: pieces that are made when a program needs them and find each other by a table.

Each dtype has a table of addresses: of the function for each of `gemm`'s ways, and of the tiles from FIRST_TILE on. A
way that is not in it, as without AVX-512, is left to BLAS.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from chainrule.backends.native import build
from chainrule.backends.native.address import address
from chainrule.backends.native.build import Module
from chainrule.backends.native.gemm import PACKED, TINY, TINY_WORK_TURNED, gemm_blocks, gemm_code, gemm_way
from chainrule.backends.native.packed_gemm import Tiles, packed_gemm_code, tiles_code, tiles_of
from chainrule.backends.native.places import fill, places_of
from chainrule.backends.native.tiny_gemm import tiny_gemm_code
from chainrule.errors import ArgumentError
from chainrule.kernel import Gemm

FIRST_TILE = PACKED + 1

NEARLY_TINY = 8 * TINY_WORK_TURNED
"""Multiplications of a product that may well be tiny in a smaller batch."""


class Piece(NamedTuple):
    """A module of the code for products of a dtype. part: "task", which calls the others, "tiny", "packed" or tiles."""

    dtype: str
    part: str | Tiles

    @property
    def module(self) -> Module:
        return _module(self)

    @property
    def places(self) -> list[tuple[str, str, int]]:
        """(dtype, name, place) of each function that has a place in the table."""
        if isinstance(self.part, Tiles):
            return [(self.dtype, name, FIRST_TILE + place) for name, place in self.part.places(self.dtype).items()]
        ways = {"tiny": TINY, "packed": PACKED}
        return [(self.dtype, name, ways[self.part]) for name in self.module.functions if self.part in ways]


def pieces_of(gemm: Gemm, dtype: np.dtype) -> list[Piece]:
    """What the blocks of a product run, and what its rows run in blocks of their own.

    ArgumentError: dtype is neither float32 nor float64.
    """
    if dtype.name not in ("float32", "float64"):
        raise ArgumentError(f"matrix products are of float32 or float64, got {dtype}; cast both sides before")
    way, parts = gemm_way(gemm), list[str | Tiles](["task"])
    if way == TINY:
        parts.append("tiny")
    elif way == PACKED and build.has_wide_registers():
        widths = {gemm.n, *(v1 - v0 for _, _, v0, v1 in gemm_blocks(gemm))}
        parts += ["packed", *tiles_of(dtype.name, widths)]
    return [Piece(dtype.name, part) for part in parts]


def pieces_of_less(gemm: Gemm, dtype: np.dtype) -> list[Piece]:
    """What the product may run besides in a smaller batch, such as the last of an epoch."""
    return [Piece(dtype.name, "tiny")] if gemm.m * gemm.n * gemm.k <= NEARLY_TINY else []


class Loaded(NamedTuple):
    """Addresses of the code for products of a dtype: the function that a `Task` names, and the table that it reads."""

    task: int
    table: int


def load_products(pieces: Iterable[Piece]) -> dict[np.dtype, Loaded]:
    """For each dtype, the code with these pieces and all that were loaded before."""
    asked = list(pieces)
    addresses = build.load(piece.module for piece in asked)
    fill((place for piece in asked for place in piece.places), addresses)
    tasks = {piece.dtype: addresses[piece.module.functions[0]] for piece in asked if piece.part == "task"}
    return {np.dtype(dtype): Loaded(task, address(places_of(dtype))) for dtype, task in tasks.items()}


@functools.cache
def _module(piece: Piece) -> Module:
    dtype, part = piece.dtype, piece.part
    if isinstance(part, Tiles):
        return Module(tiles_code(dtype, part), tuple(part.places(dtype)))
    if part == "tiny":
        return Module(tiny_gemm_code(dtype), (f"tiny_gemm_{dtype}",))
    if part == "packed":
        return Module(packed_gemm_code(dtype, FIRST_TILE), (f"packed_gemm_{dtype}",))
    return Module(gemm_code(dtype), (f"chainrule_gemm_{dtype}",))
