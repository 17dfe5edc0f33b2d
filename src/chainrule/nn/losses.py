"""Losses as objects, under PyTorch's names: each holds its options and calls the operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chainrule import ops
from chainrule.graph import Tensor


@dataclass(frozen=True)
class MSELoss:
    """Mean squared error (see ``chainrule.mse``)."""

    reduction: str = "mean"

    def __call__(self, prediction: Any, target: Any) -> Tensor:
        return ops.mse(prediction, target, reduction=self.reduction)


@dataclass(frozen=True)
class L1Loss:
    """Mean absolute error (see ``chainrule.mae``)."""

    reduction: str = "mean"

    def __call__(self, prediction: Any, target: Any) -> Tensor:
        return ops.mae(prediction, target, reduction=self.reduction)


@dataclass(frozen=True)
class HuberLoss:
    """Squared near the target, absolute far from it (see ``chainrule.huber``)."""

    reduction: str = "mean"
    delta: float = 1.0

    def __call__(self, prediction: Any, target: Any) -> Tensor:
        return ops.huber(prediction, target, reduction=self.reduction, delta=self.delta)


@dataclass(frozen=True, eq=False)
class CrossEntropyLoss:
    """Cross-entropy of softmax(prediction) and the truth (see ``chainrule.cross_entropy``)."""

    weight: Any = None
    ignore_index: int = -100
    reduction: str = "mean"
    label_smoothing: float = 0.0

    def __call__(self, prediction: Any, target: Any) -> Tensor:
        return ops.cross_entropy(
            prediction, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )


@dataclass(frozen=True, eq=False)
class BCELoss:
    """Binary cross-entropy of probabilities (see ``chainrule.binary_cross_entropy``)."""

    weight: Any = None
    reduction: str = "mean"

    def __call__(self, prediction: Any, target: Any) -> Tensor:
        return ops.binary_cross_entropy(prediction, target, self.weight, self.reduction)


@dataclass(frozen=True, eq=False)
class BCEWithLogitsLoss:
    """Binary cross-entropy of raw outputs (see ``chainrule.binary_cross_entropy_with_logits``)."""

    weight: Any = None
    reduction: str = "mean"
    pos_weight: Any = None

    def __call__(self, prediction: Any, target: Any) -> Tensor:
        return ops.binary_cross_entropy_with_logits(prediction, target, self.weight, self.reduction, self.pos_weight)
