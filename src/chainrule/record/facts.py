"""What is known of a network, its data and its training before any number is measured: plain facts, of any framework.

Everything here is JSON when it is stored. A field that is None is not known, and no rule may guess it.
"""

from dataclasses import dataclass, field
from typing import Any

Range = tuple[float, float]
"""Lowest and highest value; infinite where there is no bound."""


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """One layer with parameters. `name` is that of `state_dict` without the parameter, "0" for "0.weight"."""

    name: str
    kind: str
    """Class of the layer under PyTorch's names: "Linear", "Conv2d", "BatchNorm1d", "LSTM"."""
    inputs: int | None = None
    """Numbers that one output depends on (fan-in)."""
    outputs: int | None = None
    """Units or channels."""
    activation: str | None = None
    """The function that follows: "relu"; None where nothing follows."""
    parameters: int = 0
    init: str | None = None
    """The initialiser: "kaiming_uniform", "zeros"; None if weights were loaded or it is not known."""
    initial_std: float | None = None
    """Standard deviation of the first weights, as drawn."""
    fitting_std: float | None = None
    """Standard deviation that keeps the size of the signal from layer to layer: gain / sqrt(fan-in)."""
    frozen: tuple[str, ...] = ()
    """Names of the parameters that are not trained."""
    unreachable: dict[str, str] = field(default_factory=dict)
    """Parameters that the loss does not depend on, each with the reason."""
    place: str = ""
    """Line of the user's code that made it: "train.py:9"."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """The end of the network and the loss upon it."""

    loss: str
    """Under this package's names ("mse", "cross_entropy", ...), "nll" (takes log probabilities),
    "probability_cross_entropy" (takes class probabilities), "share_cross_entropy" (takes outputs over their sum), or
    the name of a function of the user's own."""
    arguments: dict[str, Any] = field(default_factory=dict)
    outputs: int | None = None
    """Outputs a row, along the axis of classes."""
    activation: str | None = None
    """The last function of the network: "softmax", "sigmoid", "relu"; None for a linear output."""
    output_range: Range | None = None
    """What the last function can reach: (0, 1) for a sigmoid."""
    prediction_range: Range | None = None
    """What the network gave on the rows that were looked at."""
    broadcast: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    """Shapes of prediction and target where they differ and were broadcast."""


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """How the network was or will be trained."""

    optimizer: str = "SGD"
    arguments: dict[str, Any] = field(default_factory=dict)
    """Under PyTorch's names: lr, momentum, betas, eps, weight_decay."""
    schedule: str = "constant"
    schedule_arguments: dict[str, Any] = field(default_factory=dict)
    clip_norm: float | None = None
    clip_value: float | None = None
    l1: float = 0.0
    l2: float = 0.0
    batch_size: int | None = None
    epochs: int | None = None
    planned_steps: int | None = None
    shuffle: bool | None = None
    best_kept: bool = False
    """Whether the weights with the lowest validation loss are put back at the end."""
    dtype: str = "float32"
    seed: int | None = None

    @property
    def lr(self) -> float | None:
        """The learning rate that was asked for."""
        found = self.arguments.get("lr")
        return None if found is None else float(found)


@dataclass(frozen=True, kw_only=True)
class ColumnFacts:
    """The input columns, over the rows that were looked at; each tuple has a value a column."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    constant: tuple[int, ...] = ()
    duplicated: tuple[tuple[int, int], ...] = ()
    """Pairs of columns with the same values, which vary."""
    names: tuple[str, ...] = ()
    condition: float | None = None
    """Largest over smallest eigenvalue of the columns' correlation matrix, constant columns left out."""
    image: bool = False
    """Whether neighbouring columns are pixels or time steps: then a constant one is usual."""


@dataclass(frozen=True, kw_only=True)
class TargetFacts:
    """The targets. kind: "classes" (indices), "probabilities" (rows that add up to 1), "labels" (several yes or no), or
    "numbers"."""

    kind: str
    width: int = 1
    """Numbers a row."""
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 0.0
    """rms over columns of their standard deviations."""
    counts: tuple[int, ...] = ()
    """Rows of each class, 0 up to the highest."""
    integers: bool = False
    """Whether every number is whole."""
    distinct: int | None = None
    """Different values, as far as they were counted."""
    runs: float | None = None
    """Share of neighbouring rows with the same class, over the share that chance would give: 1 for shuffled rows."""
    row_sums: Range | None = None
    """Lowest and highest sum of a row of several numbers."""
    baseline: float | None = None
    """The loss of the best constant prediction, in the units of the loss."""


@dataclass(frozen=True, kw_only=True)
class IndistinctClasses:
    """Classes that lie among each other, and how far each row's nearest neighbour tells them and all others."""

    classes: tuple[int, ...]
    told: float
    """Cohen's kappa of their rows' and their neighbours' classes: 0 where the inputs do not tell them apart at all."""
    merged: float
    """The same of all rows, with these classes taken as one."""


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The training rows. looked_at: how many the statistics are of."""

    rows: int
    looked_at: int = 0
    columns: ColumnFacts | None = None
    target: TargetFacts | None = None
    not_finite: int = 0
    repeated: float | None = None
    """Share of the rows whose inputs occur more than once."""
    conflicting: float | None = None
    """Share of rows whose inputs occur again with another target."""
    association: float | None = None
    """How far inputs go with targets, by neighbours and products of columns, over what chance reaches: from 1 on they
    tell something, whatever the network sees of it."""
    indistinct: IndistinctClasses | None = None
    validation_rows: int = 0
    integer_inputs: bool = False
    """Whether inputs are indices (tokens), whose size means nothing."""


@dataclass(frozen=True, kw_only=True)
class LoopFacts:
    """What somebody's own training loop did; None where it was not watched.

    The steps in these counts are those that were watched.
    """

    steps: int = 0
    not_held: tuple[str, ...] = ()
    """Trainable parameters that no optimizer holds."""
    foreign: int | None = None
    """Parameters that the optimizer holds and the network does not have."""
    never_zeroed: bool | None = None
    """Gradients were added to those of the step before, in every step."""
    zeroed_before_step: bool | None = None
    """Gradients were cleared between backward and step."""
    step_without_backward: bool | None = None
    evaluation_mode: bool | None = None
    """Layers that act differently in training (dropout, batch norm) ran in evaluation mode in training steps."""
    detached: tuple[str, ...] = ()
    """Parameters that no gradient reaches, though the loss uses their layer's output."""
    loss_without_graph: bool | None = None
    schedule_before_optimizer: bool | None = None
    schedule_by_step: bool | None = None
    """A schedule meant for epochs was stepped at every update."""
    scaler_skipped: int = 0
    """Updates that loss scaling left out."""
    same_batch: bool | None = None
    """Every step saw the same rows."""
    inference_unlike_training: tuple[str, ...] = ()
    """Layers that only exist in one of the two modes."""


@dataclass(frozen=True, kw_only=True)
class NotFinite:
    """The first value that was NaN or infinite. step 0: before the first update."""

    step: int
    operation: str = ""
    """"exp in layer '3' (net.py:8)"."""
    layer: str = ""
    text: str = ""
    skipped: int = 0
    """Updates that were left out because of it."""


@dataclass(frozen=True, kw_only=True)
class StandingFacts:
    """What tells where training stands, at the latest weights over `rows` rows. Norms are over all parameters."""

    step: int
    rows: int
    loss: float
    """Over those rows, at the latest weights."""
    gradient_norm: float
    gradient_noise: float
    """Norm of the gradient's standard error over those rows: a gradient of that size may be chance."""
    curvature: float | None = None
    """g·Hg / g·g: second derivative of the loss along the gradient."""
    lowest_curvature: float | None = None
    """Most negative second derivative found along random and power-iterated directions."""
    highest_curvature: float | None = None
    """Largest eigenvalue of the Hessian, by power iteration."""
    predicted_change: float | None = None
    """Change of the loss that the last update's direction promised: g · update."""
    observed_change: float | None = None
    """The change that came."""
    trial_gain: float | None = None
    """Share of the loss that a short trial with a better step still took away: 0 where nothing is left to gain."""
    trial_steps: int = 0
    same_trial_gain: float | None = None
    """The same, with the optimizer and the learning rate of the run."""
    slower_trial_gain: float | None = None
    """The same, with the optimizer of the run at a tenth of its learning rate."""
    zero_gradient: bool = False
    """Whether every gradient is exactly 0."""


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """A short trial from the first weights at one learning rate."""

    lr: float
    loss: float
    """At its end; infinite if it diverged."""


@dataclass(frozen=True, kw_only=True)
class TrialFacts:
    """The checks that practitioners run by hand. Losses are of the training loss, on `rows` rows; None: not run."""

    rows: int = 0
    initial_loss: float | None = None
    expected_loss: float | None = None
    """What indifferent outputs would give: ln C for classes."""
    overfit_before: float | None = None
    overfit_after: float | None = None
    """After training on the same few rows for `overfit_steps`."""
    overfit_steps: int = 0
    trained_loss: float | None = None
    """After `trial_steps` steps on real inputs and labels, by the run's own optimizer."""
    zeroed_loss: float | None = None
    """The same with all inputs 0."""
    shuffled_loss: float | None = None
    """The same with labels shuffled among rows."""
    shuffled_lr: float | None = None
    """The learning rate of that trial, one of the sweep's; None: that of the run."""
    trial_steps: int = 0
    sweep: tuple[SweepPoint, ...] = ()
    sweep_steps: int = 0
    draws: int = 0
    """First weights that were drawn anew."""
    probability: dict[str, float] = field(default_factory=dict)
    """Share of the draws with a fault: "dead layer", "vanishing", "exploding", "not finite", "zero error"."""
    lr_ceiling: float | None = None
    """Learning rate above which plain gradient descent diverges along the sharpest direction: 2 / curvature."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All facts of one run."""

    source: str = "chainrule"
    """Who made the record: "chainrule", "torch"."""
    layers: tuple[LayerFacts, ...] = ()
    head: Head | None = None
    training: TrainingFacts | None = None
    data: DataFacts | None = None
    loop: LoopFacts | None = None
    not_finite: NotFinite | None = None
    standing: StandingFacts | None = None
    trials: TrialFacts | None = None
    finished: bool = True
    """Whether the run came to its end, or is going on or was broken off."""
