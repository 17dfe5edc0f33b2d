"""Recurrent cells: what a network keeps from one step of a sequence to the next."""

from __future__ import annotations

from typing import Any

from chainrule.errors import ShapeError
from chainrule.graph import Draw, Tensor, operation, zeros_like
from chainrule.ops.activations import sigmoid
from chainrule.ops.broadcasting import as_tensors
from chainrule.ops.declare import primitive
from chainrule.ops.elementwise import tanh
from chainrule.ops.linear_algebra import linear
from chainrule.ops.movement import concat, split
from chainrule.spec import TensorSpec


def _parts(gates: Any) -> tuple:
    """The four blocks of the last axis: input, forget, cell and output gate, in PyTorch's order."""
    n = gates.shape[-1] // 4
    return tuple(gates[..., i * n : (i + 1) * n] for i in range(4))


def _lstm_update(xp: Any, gates: Any, c: Any) -> tuple:
    i, f, g, o = _parts(gates)
    i, f, o = (sigmoid.evaluate(xp, gate) for gate in (i, f, o))
    after = f * c + i * xp.tanh(g)
    return o * xp.tanh(after), after


def _lstm_update_shape(gates: TensorSpec, c: TensorSpec) -> tuple:
    if not c.shape or gates.shape != (*c.shape[:-1], 4 * c.shape[-1]):
        raise ShapeError(f"lstm_update: gates ({gates}) must be four times as wide as c ({c})")
    return c, c


def _lstm_update_pullback(dys: tuple, ys: tuple, gates: Tensor, c: Tensor) -> tuple:
    dh, dc = dys
    raw_i, raw_f, raw_g, raw_o = split(gates, (c.shape[-1],) * 4, gates.ndim - 1)
    i, f, g, o = sigmoid(raw_i), sigmoid(raw_f), tanh(raw_g), sigmoid(raw_o)
    error, to_output = dc, zeros_like(o)
    if dh is not None:
        squashed = tanh(ys[1])
        through_output = dh * o * (1.0 - squashed * squashed)
        error = through_output if dc is None else dc + through_output
        to_output = dh * squashed * o * (1.0 - o)
    to_gates = [error * g * i * (1.0 - i), error * c * f * (1.0 - f), error * i * (1.0 - g * g), to_output]
    return concat(to_gates, gates.ndim - 1), error * f


def _draw_lstm_update(point: Draw) -> tuple[tuple, dict]:
    width, lead = point.choice(0 if point.empty else 1, 1, 2), point.shape(0, 1)
    return (point.real((*lead, 4 * width), -3, 3), point.real((*lead, width), -2, 2)), {}


lstm_update = primitive(
    "lstm_update",
    "c' = σ(f) c + σ(i) tanh(g), h' = σ(o) tanh(c')",
    rule=("gate_slopes({dys}, {0}, {1})", "cell_error({dys}) * forget_gate({0})"),
    shape=_lstm_update_shape,
    evaluate=_lstm_update,
    pullback=_lstm_update_pullback,
    arguments=lambda gates, c: (as_tensors("lstm_update", (gates, c)), {}),
    draw=_draw_lstm_update,
    outputs=2,
    meaning="gates: [..., 4 width], in the order i, f, g, o, before their nonlinearities; c: [..., width]. Gives h' "
    "and c' (Hochreiter & Schmidhuber 1997; the forget gate by Gers, Schmidhuber & Cummins 2000).",
    why=(
        "the cell's error x what each gate lets through x the gate's slope",
        "the cell's error, as far as the forget gate kept it",
    ),
)


@operation
def lstm_cell(
    x: Any, h: Any, c: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM: (h', c').   x: [..., in]; h, c: [..., width]; weights [4 width, in] and [4 width, width].

    Names, shapes and the order of the gates (input, forget, cell, output) are PyTorch's LSTMCell's.
    """
    hidden, cell = lstm_update(linear(x, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh), c)
    return hidden, cell
