"""The demonstration ``learning-rate``: a step too small for any gradient."""

from __future__ import annotations

from dataclasses import replace

from chainrule.cli.demos.fault import Fault
from chainrule.cli.demos.program import Program

SICK = Program(lr=1e-05)

FAULT = Fault(
    name="learning-rate",
    summary="every gradient is healthy, and eta makes nothing of it",
    code="CR302",
    story=(
        "w = w - eta · dL/dw. The learning rate eta is the step size, a balance of speed and stability. All "
        "factors of the gradient are as they should be here; the last factor of the update is a hundred "
        "thousandth."
    ),
    sick=SICK,
    look="2.weight[3, 9]",
    blame=("activation, error and agreement are all there. Look at the update: eta takes away what they made."),
    cured=replace(SICK, lr=0.1),
    change="A learning rate of 0.1.",
    sizes=(),
)
