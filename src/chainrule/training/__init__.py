"""Training: the pipeline, the step, and what stands around them."""

from chainrule.training.callbacks import Callback
from chainrule.training.compare import compare
from chainrule.training.fit import fit
from chainrule.training.run import Run
from chainrule.training.step import CompiledStep, TrainingStep, step
from chainrule.training.stopping import EarlyStopping

__all__ = ["Callback", "CompiledStep", "EarlyStopping", "Run", "TrainingStep", "compare", "fit", "step"]
