"""Training: the pipeline, the step, and what stands around them."""

from chainrule.training.callbacks import Callback
from chainrule.training.fit import fit
from chainrule.training.run import Run
from chainrule.training.step import TrainingStep
from chainrule.training.stopping import EarlyStopping

__all__ = ["Callback", "EarlyStopping", "Run", "TrainingStep", "fit"]
