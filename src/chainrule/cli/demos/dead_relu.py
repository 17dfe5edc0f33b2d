"""The demonstration ``dead-relu``: every unit of the first layer is off for every row."""

from __future__ import annotations

from dataclasses import replace

from chainrule.cli.demos.fault import Fault
from chainrule.cli.demos.program import Init, Program

SICK = Program(depth=2, init=Init("Uniform", (-0.2, 0.0)), lr=0.1)

FAULT = Fault(
    name="dead-relu",
    summary="every hidden ReLU is off for every digit, so nothing comes back through them",
    code="CR202",
    story=(
        "The local derivative of relu is 1 where z > 0 and 0 elsewhere. Pixels are never negative; with "
        "negative weights z is below 0 for every digit: the activations are 0, and so is the error behind "
        "them."
    ),
    sick=SICK,
    look="0.weight[5, 20]",
    blame=(
        "the factor that is 0 is the local derivative, for every single sample: the weight cannot move, so it stays so."
    ),
    cured=replace(SICK, init=Init()),
    change="He's first weights around 0, so that half of the units are on.",
    sizes=((48, 2), (64, 2), (96, 3)),
)
