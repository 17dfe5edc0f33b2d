"""Optimizers, learning-rate schedules, gradient clipping and penalties."""

from chainrule.optim.adagrad import Adagrad
from chainrule.optim.adam import Adam
from chainrule.optim.adamw import AdamW
from chainrule.optim.clipping import Clip, clip_by_norm, clip_by_value
from chainrule.optim.describe import OPTIMIZERS, describe, from_description
from chainrule.optim.optimizer import Optimizer
from chainrule.optim.penalty import penalty
from chainrule.optim.rmsprop import RMSprop
from chainrule.optim.schedules import (
    SCHEDULES,
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LearningRateSchedule,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from chainrule.optim.sgd import SGD

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Clip",
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LearningRateSchedule",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "Optimizer",
    "RMSprop",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "clip_by_norm",
    "clip_by_value",
    "describe",
    "from_description",
    "penalty",
]
