"""The demonstration ``scale``: pixels up to 255."""

from __future__ import annotations

from dataclasses import replace

from chainrule.cli.demos.fault import Fault
from chainrule.cli.demos.program import Program

SICK = Program(activation="Tanh", inputs_times=255.0, lr=0.1)

FAULT = Fault(
    name="scale",
    summary="pixels from 0 to 255 drive the first layer where tanh is flat",
    code="CR101",
    story=(
        "z = W x + b: pixels of 0 to 255 make the weighted sums hundreds of times larger than first weights "
        "are meant for. Tanh is flat there, and what is left of the error is multiplied by activations in "
        "the hundreds."
    ),
    sick=SICK,
    look="flow",
    blame=(
        "the activation of the first weights is in the hundreds, so z is too; behind it the slope is gone. "
        "The inputs are to blame."
    ),
    cured=replace(SICK, inputs_times=1.0),
    change="Divide the pixels by 255.",
    sizes=((64, 1), (48, 1), (96, 1)),
)
