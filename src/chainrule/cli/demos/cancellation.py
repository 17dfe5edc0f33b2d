"""The demonstration ``cancellation``: errors that cancel over the samples."""

from __future__ import annotations

from dataclasses import replace

from chainrule.cli.demos.fault import Fault
from chainrule.cli.demos.program import Program

SICK = Program(width=4, activation="Sigmoid", last="Sigmoid", loss="mae", lr=0.1, epochs=500, data="xor")

FAULT = Fault(
    name="cancellation",
    summary="XOR with mean absolute error: four samples pull with one force, and cancel",
    code="CR211",
    story=(
        "The gradient is a mean over samples of activation x error. With absolute error all samples pull "
        "equally hard, however near the truth they are; at the start of XOR two pull each weight up and two "
        "pull it down."
    ),
    sick=SICK,
    look="2.weight[0, 0]",
    blame=(
        "no sample's product is small, and their sum is: activation and error are large and the agreement is "
        "below chance."
    ),
    cured=replace(SICK, loss="binary_cross_entropy", optimizer="Adam", lr=0.05),
    change="Cross-entropy, whose error is prediction - truth, with Adam, which enlarges what is left of the step.",
    sizes=(),
)
