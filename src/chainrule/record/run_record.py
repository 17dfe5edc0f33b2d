"""All that the doctor reads of one run: facts, curves and measurements by layer, in memory and in the SQLite record."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

import msgspec
import numpy as np

from chainrule.errors import ArgumentError, CheckpointError
from chainrule.record.facts import Facts, LayerFacts, NotFinite
from chainrule.record.quantities import Quantity
from chainrule.record.store import Measurement, Record

SCHEMA = 1
"""Version of the facts as JSON."""

META = "facts"
"""Key under which the facts stand in the record's table `meta`."""


@dataclass(frozen=True, eq=False)
class Series:
    """Numbers by step, in order. steps: int64 [n]; values: float64 [n]."""

    steps: np.ndarray
    values: np.ndarray

    def __post_init__(self) -> None:
        if self.steps.shape != self.values.shape or self.steps.ndim != 1:
            raise ArgumentError(
                f"Series: steps and values need one axis of the same length, got {self.steps.shape} and "
                f"{self.values.shape}"
            )

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def first(self) -> float:
        return float(self.values[0])

    @property
    def last(self) -> float:
        return float(self.values[-1])


def series(values: Iterable[float], steps: Iterable[int] | None = None) -> Series:
    """A Series; without `steps` they count from 1."""
    found = np.array(list(values), np.float64)
    return Series(np.arange(1, len(found) + 1) if steps is None else np.array(list(steps), np.int64), found)


EMPTY = Series(np.zeros(0, np.int64), np.zeros(0, np.float64))


@dataclass(frozen=True, eq=False, kw_only=True)
class RunRecord:
    """One run as the doctor sees it. Nothing here belongs to a framework, and everything but `facts` may be empty."""

    facts: Facts = field(default_factory=Facts)
    loss: Series = EMPTY
    """Loss of each update."""
    learning_rate: Series = EMPTY
    train: Mapping[str, Series] = field(default_factory=dict)
    """Metrics of the training part by name, at the last step of each epoch."""
    validation: Mapping[str, Series] = field(default_factory=dict)
    """Metrics of the validation part: "loss", "accuracy"."""
    measurements: Mapping[tuple[str, str], Series] = field(default_factory=dict)
    """By (layer, Quantity). What does not apply to a layer is missing."""

    def measured(self, layer: str, quantity: Quantity) -> Series:
        """The measurements of one quantity at one layer; an empty Series if there are none."""
        return self.measurements.get((layer, str(quantity)), EMPTY)

    def last(self, layer: str, quantity: Quantity) -> float | None:
        """The latest measurement, or None."""
        found = self.measured(layer, quantity)
        return found.last if len(found) else None

    def first(self, layer: str, quantity: Quantity) -> float | None:
        """The earliest measurement, or None."""
        found = self.measured(layer, quantity)
        return found.first if len(found) else None

    @cached_property
    def layers(self) -> tuple[LayerFacts, ...]:
        """Layers from the input on: those of the facts, or else those that were measured, in the order given."""
        if self.facts.layers:
            return self.facts.layers
        return tuple(LayerFacts(name=n, kind="") for n in dict.fromkeys(name for name, _ in self.measurements) if n)

    @property
    def steps(self) -> int:
        """Updates made."""
        return int(self.loss.steps[-1]) if len(self.loss) else 0

    def with_measurements(self, found: Iterable[Measurement]) -> "RunRecord":
        """This record with more measurements; those of a step that is there already replace it."""
        added: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for m in found:
            added.setdefault((m.layer, str(m.quantity)), []).append((m.step, m.value))
        made = dict(self.measurements)
        for key, pairs in added.items():
            known, (at, numbers) = made.get(key, EMPTY), zip(*pairs, strict=True)
            steps, values = np.concatenate([known.steps, at]), np.concatenate([known.values, numbers])
            order = np.argsort(steps, kind="stable")  # of one step the latest comes last
            last = np.append(np.diff(steps[order]) != 0, True)
            made[key] = Series(steps[order][last].astype(np.int64), values[order][last].astype(np.float64))
        return replace(self, measurements=MappingProxyType(made))


def facts_to_json(facts: Facts) -> str:
    """JSON that `facts_from_json` turns into equal facts. Infinity and NaN are written as Python's json does."""
    return json.dumps({"schema": SCHEMA, **msgspec.to_builtins(facts)})


def facts_from_json(text: str) -> Facts:
    """Read what `facts_to_json` wrote. CheckpointError: not JSON, foreign, or of a newer chainrule."""
    try:
        found = json.loads(text)
        version = found.pop("schema")
        if version > SCHEMA:
            raise CheckpointError(f"the facts of the run were written by a newer chainrule (schema {version}; this one "
                                  f"reads up to {SCHEMA}). Upgrade: pip install --upgrade chainrule")  # fmt: skip
        return msgspec.convert(found, Facts)
    except (ValueError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        raise CheckpointError(
            f"the facts in the run's record are damaged or foreign: {error}. Examine the run with its network instead"
        ) from error


def write_record(run: RunRecord, store: Record) -> None:
    """Add the facts and the measurements to a record that is open for writing; measurements that it has are kept.

    Loss and metrics are written by whoever trains, as they come.
    """
    store.set_meta(META, facts_to_json(run.facts))
    known = {key: set(steps.tolist()) for key, (steps, _) in store.measured().items()}
    store.append_measurements(
        Measurement(int(step), layer, quantity, float(value))
        for (layer, quantity), found in run.measurements.items()
        for step, value in zip(found.steps, found.values, strict=True)
        if int(step) not in known.get((layer, quantity), ())
    )


def set_not_finite(store: Record, found: NotFinite) -> None:
    """Write the first value that was not finite among the facts of a record that is open for writing."""
    written = store.meta().get(META)
    facts = Facts() if written is None else facts_from_json(written)
    store.set_meta(META, facts_to_json(replace(facts, not_finite=found)))


def read_record(source: Record | str | os.PathLike[str]) -> RunRecord:
    """The run in an SQLite record. CheckpointError: missing, empty, damaged, foreign or of a newer chainrule.

    A record without facts gives a RunRecord with empty ones: its curves can be judged all the same.
    """
    if not isinstance(source, Record):
        with Record.open(source) as store:
            return read_record(store)
    written = source.meta().get(META)
    steps = source.steps()
    found = {key: Series(*arrays) for key, arrays in source.measured().items()}
    history = source.history()
    parts: dict[str, dict[str, Series]] = {}
    for part in ("train", "validation"):
        names = dict.fromkeys(name for epoch in history for name in getattr(epoch, part))
        parts[part] = {
            name: series(
                *zip(*((getattr(e, part)[name], e.step) for e in history if name in getattr(e, part)), strict=True)
            )
            for name in names
        }
    return RunRecord(
        facts=Facts() if written is None else facts_from_json(written),
        loss=Series(steps["step"], steps["loss"]),
        learning_rate=Series(steps["step"], steps["learning_rate"]),
        train=MappingProxyType(parts["train"]),
        validation=MappingProxyType(parts["validation"]),
        measurements=MappingProxyType(found),
    )
