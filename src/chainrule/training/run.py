"""A run of training: the network it made, its history, and how to use it again."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.data import Dataset, Preprocess
from chainrule.errors import ArgumentError, CheckpointError, NotFittedError
from chainrule.nn import Module, description_of, sequential_of
from chainrule.record import Checkpoint, Choice, Record, RunConfig, RunDirectory, Series, series
from chainrule.record.facts import NotFinite
from chainrule.see.budget import Flow
from chainrule.see.explanation import Explanation, explain_trace, named_in
from chainrule.training.examples import Example
from chainrule.training.looking import Kept, kept_at, load_kept, stepping, traced
from chainrule.training.metrics import classes_of, threshold_of
from chainrule.training.probes import Measured, series_of

if TYPE_CHECKING:
    from chainrule.see.derivation import Derivation
    from chainrule.training.head import Loss


@dataclass
class Run:
    """What ``fit`` returns, and what ``Run.load`` finds in a run directory."""

    net: Module
    config: RunConfig
    preprocess: Preprocess | None = None
    """How rows of the source became the network's inputs; ``predict`` treats new rows alike."""
    history: dict[str, list[float]] = field(default_factory=dict)
    """A list of one value an epoch for each of loss, learning_rate, validation_loss and the metrics."""
    losses: list[float] = field(default_factory=list)
    """The loss of each update."""
    step: int = 0
    """Updates made."""
    epoch: int = 0
    """Whole epochs made."""
    best_epoch: int = 0
    """The epoch with the best score, counted from 1."""
    measured: list[Measured] = field(default_factory=list, repr=False)
    """What the probes found in this call of ``fit``; ``measurements`` has it by layer and quantity."""
    not_finite: NotFinite | None = None
    """The first value that was NaN or infinite."""
    skipped: int = 0
    """Updates left out because something was not finite (``on_nan="skip"``)."""
    examples: list[Example] = field(default_factory=list)
    """A few predictions beside their truth, the worst first."""
    path: Path | None = None
    """The run directory, if there is one."""
    notes: list[str] = field(default_factory=list)
    """What was decided or changed on the way, a sentence each."""
    data: Dataset | None = field(default=None, repr=False)
    """The rows it was trained on, while they are in memory: a look at them is part of an examination."""
    loss: Any = field(default=None, repr=False)
    """The loss as a function of (prediction, target), while it is in memory."""
    kept: Kept | None = field(default=None, repr=False)
    """Rows of the first batches and the optimizer's state, for ``explain`` and ``flow``."""

    catch_up: Callable[[], None] | None = field(default=None, repr=False, compare=False)
    """While it trains: have what the last updates measured written down."""

    @property
    def layers(self) -> list[str]:
        """Names of the modules that hold parameters, in order."""
        return list(dict.fromkeys(name.rpartition(".")[0] for name, _ in self.net.named_parameters()))

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each entry of the history."""
        return {name: values[-1] for name, values in self.history.items() if values}

    @property
    def measurements(self) -> Mapping[tuple[str, str], Series]:
        """What the probes found: by (layer, quantity) the steps, as updates made before, and the values.

        The quantities are those of ``chainrule.record.Quantity``. From the run's record, if it has a directory.
        """
        if self.catch_up is not None:
            self.catch_up()
        if self.path is None:
            return series_of(self.measured)
        with Record.open(self.path / "record.sqlite") as record:
            return {place: Series(*arrays) for place, arrays in record.measured().items()}

    def predict(self, rows: Any, batch_size: int = 1024) -> np.ndarray:
        """The network's outputs for new rows, in evaluation mode.

        rows: what training took: an array, a dataframe or a Table with the columns of training, by name. For a target
        that training standardised the predictions are in its own units.
        """
        if self.preprocess is None:
            return self.net.predict(rows, batch_size)
        outputs = self.net.predict(self.preprocess.apply(rows), batch_size)
        return self.preprocess.target.invert(outputs) if self.preprocess.target.std is not None else outputs

    def predict_classes(self, rows: Any) -> list[str]:
        """The name of the predicted class of each row."""
        if self.preprocess is None or not self.preprocess.target.classes:
            raise NotFittedError("this run was not trained to tell classes apart: use predict()")
        found = classes_of(self.predict(rows), threshold_of(self.config.loss.name))
        return self.preprocess.target.names_of(found)

    def explain(self, name: Any = None, step: int | None = None, sample: int | None = None) -> Explanation:
        """Why one number has the derivative that it has, in the update after ``step``; see ``chainrule.explain``.

        The step is made anew from the rows that training kept (``keep_rows``), as training would have made it: in
        training mode, with penalties and clipping. name: also a column of the data, as "mean radius". step: updates
        made; None for where the run is, or a checkpointed one. sample: a row of the kept batch.
        """
        kept = kept_at(self.kept, self.path, self.step, step)
        trace = traced(self.net, self.config, kept)
        held = stepping(self.config, kept)
        return explain_trace(trace, named_in(self.net, self._input_named(name)), sample=sample, stepping=held)

    def _input_named(self, name: Any) -> Any:
        """A column of the data as the place that it has in ``x``; anything else as it is."""
        features = () if self.preprocess is None or len(self.preprocess.input_shape) != 1 else self.preprocess.features
        return f"x[{features.index(name)}]" if isinstance(name, str) and name in features else name

    def flow(self, step: int | None = None) -> Flow:
        """Where the signal lives or dies, layer by layer, in the update after ``step``; see ``chainrule.flow``."""
        return Flow(traced(self.net, self.config, kept_at(self.kept, self.path, self.step, step)))

    def derivation(self, x: Any = None, y: Any = None, loss: Loss | None = None) -> Derivation:
        """The next update written out line by line, as ``chainrule.derivation``, with the run's own settings.

        x, y: a batch as the network takes it; without one the lines have shapes and no values. loss: only if the run
        was trained with a function of your own. The memory of the optimizer is that of the run's checkpoint.
        """
        from chainrule.training.derivation import derivation_of

        return derivation_of(self, x, y, loss)

    def summary(self) -> dict[str, Any]:
        """The result in the form that ``--json`` prints."""
        found = self.metrics
        validation = {k.removeprefix("validation_"): v for k, v in found.items() if k.startswith("validation_")}
        return {
            "schema": 1,
            "run": None if self.path is None else str(self.path),
            "epochs": self.epoch,
            "steps": self.step,
            "loss": found.get("loss"),
            "validation": validation or None,
        }

    def examine(self, data: Any = None, **options: Any) -> Any:
        """Where training stands and what keeps it from learning: see `chainrule.doctor.examine`."""
        from chainrule.doctor import examine  # above this layer: loaded when somebody asks

        return examine(self, data, **options)

    def signs(self) -> list[Any]:
        """What the cheap rules say of the run as it is in memory: see `chainrule.doctor.live`."""
        from chainrule.doctor.live import signs_of

        if self.catch_up is not None:
            self.catch_up()
        return signs_of(series(self.losses), series_of(self.measured))

    def methods(self) -> str:
        """A paragraph for a paper: what was trained on what, how, with which versions and result."""
        c = self.config
        count = sum(p.size for p in self.net.parameters())
        result = ", ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in self.metrics.items() if k != "learning_rate")
        versions = ", ".join(f"{k} {v}" for k, v in c.versions.items())
        held = c.validation.get("rows", 0)
        source = "arrays" if c.source == "x" else c.source
        rows = "" if c.rows is None else f" ({c.rows:,} rows{f', {held:,} held out' if held else ''})"
        return (
            f"A network of {count:,} parameters was trained on {source}{rows} for {self.epoch} epochs ({self.step:,} "
            f"updates) in mini-batches of {c.batch_size} rows, with the loss {_call(c.loss)}, the optimizer "
            f"{_call(c.optimizer)} and the learning-rate schedule {_call(c.learning_rate_schedule)}, in {c.dtype}, "
            f"seed {c.seed}{_besides(c)}. After the last epoch: {result}. Software: {versions}."
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], net: Module | None = None, step: int | None = None) -> Run:
        """The run in a directory, with the weights of its latest whole checkpoint, or of the one at ``step``.

        net: needed only if the network was a class of your own; it gets the weights. CheckpointError: no checkpoint.
        """
        with RunDirectory.open(path) as directory:
            config = directory.config
            found = directory.latest() if step is None else directory.load(step)
            if found is None:
                raise CheckpointError(f"run {str(path)!r} has no checkpoint yet: train it for an epoch, or resume it")
            history, losses, notes = recorded(directory, found.step, found.header["epoch"])
            kept = replace(load_kept(directory, found.header, found.arrays, found.step), states=None)
        run = cls(
            network_of(config, net), config, history=history, losses=losses, notes=notes, path=Path(path), kept=kept
        )
        restore_network(run, found)
        return run


def _call(choice: Choice) -> str:
    given = ", ".join(f"{k}={v}" for k, v in choice.arguments.items() if v is not None)
    return f"{choice.name} ({given})" if given else choice.name


def _besides(c: RunConfig) -> str:
    """What a paper must say of the course of training where it was not the usual one."""
    found = [
        f"gradients accumulated over {c.accumulate} mini-batches an update" if c.accumulate > 1 else "",
        f"the gradient clipped to the norm {c.clip_norm:g}" if c.clip_norm is not None else "",
        f"the gradient's entries clipped to {c.clip_value:g}" if c.clip_value is not None else "",
        f"the penalties l1={c.l1:g} and l2={c.l2:g} on the weights" if c.l1 or c.l2 else "",
        "rows in their own order" if not c.shuffle else "",
        f"early stopping with a patience of {c.early_stopping['patience']} epochs" if c.early_stopping else "",
    ]
    return "".join(f", {part}" for part in found if part)


def recorded(
    directory: RunDirectory, step: float = math.inf, epoch: float = math.inf
) -> tuple[dict[str, list[float]], list[float], list[str]]:
    """(history, loss of each update, notes) of a run's record, up to an update and an epoch."""
    history: dict[str, list[float]] = {}
    for entry in directory.record.history():
        if entry.epoch <= epoch:
            # In the order in which training measures, which the record does not keep.
            parts = [("loss", entry.train), ("learning_rate", entry.train), ("loss", entry.validation)]
            ordered = {
                f"{'validation_' if part is entry.validation else ''}{n}": part[n] for n, part in parts if n in part
            }
            ordered |= {f"validation_{n}": v for n, v in entry.validation.items()}
            for name, value in ordered.items():
                history.setdefault(name, []).append(value)
    steps, losses = directory.record.losses()
    notes = [note.text for note in directory.record.notes() if note.step <= step]
    return history, [float(v) for v in losses[steps <= step]], notes


def architecture_of(net: Module) -> dict[str, Any]:
    """The network as plain data: its layers if they are this package's, and the name and shape of every tensor."""
    return {
        "layers": description_of(net),
        "class": type(net).__name__,
        "tensors": {n: list(a.shape) for n, a in net.state_dict().items()},
    }


def network_of(config: RunConfig, net: Module | None) -> Module:
    """The network that a configuration describes, or ``net`` if it fits the description."""
    described = config.architecture
    if net is None:
        if described.get("layers") is None:
            raise ArgumentError(f"the run trained a {described.get('class', 'network')} of your own code, which a run "
                                "directory cannot hold: pass it as net=")  # fmt: skip
        net = sequential_of(described["layers"])
    found = {n: list(a.shape) for n, a in net.state_dict().items()}
    if found != described["tensors"]:
        differing = sorted(n for n in {**found, **described["tensors"]} if found.get(n) != described["tensors"].get(n))
        raise CheckpointError(f"the network is not the one of the run: they differ in {', '.join(differing[:4])}")
    return net.to(config.dtype)


def restore_network(run: Run, found: Checkpoint) -> None:
    """Take over weights and position from a checkpoint."""
    weights = {n.removeprefix("net."): a for n, a in found.arrays.items() if n.startswith("net.")}
    run.net.load_state_dict(weights)
    run.step, run.epoch = found.step, found.header["epoch"]
    run.best_epoch = found.header["best"]["epoch"]
    described = found.header.get("preprocess")
    run.preprocess = None if described is None else Preprocess.from_dict(json.loads(described))
