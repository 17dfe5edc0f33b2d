"""What ``fit`` was given, as rows or batches in the form that the loss takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chainrule.data import Dataset, Stream, as_dataset
from chainrule.errors import ArgumentError, DataError
from chainrule.nn import CrossEntropyLoss, Module
from chainrule.ops.losses import check_labels
from chainrule.training.head import Loss, targets_for, task_of

Batch = tuple[np.ndarray, np.ndarray]


@dataclass
class Source:
    """Rows in memory (``data``) or batches that somebody else makes (``batches``), and the rows held out."""

    data: Dataset | None
    batches: Stream | None
    held: Batch | None
    loss: str
    outputs: int = 0
    """Width of the network's outputs, for the labels of a stream; 0 while it is not known."""

    def sample(self) -> Batch:
        """All rows, or the first batch of a stream, which is not lost to training."""
        if self.data is not None:
            return self.data.x, self.data.y
        stream = self.batches
        if stream is not None and iter(stream.batches) is stream.batches:
            once = iter(stream.batches)
            first = list(itertools.islice(once, 1))
            self.batches = replace(stream, batches=itertools.chain(first, once))
            stream = replace(stream, batches=first)
        return next(self._each(stream or ()))

    def stream(self) -> Iterator[Batch]:
        """One epoch of a stream's batches."""
        return self._each(self.batches or ())

    def _each(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for x, y in batches:
            if self.outputs and self.loss == "cross_entropy" and y.dtype.kind in "iu":
                check_labels(y, self.outputs)
            yield x, targets_for(self.loss, y)


def source_of(
    data: Any, validation: Any, target: Any, missing: str, loss: tuple[str, Loss], net: Module, seed: int, epochs: int
) -> Source:
    """What ``fit`` takes as data, checked, with targets as the loss takes them."""
    name, function = loss
    pair = isinstance(data, tuple) and len(data) == 2
    truth = data[1] if pair and not isinstance(data[1], tuple) else None
    whole = pair or isinstance(data, str) or hasattr(data, "columns") or hasattr(data, "__fspath__")
    found = as_dataset(
        data,
        None if not whole and isinstance(validation, tuple) else validation,
        target=target,
        task=task_of(name, truth, whole),
        seed=seed,
        missing=missing,
        standardise_target=whole and not pair,
        dtype=net.dtype.name,
        epochs=epochs,
        ignore_index=function.ignore_index if isinstance(function, CrossEntropyLoss) else None,
    )
    if isinstance(found, Stream):
        if validation is not None and not isinstance(validation, tuple):
            raise ArgumentError("with batches as data, validation is a pair (x, y) or None: there are no rows to share")
        held = None if validation is None else next(iter(replace(found, batches=[validation])))
        return Source(None, found, None if held is None else (held[0], targets_for(name, held[1])), name)
    if len(found.x) == 0:
        raise DataError("the data has no rows: nothing can be learned from it")
    if found.validation_x is None or found.validation_y is None:
        return Source(replace(found, y=targets_for(name, found.y)), None, None, name)
    held_y = targets_for(name, found.validation_y)
    made = replace(found, y=targets_for(name, found.y), validation_y=held_y)
    return Source(made, None, (found.validation_x, held_y), name)
