"""Layers for sequences of symbols or vectors: embedding and LSTM."""

from __future__ import annotations

from typing import Any

from chainrule.errors import ArgumentError, ShapeError
from chainrule.graph import Tensor
from chainrule.nn.initialisers import Normal, TorchBias
from chainrule.nn.layers import positive
from chainrule.nn.module import Module, Parameter
from chainrule.ops import OPS, expand_dims, gather, linear, lstm_update, permute_dims, scan


class Embedding(Module):
    """y[i, …] = row x[i] of the weight: a vector for each symbol.

    x: whole numbers from 0 to num_embeddings - 1, any shape [...] -> y: [..., embedding_dim]; weight [num_embeddings,
    embedding_dim], first drawn from the standard normal distribution, as PyTorch.

    >>> from chainrule import nn
    >>> nn.Embedding(10, 3)([[1, 2, 1], [0, 9, 4]]).shape
    (2, 3, 3)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__()
        self.num_embeddings = positive("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = positive("Embedding", "embedding_dim", embedding_dim)
        self.weight = Parameter((self.num_embeddings, self.embedding_dim), Normal())

    def forward(self, x: Tensor) -> Tensor:
        return gather(self.weight, x)

    def options(self) -> dict[str, Any]:
        return {"num_embeddings": self.num_embeddings, "embedding_dim": self.embedding_dim}


class LSTM(Module):
    """h, c = lstm_cell(x_t, h, c) for every t: one layer, one direction (Hochreiter & Schmidhuber 1997).

    x: [time, rows, input_size], or [rows, time, input_size] with batch_first -> (y, (h, c)): h at every t, laid out as
    x, and the last h and c, [1, rows, hidden_size]. Called as ``layer(x)`` or ``layer(x, (h, c))``; without them zeros
    come first. weight_ih_l0 [4 hidden, input], weight_hh_l0 [4 hidden, hidden], bias_ih_l0 and bias_hh_l0 [4 hidden],
    gates in the order input, forget, cell, output; drawn within ±1/√hidden_size, as PyTorch.

    >>> import numpy as np
    >>> from chainrule import nn
    >>> y, (h, c) = nn.LSTM(3, 5)(np.zeros((7, 2, 3)))
    >>> y.shape, h.shape, c.shape
    ((7, 2, 5), (1, 2, 5), (1, 2, 5))
    """

    def __init__(self, input_size: int, hidden_size: int, *, batch_first: bool = False) -> None:
        super().__init__()
        self.input_size = positive("LSTM", "input_size", input_size)
        self.hidden_size = n = positive("LSTM", "hidden_size", hidden_size)
        if not isinstance(batch_first, bool):
            raise ArgumentError(f"LSTM: batch_first is True or False, got {batch_first!r}")
        self.batch_first = batch_first
        first = TorchBias(n)
        self.weight_ih_l0 = Parameter((4 * n, self.input_size), first)
        self.weight_hh_l0 = Parameter((4 * n, n), first)
        self.bias_ih_l0 = Parameter((4 * n,), first)
        self.bias_hh_l0 = Parameter((4 * n,), first)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        if x.ndim != 3 or x.shape[-1] != self.input_size:
            order = "rows, time" if self.batch_first else "time, rows"
            raise ShapeError(
                f"LSTM: expected [{order}, {self.input_size}], got {x.spec}: "
                "set input_size to the width of what the layer receives"
            )
        steps = permute_dims(x, (1, 0, 2)) if self.batch_first else x
        rows = (steps.shape[1], self.hidden_size)
        if state is None:
            initial = (OPS.zeros(rows, x.dtype), OPS.zeros(rows, x.dtype))
        else:
            initial = (self._first("h", state[0], rows), self._first("c", state[1], rows))

        # What the inputs add to the gates is one product for all steps; only the rest has to wait for h.
        def step(before: tuple[Tensor, Tensor], from_input: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
            h, c = lstm_update(from_input + linear(before[0], self.weight_hh_l0, self.bias_hh_l0), before[1])
            return (h, c), h

        (h, c), y = scan(step, initial, linear(steps, self.weight_ih_l0, self.bias_ih_l0))
        return permute_dims(y, (1, 0, 2)) if self.batch_first else y, (expand_dims(h, 0), expand_dims(c, 0))

    def _first(self, name: str, given: Tensor, rows: tuple[int, int]) -> Tensor:
        if given.shape != (1, *rows):
            raise ShapeError(f"LSTM: the first {name} is [1, {rows[0]}, {rows[1]}], got {given.spec}")
        return given[0]

    def options(self) -> dict[str, Any]:
        return {"input_size": self.input_size, "hidden_size": self.hidden_size, "batch_first": self.batch_first}
