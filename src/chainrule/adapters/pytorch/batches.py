"""Batches: the rows that a watched loop fed its model, a few of them kept, and in which order they came."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

KEPT_ROWS = 2048
KEPT_NUMBERS = 2**22
"""Rows and input numbers that are kept; statistics of the data need no more, and 16 MB are no burden."""

MARKED_STEPS = 2000
"""Steps whose batches are marked, to see whether an order repeats."""


@dataclass(frozen=True, eq=False)
class Batch:
    """What one forward pass of the model in a training step took, and the target of the loss if it was seen."""

    args: tuple
    kwargs: dict
    target: Any
    prediction: Any = None

    @cached_property
    def x(self) -> Any:
        """The first tensor that the model took."""
        return first_tensor((*self.args, *self.kwargs.values()))


@dataclass(eq=False)
class Batches:
    """kept: the first training batches, each row once at best; latest: of the last step that was measured."""

    kept: list[Batch] = field(default_factory=list)
    latest: Batch | None = None
    rows: int = 0
    """Of the last training batch."""
    largest: int = 0
    loader_rows: int | None = None
    """Rows of the data set behind the loaders that were started in the block; of the largest."""
    _marks: list[Any] = field(default_factory=list)
    _numbers: int = 0
    _kept_rows: int = 0

    def wants_more(self) -> bool:
        """Whether the next batch is to be kept."""
        return self._numbers < KEPT_NUMBERS and self._kept_rows < min(KEPT_ROWS, self.loader_rows or KEPT_ROWS)

    def keep(self, batch: Batch) -> None:
        """Keep a copy of a batch, if there is room."""
        if not self.wants_more() or (x := batch.x) is None or not x.dim():
            return
        self._numbers += x.numel()
        self._kept_rows += len(x)
        self.kept.append(copied(batch))

    def mark(self, x: Any) -> None:
        """Note a fingerprint of the batch, where it lies: sums of three rows, so that a GPU need not be waited for."""
        import torch

        self.rows = int(x.shape[0]) if x.dim() else 0
        self.largest = max(self.largest, self.rows)
        if len(self._marks) < MARKED_STEPS and self.rows:
            apart = max((self.rows - 1) // 2, 1)
            rows = (x.detach() if x.requires_grad else x)[: 2 * apart + 1 : apart]
            found = rows.sum(tuple(range(1, x.dim())), dtype=torch.float32) if x.dim() > 1 else rows.float()
            # Of fewer than three rows the sums come again.
            self._marks.append(found if self.rows > 2 else found.repeat(3)[:3])

    def started(self, loader: Any) -> None:
        """A loader is iterated."""
        try:
            rows = len(loader.dataset)
        except (TypeError, AttributeError, NotImplementedError):
            return
        self.loader_rows = max(rows, self.loader_rows or 0)

    def marks(self) -> list[tuple[float, ...]]:
        """One fingerprint a step."""
        import torch

        return [tuple(m) for m in torch.stack([m.cpu() for m in self._marks]).tolist()] if self._marks else []

    def same(self) -> bool | None:
        """Whether every step saw the same rows though the data have more; None: too few steps, or not known."""
        marks = self.marks()
        if len(marks) < 5 or self.loader_rows is None:
            return None if len(marks) < 5 or len(set(marks)) == 1 else False
        return len(set(marks)) == 1 and self.loader_rows > self.largest

    def shuffled(self) -> bool | None:
        """False if the same batches came in the same order again, True if a second round differs; None: not known."""
        marks = self.marks()
        again = next((i for i in range(1, len(marks)) if marks[i] == marks[0]), None)
        if again is not None and again > 1 and len(marks) >= again + 3:
            rest = min(again, len(marks) - again)
            return marks[:rest] != marks[again : again + rest]
        if again is None and len(set(marks)) == len(marks) and self.loader_rows and self.largest:
            return True if len(marks) > 1.5 * self.loader_rows / self.largest else None
        return None

    def settled(self) -> bool:
        """Whether further marks would tell nothing new: a whole second round was seen, or enough without one."""
        if len(self._marks) >= MARKED_STEPS:
            return True
        marks = self.marks()
        again = next((i for i in range(1, len(marks)) if marks[i] == marks[0]), len(marks))
        return 1 < again <= len(marks) / 2 or bool(self.shuffled())

    def distinct(self) -> list[Batch]:
        """The kept batches in the order in which they came, each once."""
        marks = self.marks()
        by_mark: dict[Any, Batch] = {}
        for i, batch in enumerate(self.kept):
            by_mark.setdefault(marks[i] if i < len(marks) else i, batch)
        return list(by_mark.values())

    def data(self) -> tuple[np.ndarray, np.ndarray | None] | None:
        """(inputs, targets) of the distinct batches."""
        kept = self.distinct()
        xs = [plain(b.x) for b in kept]
        ys = [None if b.target is None else plain(b.target) for b in kept]
        shapes = {x.shape[1:] for x in xs}
        if not xs or len(shapes) != 1:
            return None
        whole = all(y is not None and y.ndim and len(y) == len(x) for x, y in zip(xs, ys, strict=True))
        alike = whole and len({y.shape[1:] for y in ys if y is not None}) == 1
        return np.concatenate(xs), np.concatenate([y for y in ys if y is not None]) if alike else None


def first_tensor(items: Any) -> Any:
    """The first tensor in nested tuples, lists and dictionaries."""
    import torch

    if isinstance(items, torch.Tensor):
        return items
    inner = items.values() if isinstance(items, dict) else items if isinstance(items, tuple | list) else ()
    return next((t for t in map(first_tensor, inner) if t is not None), None)


def copied(items: Any) -> Any:
    """The same nest with copies of its tensors, which no later step can change."""
    import torch

    if isinstance(items, torch.Tensor):
        return items.detach().clone()
    if isinstance(items, Batch):
        return Batch(copied(items.args), copied(items.kwargs), copied(items.target), copied(items.prediction))
    if isinstance(items, dict):
        return {k: copied(v) for k, v in items.items()}
    if type(items) in (tuple, list):
        return type(items)(map(copied, items))
    return items


def plain(tensor: Any) -> np.ndarray:
    """A tensor in NumPy; half precision becomes float32."""
    found = tensor.detach().cpu()
    return (found.float() if found.is_floating_point() and found.element_size() < 4 else found).numpy()
