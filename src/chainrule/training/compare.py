"""Compare two runs: the first step, tensor and value in which they part, and their flows at the last common step."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.errors import ArgumentError, ChainruleError, CheckpointError
from chainrule.record import Difference, RunConfig, RunDirectory, first_difference
from chainrule.see.budget import Flow
from chainrule.training.run import Run, recorded

Place = str | os.PathLike[str]


@dataclass(frozen=True)
class Setting:
    """One entry of the configurations in which two runs differ; None where a run has no such entry."""

    name: str
    first: Any
    second: Any


@dataclass(frozen=True)
class Parting:
    """The first update whose losses are not the same to the last bit."""

    step: int
    first: float
    second: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """Where two runs part. Its text is for reading, ``to_dict`` for programs."""

    names: tuple[str, str]
    steps: tuple[int, int]
    """Updates that each has made."""
    settings: tuple[Setting, ...]
    rows: Difference | None
    """The first number in which the rows that both kept of their data differ; None if none does."""
    parting: Parting | None
    """None: the losses of all updates that both made are the same."""
    checkpoints: tuple[int, ...]
    """Steps at which both can be looked at, ascending."""
    checkpoint: int | None
    """The first of them at which anything differs."""
    difference: Difference | None
    """The first number that differs there: a weight, a buffer or the optimizer's memory."""
    flows: tuple[Flow, Flow] | None = field(repr=False)
    """At the last common step; where there is none, each at its own last one."""
    why_no_flows: str = ""

    @property
    def same(self) -> bool:
        """Whether nothing differs but settings: all that both have done and kept is the same, bit by bit."""
        return self.steps[0] == self.steps[1] and not (self.parting or self.difference or self.rows)

    def text(self, width: int = 100) -> str:
        """What differs, the first place first, in lines of about ``width`` characters."""
        from chainrule.training.comparison_text import text_of

        return text_of(self, width)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON has it."""
        return {
            "schema": 1, "runs": list(self.names), "steps": list(self.steps), "same": self.same,
            "settings": [vars(s) for s in self.settings], "rows": _plain(self.rows),
            "loss": None if self.parting is None else vars(self.parting),
            "checkpoints": list(self.checkpoints), "checkpoint": self.checkpoint, "difference": _plain(self.difference),
            "flows": None if self.flows is None else [flow.to_dict() for flow in self.flows],
            "why_no_flows": self.why_no_flows,
        }  # fmt: skip


def compare(a: Run | Place, b: Run | Place) -> Comparison:
    """The first step, tensor and value in which two runs part, and their flows side by side at the last common step.

    a, b: runs, or their directories. First the settings; then the loss of each update; then weights, buffers and the
    optimizer's memory at the earliest step at which both have a checkpoint and differ. All bit by bit. A run without a
    directory has losses and the weights of now. CheckpointError: a directory without a checkpoint.
    """
    with ExitStack() as stack:
        first, second = (_Side(run, stack) for run in (a, b))
        common = tuple(sorted(first.steps & second.steps))
        at, found = _first_apart(first, second, common)
        flows, why = _flows(first, second, common[-1] if common else None)
        return Comparison(
            names=_names(first, second),
            steps=(first.step, second.step),
            settings=_settings(first.config, second.config),
            rows=_rows_apart(first, second),
            parting=_parting(first.losses, second.losses),
            checkpoints=common,
            checkpoint=at,
            difference=found,
            flows=flows,
            why_no_flows=why,
        )


class _Side:
    """One of the two runs, in memory or in its directory."""

    def __init__(self, run: Run | Place, stack: ExitStack) -> None:
        self.run = run if isinstance(run, Run) else None
        path = run.path if isinstance(run, Run) else Path(_checked(run))
        self.path = path
        self.directory = None if path is None else stack.enter_context(RunDirectory.open(path))
        if self.run is not None:
            self.config, self.losses, self.step = self.run.config, self.run.losses, self.run.step
        elif self.directory is not None:
            self._read(self.directory)
        kept = set() if self.directory is None else set(self.directory.checkpoints())
        self.steps = kept | ({self.step} if self.run is not None else set())

    def _read(self, directory: RunDirectory) -> None:
        latest = directory.latest()
        if latest is None:
            raise CheckpointError(
                f"run {str(directory.path)!r} has no checkpoint yet: train it for an epoch, or resume it"
            )
        self.config, self.step = directory.config, latest.step
        _, self.losses, _ = recorded(directory, latest.step)

    def arrays(self, step: int) -> dict[str, np.ndarray]:
        """Weights, buffers and the optimizer's memory after ``step`` updates, weights first."""
        if self.directory is not None and step in self.directory.checkpoints():
            found = self.directory.load(step).arrays
            arrays = {n.removeprefix("net."): a for n, a in found.items() if n.startswith("net.")}
            return arrays | {n: a for n, a in found.items() if n.startswith("optimizer.")}
        assert self.run is not None
        kept = self.run.kept
        moments: Mapping[str, Mapping[str, np.ndarray]] = (kept.moments if kept else None) or {}
        memory = {f"optimizer.{slot}.{n}": a for slot, named in moments.items() for n, a in named.items()}
        return self.run.net.state_dict() | memory

    def rows(self) -> dict[str, np.ndarray]:
        """The rows of the data that the run kept."""
        if self.directory is not None:
            return self.directory.rows()
        kept = self.run.kept if self.run is not None else None
        batches = () if kept is None else kept.batches
        return {f"{i}.{n}": a for i, batch in enumerate(batches) for n, a in zip("xy", batch, strict=True)}

    def flow(self, step: int | None) -> Flow:
        assert self.run is not None or self.path is not None
        run = self.run if self.run is not None else Run.load(self.path or "")
        return run.flow(step)


def _checked(path: Any) -> Place:
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError(f"compare takes runs or their directories, got {type(path).__name__}: pass what cr.fit "
                            "returned, or a path such as 'runs/digits'")  # fmt: skip
    return path


def _plain(difference: Difference | None) -> dict[str, Any] | None:
    return None if difference is None else vars(difference)


def _names(first: _Side, second: _Side) -> tuple[str, str]:
    return (str(first.path) if first.path is not None else "the first run",
            str(second.path) if second.path is not None else "the second run")  # fmt: skip


def _settings(a: RunConfig, b: RunConfig) -> tuple[Setting, ...]:
    """The entries of two configurations that differ, under names such as optimizer.arguments.lr."""
    import msgspec

    first, second = (dict(_leaves("", _brief(msgspec.to_builtins(config)))) for config in (a, b))
    names = dict.fromkeys([*first, *second])
    return tuple(Setting(n, first.get(n), second.get(n)) for n in names if first.get(n) != second.get(n))


def _brief(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with its network as one line instead of every layer's options."""
    described = config.pop("architecture")
    layers = described.get("layers") or [described.get("class", "")]
    return {"network": " > ".join(_layer(layer) for layer in layers)} | config


def _layer(described: Any) -> str:
    if not isinstance(described, dict):
        return str(described)
    options = described.get("options", {}).items()
    sizes = [str(v) for _, v in options if isinstance(v, (int, float)) and not isinstance(v, bool)]
    return f"{described.get('layer')}({', '.join(sizes)})" if sizes else str(described.get("layer"))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from _leaves(f"{name}.{key}" if name else str(key), entry)
    else:
        yield name, value


def _parting(a: list[float], b: list[float]) -> Parting | None:
    for step, (x, y) in enumerate(zip(a, b, strict=False), start=1):
        if struct.pack("d", x) != struct.pack("d", y) and not (x != x and y != y):
            return Parting(step, x, y)
    return None


def _first_apart(a: _Side, b: _Side, common: tuple[int, ...]) -> tuple[int | None, Difference | None]:
    """(the earliest common step at which arrays differ, the first number that does)"""
    for step in common:
        found = first_difference(a.arrays(step), b.arrays(step))
        if found is not None:
            return step, found
    return None, None


def _rows_apart(a: _Side, b: _Side) -> Difference | None:
    first, second = a.rows(), b.rows()
    return first_difference(first, second) if first and second else None


def _flows(a: _Side, b: _Side, step: int | None) -> tuple[tuple[Flow, Flow] | None, str]:
    """Both flows; or why there are none, as for a network or loss of the user's own code."""
    try:
        return (a.flow(step), b.flow(step)), ""
    except ChainruleError as error:
        return None, str(error)
