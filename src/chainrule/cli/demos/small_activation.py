"""The demonstration ``small-activation``: inputs so small that the product with the error is nothing."""

from __future__ import annotations

from dataclasses import replace

from chainrule.cli.demos.fault import Fault
from chainrule.cli.demos.program import Program

SICK = Program(activation="Tanh", inputs_times=0.001, lr=0.1)

FAULT = Fault(
    name="small-activation",
    summary="pixels divided once too often, and activation x error is nothing",
    code="CR103",
    story=(
        "Gradient of a weight = input activation x output error. Here the error is as large as ever, but the "
        "pixels, already between 0 and 1, were divided by 1000 again: the other factor of the product is near "
        "0."
    ),
    sick=SICK,
    look="0.weight[5, 20]",
    blame=(
        "activation x error: the error is a usual one, and the activation, a pixel of a few ten-thousandths, "
        "is to blame."
    ),
    cured=replace(SICK, inputs_times=1.0),
    change="Scale the inputs once.",
    sizes=((64, 1), (48, 1), (80, 2)),
)
