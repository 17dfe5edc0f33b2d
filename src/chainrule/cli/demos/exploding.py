"""The demonstration ``exploding``: the error grows at every link on its way back."""

from __future__ import annotations

from dataclasses import replace

from chainrule.cli.demos.fault import Fault
from chainrule.cli.demos.program import Init, Program

SICK = Program(depth=8, init=Init("Normal", (0.0, 0.5)), optimizer="Adam", lr=0.0003, epochs=5)

FAULT = Fault(
    name="exploding",
    summary="weights twice too large in every layer, and the error multiplies on its way back",
    code="CR204",
    story=(
        "The chain rule multiplies one weight matrix a layer into the error. Where each of them enlarges it, "
        "the product grows geometrically: the gradients of the first layers are huge, and so is the loss."
    ),
    sick=SICK,
    look="flow",
    blame=(
        "read `weights` from the loss down: every link enlarges the error, and `arrived` grows. The weights "
        "are to blame, not the slopes: relu's are 0 or 1."
    ),
    cured=replace(SICK, init=Init()),
    change='He\'s first weights, nn.Linear(..., init="auto"): deviation sqrt(2 / inputs) keeps the size.',
    sizes=((64, 8), (64, 9), (72, 8)),
)
