"""CR608: a schedule that is stepped at the wrong time."""

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.doctor.case import Case
from chainrule.doctor.examples import HEALTHY, STUCK, example
from chainrule.doctor.rule import Remedy, Rule, Sign
from chainrule.record.facts import LoopFacts


@dataclass(frozen=True)
class ScheduleOrder(Rule):
    code = "CR608"
    name = "schedule-misused"
    severity = "error"
    factor = "loop"
    why = (
        "The update is proportional to the learning rate: a schedule meant for epochs that is stepped at every "
        "update is at its end after a few of them."
    )
    remedy = (
        Remedy(
            "schedule-order", "Step the schedule after optimizer.step(), once an epoch unless it is made for updates."
        ),
    )
    source = "PyTorch's documentation of autograd and optimizers"
    proof = True
    content = 2.0
    explains = ("schedule-near-zero", "stalled-loss", "overfit-fails", "learning-rate-too-low")
    healthy = (HEALTHY, example(loop=LoopFacts(steps=50)))
    sick = (example(loop=LoopFacts(steps=50, schedule_by_step=True), loss=STUCK),)

    most: float = 1.0
    """Times."""

    def examine(self, case: Case) -> Iterator[Sign]:
        loop = case.facts.loop
        if loop is not None:
            yield Sign(
                self.most * bool(loop.schedule_by_step or loop.schedule_before_optimizer),
                "the schedule is stepped " + ("at every update" if loop.schedule_by_step else "before the optimizer"),
            )
