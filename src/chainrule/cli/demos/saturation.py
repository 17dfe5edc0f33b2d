"""The demonstration ``saturation``: units so far out that tanh is flat."""

from __future__ import annotations

from dataclasses import replace

from chainrule.cli.demos.fault import Fault
from chainrule.cli.demos.program import Init, Program

SICK = Program(depth=8, activation="Tanh", init=Init("Normal", (0.0, 0.7)), lr=0.1, epochs=6)

FAULT = Fault(
    name="saturation",
    summary="first weights so large that tanh is flat, and the error ends at the saturated neurons",
    code="CR205",
    story=(
        "Gradient of a weight = input activation x output error. A saturated neuron has the largest "
        "activation there is, and an error of nearly nothing: far from 0 the slope of tanh, 1 - a^2, is close "
        "to 0."
    ),
    sick=SICK,
    look="flow",
    blame=(
        "look at `output` and `local`: outputs near 1 in size are outputs without a slope. The few units that "
        "still have one get all of the error, through weights that are too large: it is a lottery, not a "
        "gradient."
    ),
    cured=replace(SICK, init=Init()),
    change="Glorot's first weights: deviation sqrt(2 / (inputs + outputs)) keeps z in tanh's linear part.",
    sizes=((64, 8), (64, 7), (56, 8)),
)
