"""The demonstration ``pairing``: softmax before a loss that contains softmax."""

from __future__ import annotations

from dataclasses import replace

from chainrule.cli.demos.fault import Fault
from chainrule.cli.demos.program import Program

SICK = Program(depth=2, last="Softmax", own_loss=True, lr=0.1)

FAULT = Fault(
    name="pairing",
    summary="softmax in front of a cross-entropy that contains softmax",
    code="CR404",
    story=(
        "Softmax and cross-entropy cancel to prediction - truth, the best error there is. Softmax twice "
        "flattens: its outputs lie between 0 and 1, so the second one can never be sure, and its error passes "
        "through the slope of the first. By name, loss='cross_entropy', chainrule refuses this pair; as a "
        "function of one's own it goes through, as it does in PyTorch."
    ),
    sick=SICK,
    look="flow",
    blame=(
        "between the loss and the last layer there is a link that should not be there: softmax's local "
        "derivative, p (1 - p), takes most of the error before it reaches the first weight."
    ),
    cured=replace(SICK, last="", own_loss=False),
    change="Delete nn.Softmax() and keep the loss.",
    sizes=(),
)
