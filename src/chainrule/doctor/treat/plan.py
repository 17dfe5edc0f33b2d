"""A training as values: what a replay needs to make it again, and what a remedy transforms."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.nn import Module
from chainrule.nn.module import State
from chainrule.optim import LearningRateSchedule, Optimizer, from_description
from chainrule.record import Choice, RunConfig
from chainrule.record.measure_rows import target_facts
from chainrule.training.head import Loss, loss_named
from chainrule.training.options import StepOptions, checked_options

if TYPE_CHECKING:
    from chainrule.training.run import Run

Rows = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Truth:
    """The targets as the user gave them, by which predictions of any loss are measured alike.

    kind: "classes", "probabilities", "labels" or "numbers", as in TargetFacts. baseline: loss of a constant prediction.
    """

    kind: str
    classes: int
    integers: bool
    baseline: float | None


@dataclass(frozen=True, eq=False)
class Start:
    """A checkpoint from which replays go on, to the same bits where nothing is changed.

    step: updates made before it. epoch, batch: whole epochs, and batches of the next one. arrays: as the checkpoint
    has them. schedule: the state of the learning-rate schedule.
    """

    step: int
    epoch: int
    batch: int
    arrays: dict[str, np.ndarray] = field(repr=False)
    schedule: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Plan:
    """One training. Remedies make another plan of it; the network and the arrays are never written to."""

    net: Module
    loss: Loss
    loss_name: str
    """The loss's formula, under the names of `chainrule.record.facts.Head`."""
    x: np.ndarray
    y: np.ndarray
    """Targets as the loss takes them."""
    held: Rows | None
    truth: Truth
    optimizer: Optimizer
    steps: int
    batch_size: int = 32
    schedule: LearningRateSchedule | None = None
    options: StepOptions = field(default_factory=StepOptions)
    shuffle: bool = True
    drop_last: bool = False
    skip_bad: bool = False
    seed: int = 0
    patience: int | None = None
    """Epochs without improvement of the validation loss after which it stops; None: it never does."""
    drawn: bool = True
    """Whether replays begin with first weights of the seed; else with the values that the network holds."""
    told: Rows | None = None
    """Original targets of training and validation rows where `y` was transformed; predictions go back by `scale`."""
    scale: tuple[np.ndarray, np.ndarray] | None = None
    """(mean, deviation) of transformed targets: y = (told - mean) / deviation."""
    backend: str | None = None
    start: Start | None = None
    """Where remedies of the course of training may begin; None: at the first weights, as all others do."""

    @property
    def updates_an_epoch(self) -> int:
        size = min(self.batch_size, len(self.x))
        return len(self.x) // size if self.drop_last and len(self.x) >= size else math.ceil(len(self.x) / size)


def copy_of(net: Module) -> Module:
    """A copy whose layers keep their random streams, whatever is put between them."""
    made = copy.deepcopy(net).train()
    made.name_streams()
    return made


def forget(net: Module) -> None:
    """Let the next `initialise` draw every parameter and buffer."""
    for _, state in net._named_states(State):
        state.kept = False


def truth_of(y: np.ndarray, loss: str) -> Truth:
    """What the targets are; whole numbers in one column may be classes that were given as numbers."""
    facts = target_facts(y, loss)
    classes = len(facts.counts) or (facts.width if facts.kind == "probabilities" else 0)
    return Truth(facts.kind, classes, facts.integers, facts.baseline)


def plan_of_run(run: Run, rows: Rows, held: Rows | None, formula: str, drawn: bool, whole: bool = False) -> Plan:
    """The training that a run made, on its rows. formula: the loss, as the record names it.

    whole: all updates that were planned, and not those that were made, as for a run that broke off.
    """
    config = run.config
    x, y = rows
    loss = run.loss or loss_named(config.loss.name)[1]
    net = copy_of(run.net)
    made = Plan(
        net=net, loss=loss, loss_name=formula, x=x, y=y, held=held, truth=truth_of(y, formula),
        optimizer=_described(config.optimizer), steps=1, drawn=drawn,
        batch_size=min(config.batch_size * config.accumulate, len(x)), schedule=_schedule(config),
        options=checked_options(config.clip_norm, config.clip_value, config.l1, config.l2), shuffle=config.shuffle,
        drop_last=config.drop_last, skip_bad=config.on_nan == "skip", seed=config.seed,
        patience=config.early_stopping.get("patience"), backend=config.backend,
    )  # fmt: skip
    planned = config.epochs * made.updates_an_epoch
    return replace(made, steps=planned if whole or not run.step else run.step)


def _described(choice: Choice) -> Any:
    return from_description({"name": choice.name, "arguments": dict(choice.arguments)})


def _schedule(config: RunConfig) -> LearningRateSchedule | None:
    choice = config.learning_rate_schedule
    if choice.name == "constant":
        return None
    found: LearningRateSchedule = from_description(
        {"name": choice.name, "arguments": dict(choice.arguments)}, LearningRateSchedule
    )
    return found


def config_of(plan: Plan) -> RunConfig:
    """A configuration that says what a plan does, so that its result can be examined like a run."""
    from chainrule.optim import describe
    from chainrule.training.run import architecture_of

    return RunConfig(
        source="x", architecture=architecture_of(plan.net), loss=Choice(plan.loss_name),
        optimizer=Choice(**describe(plan.optimizer)), epochs=max(1, plan.steps // plan.updates_an_epoch),
        batch_size=plan.batch_size, seed=plan.seed, rows=len(plan.x),
        learning_rate_schedule=Choice("constant") if plan.schedule is None else Choice(**describe(plan.schedule)),
        shuffle=plan.shuffle, dtype=plan.net.dtype.name,  # type: ignore[arg-type]
        drop_last=plan.drop_last, clip_norm=plan.options.clip.norm,
        clip_value=plan.options.clip.value, l1=plan.options.l1, l2=plan.options.l2,
        on_nan="skip" if plan.skip_bad else "stop", validation={"rows": 0 if plan.held is None else len(plan.held[0])},
    )  # fmt: skip


def with_network(plan: Plan, net: Module) -> Plan:
    """The plan with a network of other layers, whose streams are complete."""
    net.name_streams()
    return replace(plan, net=net)
