"""The demonstration ``initialisation``: all weights equal."""

from __future__ import annotations

from dataclasses import replace

from chainrule.cli.demos.fault import Fault
from chainrule.cli.demos.program import Init, Program

SICK = Program(init=Init("Zeros"), lr=0.1)

FAULT = Fault(
    name="initialisation",
    summary="all weights 0 at first, so no unit gets an error, or all the same one",
    code="CR208",
    story=(
        "The error of a hidden layer is what the layer above sends back through its weights, and the "
        "activation is what its own weights make. With weights of 0 both factors are 0 in every layer; with "
        "equal weights all units learn the same."
    ),
    sick=SICK,
    look="flow",
    blame=(
        "the error at the output is there and its `weights` are 0: nothing is carried back, and nothing comes "
        "forward either."
    ),
    cured=replace(SICK, init=Init()),
    change="Weights drawn at random, each unit other ones: that is what breaks the symmetry.",
    sizes=((64, 1), (48, 2), (96, 1)),
)
