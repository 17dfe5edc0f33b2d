"""The demonstration ``vanishing``: the error shrinks at every sigmoid on its way back."""

from __future__ import annotations

from dataclasses import replace

from chainrule.cli.demos.fault import Fault
from chainrule.cli.demos.program import Program

SICK = Program(width=32, depth=6, activation="Sigmoid", lr=0.1)

FAULT = Fault(
    name="vanishing",
    summary="six sigmoid layers, and the error dies on its way back to the first",
    code="CR203",
    story=(
        "Backpropagation carries the error back through one local derivative a layer: df/dz = f (1 - f), at "
        "most 1/4. Six of them multiply: what is left for the first layers moves their weights by nothing."
    ),
    sick=SICK,
    look="flow",
    blame=(
        "read `local` from the loss down: every link takes three quarters or more of the error, and `arrived` "
        "falls geometrically. The activations are fine; the local derivative is to blame."
    ),
    cured=replace(SICK, activation="ReLU"),
    change="nn.ReLU() in place of nn.Sigmoid(): its local derivative is 1 where it is on.",
    sizes=((32, 6), (32, 7), (48, 6), (24, 8)),
)
